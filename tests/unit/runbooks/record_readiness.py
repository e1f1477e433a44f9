"""Records the `meta_*` fixtures from real servers: `python -m tests.unit.runbooks.record_readiness [name ...]` from the project's root.

Every file is what `NatsReaders.gather(RUNBOOK.needs, rounds=4, interval=1)` returned over the system account, without the queues of other groups; `stuck` and
`frozen` are whole, and of the rest only what concerns the meta group is kept:
- `meta_healthy_<version>`: one R3 stream with a consumer, nothing going on
- `meta_stuck_<version>`: drill stuck_apply (a hung disk below one follower), and the same stream
- `meta_frozen_2.11.11`: drill frozen (SIGSTOP of one follower), 10.5 s after the signal
- `meta_leaderless_2.10.26`: drill lose_quorum
- `meta_churn_<version>`: drill load while consumers come and go
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.unit.runbooks.record import FIXTURES, as_json

from bot.lab import readiness_drills as lab
from bot.lab.drills import create_consumer, create_stream
from bot.lab.servers import LabCluster
from runbooks.readiness import RUNBOOK
from tests.integration.nats_support import reading, settings_of
from tests.unit.snapshots import Raw, answers

Drill = Callable[[LabCluster], AbstractAsyncContextManager[object]]

ROUNDS, INTERVAL = 4, 1.0

WHOLE = frozenset({"stuck", "frozen"})


async def orders(cluster: LabCluster) -> None:
    client = await cluster.connect()
    await create_stream(client, "ORDERS", 3)
    await create_consumer(client, "ORDERS", "worker")
    await client.close()
    await asyncio.sleep(2)


@asynccontextmanager
async def healthy(cluster: LabCluster) -> AsyncGenerator[None]:
    await orders(cluster)
    yield


@asynccontextmanager
async def stuck(cluster: LabCluster) -> AsyncGenerator[None]:
    await orders(cluster)
    async with lab.stuck_apply(cluster):
        yield


@asynccontextmanager
async def frozen(cluster: LabCluster) -> AsyncGenerator[None]:
    await orders(cluster)
    async with lab.frozen(cluster):
        yield


@asynccontextmanager
async def leaderless(cluster: LabCluster) -> AsyncGenerator[None]:
    await lab.lose_quorum(cluster)
    yield


@asynccontextmanager
async def churn(cluster: LabCluster) -> AsyncGenerator[None]:
    async with lab.load(cluster):
        await asyncio.sleep(2)
        yield


def strip(raw: Raw, *, meta_only: bool) -> None:
    """Takes other groups' queues out of the answers, and with `meta_only` streams, consumers and the accounts' groups too."""
    for queues in answers(raw, "IPQUEUESZ"):
        for name in [name for name in queues if "'_meta_'" not in name]:
            del queues[name]
    for jsz in answers(raw, "JSZ") if meta_only else ():
        jsz.pop("account_details", None)
    for raftz in answers(raw, "RAFTZ") if meta_only else ():
        for account in [name for name, groups in raftz.items() if "_meta_" not in groups]:
            del raftz[account]


async def keep(name: str, version: str, drill: Drill) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version) as cluster, drill(cluster):
            async with reading(settings_of(cluster, timeout=2.0)) as readers:
                snapshot = await readers.gather(RUNBOOK.needs, rounds=ROUNDS, interval=INTERVAL)
            raw = as_json(snapshot)
        strip(raw, meta_only=name not in WHOLE)
        text = json.dumps(raw, separators=(",", ":")).replace(folder, "/lab")
        (FIXTURES / f"meta_{name}_{version}.json").write_text(text + "\n")


async def main(wanted: frozenset[str]) -> None:
    """Record what is named, everything where nothing is."""
    drills: dict[str, tuple[Drill, tuple[str, ...]]] = {
        "healthy": (healthy, ("2.10.26", "2.11.11", "2.12.8", "2.15.1")),
        "stuck": (stuck, ("2.10.26", "2.15.1")),
        "frozen": (frozen, ("2.11.11",)),
        "leaderless": (leaderless, ("2.10.26",)),
        "churn": (churn, ("2.10.26", "2.11.11")),
    }
    for name, (drill, versions) in drills.items():
        for version in versions if not wanted or name in wanted else ():
            await keep(name, version, drill)


if __name__ == "__main__":
    asyncio.run(main(frozenset(sys.argv[1:])))
