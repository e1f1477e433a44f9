"""A cluster at work for the actions that move and mend Raft groups, and writers whose answers can't be relied on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nats.aio.client import Client

from bot.action import ELECTION
from bot.actions._facts import consumer_facts, stream_facts
from bot.actions._peers import PEER_NEEDS
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.errors import OutcomeUnknown, Refused
from bot.lab import drills
from bot.lab.servers import LabCluster
from bot.model import ConsumerKey, Execution, Snapshot, StreamKey
from bot.model.groups import meta_standing
from bot.ports import Readers, Writers
from tests.integration.executing import Desk, database
from tests.integration.nats_support import connected, settings_of

STREAM = StreamKey("APP", "ORDERS")
WORKER = ConsumerKey("APP", "ORDERS", "worker")
PUBLISHED, FETCHED, FLOOR = 40, 20, 10


@dataclass
class Scene:
    cluster: LabCluster
    client: Client
    readers: Readers
    writers: Writers
    desk: Desk

    async def look(self) -> Snapshot:
        return await self.readers.gather(PEER_NEEDS)

    async def whole(self) -> Snapshot:
        """The cluster once everybody agrees on every leader and is current."""
        async with asyncio.timeout(ELECTION):
            while True:
                snapshot = await self.look()
                with suppress(Refused):
                    groups = (
                        meta_standing(snapshot),
                        stream_facts(snapshot, STREAM).standing,
                        consumer_facts(snapshot, WORKER).standing,
                    )
                    if all(g.whole and g.voters >= g.members for g in groups):
                        return snapshot
                await asyncio.sleep(0.2)


@asynccontextmanager
async def scene(folder: Path, version: str, size: int = 3) -> AsyncGenerator[Scene]:
    """A cluster with stream ORDERS and its consumer `worker`, which has worked for a while."""
    async with (
        LabCluster(folder / "lab", version, size=size) as cluster,
        connected(settings_of(cluster)) as (readers, writers),
        SqlStore.open(database(folder), SystemClock()) as store,
    ):
        client = await cluster.connect()
        try:
            await drills.create_stream(client, "ORDERS", 3)
            await drills.create_consumer(client, "ORDERS", "worker")
            await drills.publish(client, "ORDERS", PUBLISHED)
            messages = await drills.take(client, "ORDERS", "worker", FETCHED)
            for seq in range(1, FLOOR + 1):
                await drills.acknowledge(messages[seq])
            yield Scene(cluster, client, readers, writers, Desk(store, readers, writers))
        finally:
            await client.close()


def said(execution: Execution) -> str:
    return " / ".join(f"{run.state}: {run.sentence}" for run in execution.stages) + f" / {execution.sentence}"


class LostReplies:
    """Writers whose every change arrives, and whose answers get lost."""

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self.sent = 0

    def __getattr__(self, name: str) -> object:
        call = getattr(self._writers, name)

        async def lost(*args: object) -> None:
            self.sent += 1
            await call(*args)
            raise OutcomeUnknown("The change was sent and no answer came.")

        return lost


class Deaf:
    """Writers that say yes to everything and do nothing."""

    def __getattr__(self, name: str) -> object:
        async def nothing(*args: object) -> None:
            del args

        return nothing
