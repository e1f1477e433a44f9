"""The incident of family E as the demo and the end-to-end tests use it: a consumer that lost its Raft node on one server, and a worker that proves the repair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from bot.lab.drills import Drill, Worker, fetch, ghost_split, remove_decoys
from bot.lab.jetstream import Servers

STREAM: Final = "ORDERS"
CONSUMER: Final = "worker"
ROOM: Final = 4
"""max_ha_assets of the server that runs out of room for one more Raft group."""
DRAIN_BATCH: Final = 50
DRAIN_WAIT: Final = 1.5
"""Seconds of silence after which a worker has got everything."""


@dataclass(frozen=True)
class Drained:
    """What a worker got after the repair."""

    got: Counter[int]
    must: frozenset[int]

    @property
    def lost(self) -> list[int]:
        return sorted(self.must - self.got.keys())

    @property
    def repeated(self) -> list[int]:
        """Sequences that had been acknowledged before, or came twice."""
        return sorted(seq for seq, times in self.got.items() if times > 1 or seq not in self.must)


async def break_consumer(cluster: Servers, *others: str) -> Drill:
    """Let n1 run out of room while the stream is scaled to three replicas, then make room again: the damage stays. `others` are consumers besides the one."""
    drill = await ghost_split(cluster, stream=STREAM, consumers=(CONSUMER, *others))
    await remove_decoys(cluster, drill)
    return drill


async def drain(cluster: Servers, drill: Drill, published: int, worker: Worker | None = None) -> Drained:
    """Work as the application does: pull and acknowledge until nothing comes any more. `worker` is another than the drill's first."""
    worker = worker or drill.worker
    got: Counter[int] = Counter()
    client = await cluster.connect()
    try:
        while batch := await fetch(client, drill.stream, worker.name, DRAIN_BATCH, wait=DRAIN_WAIT):
            for seq, message in batch.items():
                got[seq] += 1
                await message.ack_sync(timeout=DRAIN_WAIT)
    finally:
        await client.close()
    return Drained(got, frozenset(range(1, published + 1)) - frozenset(worker.acked))
