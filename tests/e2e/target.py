"""Counts at the target: what the NATS servers themselves say was done, whatever the bot believes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from bot.lab.servers import LabCluster


class Counts:
    """Consumers created and deleted since, by name, as the servers' advisories tell."""

    def __init__(self) -> None:
        self.created: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()
        self.order: list[tuple[str, str]] = []

    def insist_on_one_recreation(self, consumer: str) -> None:
        """One delete and one create of it took effect, in this order; every member of its group may have said so."""
        kinds = [kind for kind, name in self.order if name == consumer]
        runs = [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]
        assert runs == ["DELETED", "CREATED"], self.order


@asynccontextmanager
async def counting(cluster: LabCluster) -> AsyncGenerator[Counts]:
    """Listen to `$JS.EVENT.ADVISORY.CONSUMER.{CREATED,DELETED}` of the APP account for the length of the block.

    Every member of a group may publish its own advisory, so equal advisories (same id) count once per advisory id.
    """
    counts = Counts()
    client = await cluster.connect()

    async def heard(message: Msg) -> None:
        body = json.loads(message.data)
        kind, name = message.subject.split(".")[4], str(body["consumer"])
        (counts.created if kind == "CREATED" else counts.deleted)[name] += 1
        counts.order.append((kind, name))

    try:
        for kind in ("CREATED", "DELETED"):
            await client.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.>", cb=heard)
        await client.flush()
        yield counts
    finally:
        await client.close()
