"""Changes of replicas on real servers, carried through the whole executor: under load, with servers that die, freeze or can't write, and among writers."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from nats.aio.client import Client

from bot.action import RECEIPT_KEY, Draft
from bot.actions.consumer_create import ConsumerCreate
from bot.actions.stream_scale import NEEDS
from bot.actions.stream_scaling import Scaling, Times, compose_scaling
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.errors import Refused
from bot.flow.aftermath import rescues
from bot.lab import drills, scaling_drills, stream_drills
from bot.lab.jetstream import consumer_views, request, section, stream_views
from bot.lab.process import LabError
from bot.lab.servers import LabCluster
from bot.model import Execution, ExecutionState, JsonObject, StageState, StreamKey
from bot.model.groups import without_server_metadata
from bot.ports import Readers, Writers
from bot.runbook import Proposed
from tests.exhaustive import chosen
from tests.integration.executing import STAGES, Desk, database
from tests.integration.nats_support import connected, settings_of

VERSIONS = chosen(("2.10.26", "2.11.2", "2.15.1"), ("2.11.2", "2.15.1"))
QUICK = Times(at_two=1.0, elsewhere=2.0, young=0.0, catch_up=25.0, catch_up_at_two=25.0)
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


@pytest.mark.parametrize("version", VERSIONS)
async def test_under_load_and_with_a_server_killed_in_each_stage_no_acknowledged_message_is_lost(
    tmp_path: Path, version: str
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        before = await at.config()
        scaling = await at.composed("ORDERS")
        assert [p["to"] for _, p in scaling.stages] == ([3] if version == "2.15.1" else [2, 3])
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        async with scaling_drills.load(at.cluster, "ORDERS", "worker") as load:
            running = asyncio.create_task(at.desk.run(execution))
            for index in range(len(scaling.stages)):
                await at.reached(execution, index, StageState.APPLIED)
                await asyncio.sleep(1.5)  # both are current by now, and it has not settled
                leader = await at.holder()
                victim = leader if index == 0 else random.choice([n for n in at.cluster.names if n != leader])
                await at.cluster.kill(victim)
                await at.cluster.restart(victim, ready=False)
            ended = await running
            for entry in await at.desk.audit():
                print(entry.at.isoformat()[11:23], entry.sentence)
        assert (ended.state, set(states(ended))) == (ExecutionState.DONE, {StageState.VERIFIED}), ended.sentence
        views = await stream_views(at.cluster, "ORDERS")
        assert len(views) == 3
        state = section(await request(at.client, "STREAM.INFO.ORDERS"), "state")
        assert len(load.acked) == len(set(load.acked)) > 20  # no sequence is given out twice
        assert (state["first_seq"], state["messages"]) == (1, state["last_seq"])
        assert state["last_seq"] >= max(load.acked)
        assert set(load.acked) <= load.received
        after = await at.config()
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        assert changed == {"num_replicas", "metadata"}
        metadata = without_server_metadata(after)["metadata"]
        assert metadata == {"team": "a", RECEIPT_KEY: ended.stages[-1].operation_id}


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2", "2.15.1"), ("2.11.2",)))
async def test_up_to_five_and_down_again_in_as_few_stages_as_the_version_allows(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version, 5) as at:
        await stream(at)
        up = await at.composed("ORDERS", target=5)
        assert [p["to"] for _, p in up.stages] == ([5] if version == "2.15.1" else [2, 3, 5])
        ended = await at.desk.carry_out(up.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert len(await stream_views(at.cluster, "ORDERS")) == 5
        down = await at.composed("ORDERS", target=1)
        ended = await at.desk.carry_out(down.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert view.state.messages == PUBLISHED


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_sent_while_the_only_holder_is_away(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS")
        holder = await at.holder()
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        await at.cluster.kill(holder)
        ended = await at.desk.run(execution)
        assert ended.state is ExecutionState.REFUSED
        assert {run.sent for run in ended.stages} == {0}
        with pytest.raises(Refused, match="No server that answered reports stream APP > ORDERS"):
            compose_scaling(await at.readers.gather(NEEDS), [KEY], 3, QUICK)
        plan = await at.desk.stages.plan(at.readers, drafted(scaling))
        assert plan.stages == ()
        assert any("No server that answered reports" in line for line in plan.guidance), plan.guidance
        await at.cluster.restart(holder)
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert view.state.messages == PUBLISHED


def drafted(scaling: Scaling) -> Draft:
    return Draft(title="Repair", why="it is broken", stages=scaling.stages)


@pytest.mark.parametrize(
    ("version", "end"), [("2.11.2", ExecutionState.NEEDS_HUMAN), ("2.15.1", ExecutionState.ROLLED_BACK)]
)
async def test_an_update_that_succeeds_and_a_member_that_never_comes_is_told_as_failed_with_numbers(
    tmp_path: Path, version: str, end: ExecutionState
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS", times=Times(1.0, 1.0, 0.0, 6.0))
        holder = await at.holder()
        leader = await at.cluster.wait_ready()
        frozen = next(name for name in at.cluster.names if name not in {holder, leader})
        await at.move_to(holder)
        writers = Interfered(at.desk.writers, lambda: at.cluster.freeze(frozen))
        at.desk.writers = cast("Writers", writers)
        ended = await at.desk.carry_out(straight(scaling))
        assert ended.state is end, ended.sentence
        assert f"2 of 3 members of stream APP > ORDERS are current ({frozen}" in ended.sentence
        assert ended.stages[0].after["members current"] == 2
        if end is ExecutionState.NEEDS_HUMAN:
            assert "#8253" in ended.sentence
            assert (await at.config())["num_replicas"] == 3
        else:
            assert (await at.config())["num_replicas"] == 1
            assert states(ended) == [StageState.ROLLED_BACK]
        views = await stream_views(at.cluster, "ORDERS")
        assert views[holder].state.messages == PUBLISHED


async def test_twenty_writers_lose_nothing_and_are_named_while_what_was_done_before_stays(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.2") as at:
        for name in ("DONE", "ORDERS"):
            await stream(at, name)
        scaling = await at.composed("DONE", "ORDERS", times=Times(4.0, 1.0, 0.0, 25.0, 25.0))
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        running = asyncio.create_task(at.desk.run(execution))
        await at.reached(execution, 2, StageState.APPLIED)
        await at.led("ORDERS", 2)
        confirmed = await busy_writers(at, seconds=6.0)
        ended = await running
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        done, back, never = StageState.VERIFIED, StageState.ROLLED_BACK, StageState.NOT_APPLIED
        assert states(ended) == [done, done, back, never]
        assert "metadata.w" in ended.sentence
        assert "Stream APP > DONE has its 3 replicas, all current, and keeps them." in ended.sentence
        metadata = (await at.config())["metadata"]
        assert len(confirmed) == 20
        assert {k: metadata.get(k) for k in confirmed} == confirmed
        assert [(await at.config(name))["num_replicas"] for name in ("DONE", "ORDERS")] == [3, 1]


async def busy_writers(at: Scene, seconds: float) -> dict[str, str]:
    """Twenty writers that take turns among themselves and know nothing of natsmedic; returns the last confirmed edit of each."""
    turn, confirmed = asyncio.Lock(), dict[str, str]()
    end = asyncio.get_running_loop().time() + seconds

    async def edit(writer: int) -> None:
        for count in range(10_000):
            async with turn:
                if await scaling_drills.edit_metadata(at.client, "ORDERS", f"w{writer}", str(count)):
                    confirmed[f"w{writer}"] = str(count)
            if asyncio.get_running_loop().time() > end:
                return
            await asyncio.sleep(random.uniform(0.0, 0.2))

    await asyncio.gather(*(edit(writer) for writer in range(20)))
    return confirmed


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2"), ("2.11.2",)))
async def test_a_history_that_begins_anew_ends_the_stage_for_good_with_the_numbers_of_before(
    tmp_path: Path, version: str
) -> None:
    """Drills.md 3.2, in its deterministic form: the holder stays away, and the two empty members elect one of themselves."""
    async with scene(tmp_path, version) as at:
        await stream(at)
        holder = await at.holder()
        await drills.move_meta_leader_off(at.cluster, holder)
        scaling = await at.composed("ORDERS")
        writers = Interfered(at.desk.writers, lambda: at.cluster.kill(holder), stream_drills.KILL_DELAY)
        at.desk.writers = cast("Writers", writers)
        ended = await at.desk.carry_out(straight(scaling))
        assert ended.state is ExecutionState.NEEDS_HUMAN, ended.sentence
        assert (
            f"Its last sequence went back from {PUBLISHED} to 0, its messages from {PUBLISHED} to 0." in ended.sentence
        )
        assert "Fewer members could mean that what is left of it goes too." in ended.sentence
        copy = ended.stages[0].before_image
        assert copy["views"][holder]["last_seq"] == PUBLISHED
        assert copy["consumers"]["worker"]["config"]["metadata"]["team"] == "b"
        (told,) = await at.lost(ended)
        assert told.draft.title == "Look for the messages of stream ORDERS"
        assert told.draft.stages == ()


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2"), ("2.11.2",)))
async def test_where_the_second_member_never_comes_the_holder_has_the_stream_alone_again(
    tmp_path: Path, version: str
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS", times=Times(1.0, 1.0, 0.0, 8.0, 8.0))
        await asyncio.sleep(scaling_drills.YOUNG_CONSUMER)
        async with AsyncExitStack() as sick:
            try:
                for name in {*at.cluster.names} - {await at.holder()}:
                    await sick.enter_async_context(scaling_drills.sick_disk(at.cluster, name))
            except LabError as error:
                pytest.skip(str(error))
            ended = await at.desk.carry_out(scaling.stages)
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        assert "has no leader that 2 of 2 members agree on" in ended.sentence
        assert states(ended) == [StageState.ROLLED_BACK, StageState.SKIPPED]
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert (view.state.messages, [c.name for c in view.consumer_detail]) == (PUBLISHED, ["worker"])
        await drills.publish(at.client, "ORDERS", 1)


async def test_consumers_that_a_sick_disk_makes_disappear_are_rebuilt_at_their_positions(tmp_path: Path) -> None:
    """Drills.md 3.5. natsmedic waits until consumers are older than that; here it is told not to."""
    async with scene(tmp_path, "2.11.2") as at:
        ended, sick, done = await consumers_deleted(at)
        assert "2 of 2 consumers of stream APP > ORDERS are gone: lazy, worker." in ended.sentence
        assert "Fewer members could mean" in ended.sentence
        early = {p.subject.consumer: p.draft for p in await at.lost(ended)}
        assert set(early) == {"lazy", "worker"}
        assert early["worker"].stages == ()
        assert any(f"Server {sick}" in line for line in early["worker"].guidance), early["worker"].guidance
        await at.cluster.restart(sick)
        rebuilt = await until_offered(at, ended)
        for proposed in rebuilt:
            assert [kind for kind, _ in proposed.draft.stages] == [ConsumerCreate.kind]
            repaired = await at.desk.carry_out(proposed.draft.stages)
            assert repaired.state is ExecutionState.DONE, repaired.sentence
        assert await at.lost(ended) == []
        got = set(await drills.fetch(at.client, "ORDERS", "worker", 2 * PUBLISHED, 1.5))
        assert got == set(range(max(done) + 1, PUBLISHED + 1))
        assert len(await drills.fetch(at.client, "ORDERS", "lazy", 2 * PUBLISHED, 1.5)) == PUBLISHED


async def consumers_deleted(at: Scene) -> tuple[Execution, str, list[int]]:
    """Scale a stream up whose consumers are so young that one member's refusal deletes them (2 s; several tries on a busy machine).

    Returns the execution, the server with the sick disk, and what `worker` had acknowledged.
    """
    for _ in range(4):
        await drills.create_stream(at.client, "ORDERS", 1)
        await drills.publish(at.client, "ORDERS", PUBLISHED)
        holder = await at.holder()
        await drills.move_meta_leader_off(at.cluster, holder)
        leader = await at.cluster.wait_ready()
        sick = next(name for name in at.cluster.names if name not in {holder, leader})
        execution = await at.desk.approved(await at.desk.plan(straight(await at.composed("ORDERS"))))
        try:
            async with scaling_drills.sick_disk(at.cluster, sick):
                for name in ("worker", "lazy"):
                    await drills.create_consumer(at.client, "ORDERS", name)
                messages = await drills.fetch(at.client, "ORDERS", "worker", 5)
                for message in messages.values():
                    await message.ack_sync(timeout=drills.ANSWER_TIMEOUT)
                ended = await at.desk.run(execution)
        except LabError as error:
            pytest.skip(str(error))
        if not await consumer_views(at.cluster, "ORDERS", "worker"):
            return ended, sick, sorted(messages)
        await request(at.client, "STREAM.DELETE.ORDERS")
        await at.cluster.restart(sick)
    raise AssertionError("the consumers survived every time")


async def until_offered(at: Scene, ended: Execution) -> Sequence[Proposed]:
    async with asyncio.timeout(20):
        while True:
            found = await at.lost(ended)
            if found and all(p.draft.stages for p in found):
                return found
            await asyncio.sleep(0.3)


async def test_young_consumers_and_servers_are_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.2") as at:
        await stream(at)
        await at.composed("ORDERS")
        with pytest.raises(Refused) as refused:
            compose_scaling(await at.readers.gather(NEEDS), [KEY], 3)
        told = str(refused.value)
        assert all(f"Server {name} started" in told for name in at.cluster.names)
        assert "When worker of stream APP > ORDERS was created is less than 15 s ago, or not known" in told
