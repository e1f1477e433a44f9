"""Records the fixtures of this folder from real servers: `python -m tests.unit.runbooks.record` from the project's root.

Every file is what `NatsReaders.gather({JSZ, HEALTHZ, RAFTZ}, rounds=2, interval=5)` returned, answers untouched, one JSON object per snapshot:
- `split_2.11.11`: drill ghost_split (drills.md 3.3), the limit of n1 still reached
- `split_2.10.26`: the same on a version that does not report its limits
- `split_room_2.11.11`: the same after the decoys are gone: damage without its cause
- `healthy_2.15.1`: one R3 stream and consumer, 60 of 200 delivered, 53 acknowledged
- `frozen_2.15.1`: the same 12 s after SIGSTOP of n1
"""

import asyncio
import json
import tempfile
from pathlib import Path

from bot.lab import drills
from bot.lab.servers import LabCluster
from bot.model import Endpoint, Snapshot
from tests.integration.nats_support import reading, settings_of

FIXTURES = Path(__file__).parent / "fixtures"
NEEDS = frozenset({Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})


async def keep(cluster: LabCluster, name: str, version: str) -> None:
    async with reading(settings_of(cluster, timeout=2.0)) as readers:
        snapshot = await readers.gather(NEEDS, rounds=2, interval=5.0)
    (FIXTURES / f"{name}_{version}.json").write_text(json.dumps(as_json(snapshot), separators=(",", ":")) + "\n")


def as_json(snapshot: Snapshot) -> dict[str, object]:
    samples = [
        {
            "server": s.server,
            "endpoint": s.endpoint.value,
            "round": s.round,
            "taken_at": s.taken_at.isoformat(),
            "data": s.data,
            "unknown": s.unknown.model_dump(mode="json") if s.unknown else None,
        }
        for s in snapshot.samples
    ]
    servers = [s.model_dump(mode="json") for s in snapshot.servers]
    taken_at, expected = snapshot.taken_at.isoformat(), sorted(snapshot.expected)
    return {
        "cluster": snapshot.cluster,
        "taken_at": taken_at,
        "expected": expected,
        "servers": servers,
        "samples": samples,
    }


async def record_split(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version, max_ha_assets={"n1": 5}) as cluster:
            drill = await drills.ghost_split(cluster)
            await keep(cluster, "split", version)
            if version == "2.11.11":
                await drills.remove_decoys(cluster, drill)
                await asyncio.sleep(1)
                await keep(cluster, "split_room", version)


async def record_healthy(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version) as cluster:
            client = await cluster.connect()
            await drills.create_stream(client, "ORDERS", 3)
            await drills.create_consumer(client, "ORDERS", "worker")
            await drills.publish(client, "ORDERS", 200)
            messages = await drills.fetch(client, "ORDERS", "worker", 60)
            for seq in (*range(1, 51), 53, 56, 59):
                await messages[seq].ack_sync(timeout=5)
            await client.close()
            await asyncio.sleep(1)
            await keep(cluster, "healthy", version)
            await cluster.freeze("n1")
            await asyncio.sleep(12)
            await keep(cluster, "frozen", version)
            await cluster.thaw("n1")


async def main() -> None:
    await record_split("2.10.26")
    await record_split("2.11.11")
    await record_healthy("2.15.1")


if __name__ == "__main__":
    asyncio.run(main())
