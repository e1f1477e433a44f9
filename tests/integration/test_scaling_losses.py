"""Changes of replicas that lose something on real servers, and what brings it back: a history that begins anew, members that can't write."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from bot.actions.consumer_create import ConsumerCreate
from bot.actions.stream_scaling import Times
from bot.lab import drills, scaling_drills, stream_drills
from bot.lab.jetstream import consumer_views, request, stream_views
from bot.lab.process import LabError
from bot.model import Execution, ExecutionState, StageState
from bot.ports import Writers
from bot.runbook import Proposed
from tests.exhaustive import chosen
from tests.integration.scaling_scene import PUBLISHED, Interfered, Scene, scene, states, straight, stream


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
        scaling = await at.composed("ORDERS", times=Times(1.0, 1.0, 0.0, 8.0, 8.0, trial=False))
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
