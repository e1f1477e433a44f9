"""Records the `mesh_*` fixtures from real servers: `python -m tests.unit.runbooks.record_mesh` from the project's root, as root for the headless one.

Every file is what `NatsReaders.gather(RUNBOOK.needs)` returned over the monitoring ports; only the lab's folder is replaced by `/lab`.
- `mesh_healthy_<version>`: three servers with explicit routes
- `mesh_seed_2.11.11`: drill wrong_advertise (drills.md 2)
- `mesh_islands_2.15.1`: drill islands, five servers
- `mesh_headless_2.11.11`: drill headless
- `mesh_pool_off_2.11.11`: the decoy pool_off
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from bot.lab import mesh_drills
from bot.lab.servers import LabCluster
from runbooks.route_mesh import RUNBOOK
from tests.integration.nats_support import reading, settings_of
from tests.unit.runbooks.record import FIXTURES, as_json

HEALTHY = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")


async def keep(name: str, version: str, drill: Callable[[LabCluster], Awaitable[object]], size: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version, size) as cluster:
            await drill(cluster)
            monitoring = [cluster.monitor_url(server) for server in cluster.names]
            async with reading(settings_of(cluster, timeout=2.0, system=None, monitoring=monitoring)) as readers:
                snapshot = await readers.gather(RUNBOOK.needs)
        text = json.dumps(as_json(snapshot), separators=(",", ":")).replace(folder, "/lab")
        (FIXTURES / f"mesh_{name}_{version}.json").write_text(text + "\n")


async def main() -> None:
    for version in HEALTHY:
        await keep("healthy", version, mesh_drills.wait_for_mesh)
    await keep("seed", "2.11.11", mesh_drills.wrong_advertise)
    await keep("islands", "2.15.1", mesh_drills.islands, 5)
    await keep("headless", "2.11.11", mesh_drills.headless)
    await keep("pool_off", "2.11.11", mesh_drills.pool_off)


if __name__ == "__main__":
    asyncio.run(main())
