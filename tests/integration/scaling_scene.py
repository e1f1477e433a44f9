"""A cluster whose streams change their replicas through the whole executor, and what may happen meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from bot.actions.stream_scale import NEEDS
from bot.actions.stream_scaling import Scaling, Times, compose_scaling
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.errors import Refused
from bot.flow.aftermath import rescues
from bot.lab import drills
from bot.lab.jetstream import request, section, stream_views
from bot.lab.servers import LabCluster
from bot.model import Execution, JsonObject, StageState, StreamKey
from bot.ports import Readers, Writers
from bot.runbook import Proposed
from tests.integration.executing import STAGES, Desk, database
from tests.integration.nats_support import connected, settings_of

QUICK = Times(at_two=1.0, elsewhere=2.0, young=0.0, catch_up=25.0, catch_up_at_two=25.0, trial=False)
KEY = StreamKey("APP", "ORDERS")
PUBLISHED = 20


@dataclass
class Scene:
    cluster: LabCluster
    client: Client
    readers: Readers
    desk: Desk

    async def composed(self, *streams: str, target: int = 3, times: Times = QUICK) -> Scaling:
        """Compose once the young cluster has settled."""
        keys = [StreamKey("APP", stream) for stream in streams]
        async with asyncio.timeout(drills.SETTLE_TIMEOUT):
            while True:
                try:
                    return compose_scaling(await self.readers.gather(NEEDS), keys, target, times)
                except Refused:
                    await asyncio.sleep(0.1)

    async def move_to(self, server: str) -> None:
        """Lets the test's own client be one of that server."""
        await self.client.close()
        self.client = await self.cluster.connect(name=server)

    async def holder(self, stream: str = "ORDERS") -> str:
        info = await request(self.client, f"STREAM.INFO.{stream}")
        return str(section(info, "cluster")["leader"])

    async def led(self, stream: str, members: int) -> None:
        """Waits for a leader and current members; before, an edit may get no answer and be applied late, over a later one."""
        async with asyncio.timeout(20):
            while True:
                views = await stream_views(self.cluster, stream)
                leaders = {view.cluster.leader for view in views.values()}
                if len(views) == members and len(leaders) == 1 and leaders < set(self.cluster.names):
                    return
                await asyncio.sleep(0.05)

    async def config(self, stream: str = "ORDERS") -> JsonObject:
        return section(await request(self.client, f"STREAM.INFO.{stream}"), "config")

    async def reached(self, execution: Execution, index: int, state: StageState) -> None:
        """Waits for a stage as people see it."""
        found = execution
        async with asyncio.timeout(60):
            while found.stages[index].state is not state:
                assert not found.state.terminal, found.sentence
                await asyncio.sleep(0.02)
                found = await self.desk.store.get(Execution, execution.id) or execution

    async def lost(self, execution: Execution) -> list[Proposed]:
        proposal = await self.desk.proposal_of(execution)
        return await rescues(self.desk.store, STAGES, self.readers, proposal.incident_id)


class Interfered:
    """Writers behind which something happens once an update was sent: so many seconds later, or right after its answer."""

    def __init__(self, writers: Writers, happens: Callable[[], Awaitable[None]], delay: float | None = None) -> None:
        self._writers = writers
        self._happens = happens
        self._delay = delay
        self.sent = 0

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        self.sent += 1
        if self.sent > 1:
            return await self._writers.update_stream(account, stream, config)
        if self._delay is None:
            answer = await self._writers.update_stream(account, stream, config)
            await self._happens()
            return answer
        sending = asyncio.create_task(self._writers.update_stream(account, stream, config))
        await asyncio.sleep(self._delay)
        await self._happens()
        return await sending

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writers, name)


@asynccontextmanager
async def scene(folder: Path, version: str, size: int = 3) -> AsyncGenerator[Scene]:
    async with (
        LabCluster(folder / "lab", version, size) as cluster,
        connected(settings_of(cluster, timeout=2.0)) as (readers, writers),
        SqlStore.open(database(folder), SystemClock()) as store,
    ):
        at = Scene(cluster, await cluster.connect(), readers, Desk(store, readers, writers))
        try:
            yield at
        finally:
            await at.client.close()


async def stream(at: Scene, name: str = "ORDERS", replicas: int = 1) -> None:
    await drills.create_stream(at.client, name, replicas, {"metadata": {"team": "a"}})
    await drills.create_consumer(at.client, name, "worker", {"metadata": {"team": "b"}, "ack_wait": 60_000_000_000})
    await drills.publish(at.client, name, PUBLISHED)


def straight(scaling: Scaling, to: int = 3) -> list[tuple[str, JsonObject]]:
    """The first stage, made to reach the target at once, as natsmedic does only where servers are known to bear it."""
    kind, params = scaling.stages[0]
    return [(kind, params | {"to": to, "settle": QUICK.elsewhere})]


def states(execution: Execution) -> list[StageState]:
    return [run.state for run in execution.stages]
