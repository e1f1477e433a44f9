"""Records the fixtures of stream groups from real servers: `python -m tests.unit.runbooks.record_streams [NAME ...]` from the project's root.

Every file is what `NatsReaders.gather` returned for the needs of STREAM_GROUPS, two rounds 5 s apart, answers untouched but for the lab's folder, which is `/lab`:
- `history_ahead_2.11.11`: drill new_history, 2 s after n2 is back: it follows an empty leader and holds the messages of S0
- `history_away_2.11.11`: the same before n2 is back
- `history_outside_2.10.26`: drill race, tried until a stream's only full copy is outside of its Raft group
- `standalone_2.15.1`: drill from_standalone: n0 holds ORDERS, which the cluster does not know
- `members_2.12.8`: two R3 streams and an R3 consumer, one member frozen for 12 s
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from bot.lab import drills, stream_drills
from bot.lab.servers import LabCluster, LabError
from runbooks.stream_groups import RUNBOOK
from tests.unit.runbooks.record import FIXTURES, keep


async def save(cluster: LabCluster, name: str, version: str) -> None:
    await keep(cluster, name, version, RUNBOOK.needs)
    file = FIXTURES / f"{name}_{version}.json"
    file.write_text(file.read_text().replace(str(cluster.directory), "/lab"))


async def ahead(cluster: LabCluster) -> None:
    await stream_drills.new_history(cluster, streams=1)
    await save(cluster, "history_away", cluster.version("n2"))
    await cluster.restart("n2")
    await asyncio.sleep(2)
    await save(cluster, "history_ahead", cluster.version("n2"))


async def outside(cluster: LabCluster) -> None:
    forks = await stream_drills.race(cluster, streams=6)
    if not any(fork.outside for fork in forks):
        raise LabError("no copy is outside of its group")
    await save(cluster, "history_outside", cluster.version("n2"))
    for fork in forks:
        if fork.outside and await stream_drills.forked(cluster, fork.stream, fork.messages):
            print(f"history_outside: {fork}")
            return
    raise LabError("it healed meanwhile")


async def standalone(cluster: LabCluster) -> None:
    await stream_drills.from_standalone(cluster)
    await save(cluster, "standalone", cluster.version("n0"))


async def members(cluster: LabCluster) -> None:
    follower = await stream_drills.fall_behind(cluster, operations=20)
    client = await cluster.connect(name="n0")
    await drills.create_consumer(client, "ORDERS", "worker")
    await client.close()
    await asyncio.sleep(12)
    await save(cluster, "members", cluster.version(follower))
    await cluster.thaw(follower)


RECORDERS: dict[str, tuple[str, Callable[[LabCluster], Awaitable[None]]]] = {
    "ahead": ("2.11.11", ahead),
    "outside": ("2.10.26", outside),
    "standalone": ("2.15.1", standalone),
    "members": ("2.12.8", members),
}


async def record(name: str) -> None:
    version, work = RECORDERS[name]
    while True:
        with tempfile.TemporaryDirectory() as folder:
            async with LabCluster(Path(folder), version) as cluster:
                try:
                    return await work(cluster)
                except LabError as failed:
                    print(f"{name}: {failed}; once more")


async def main(wanted: list[str]) -> None:
    """Record what is named, everything where nothing is."""
    for name in wanted or RECORDERS:
        await record(name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
