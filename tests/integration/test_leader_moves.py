"""Leaders moved on real servers through the real executor: they move, where it can be chosen they go where they shall, and nothing is lost."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from bot.action import ELECTION
from bot.actions import consumer_step_down, meta_step_down, stream_step_down
from bot.actions._elections import PREFERRED
from bot.actions._facts import consumer_facts, stream_facts
from bot.actions.leaders_move import find, shares
from bot.actions.spread_leaders import compose
from bot.errors import Refused
from bot.lab import drills
from bot.model import ConsumerKey, ExecutionState, JsonObject, Snapshot, StageState
from bot.model.groups import meta_standing
from bot.model.versions import version_number
from tests.exhaustive import chosen
from tests.integration.executing import Desk
from tests.integration.leader_scene import (
    FETCHED,
    FLOOR,
    PUBLISHED,
    STREAM,
    WORKER,
    Deaf,
    LostReplies,
    Scene,
    said,
    scene,
)

VERSIONS = chosen(("2.10.26", "2.11.11", "2.15.1"), ("2.15.1",))


def stages(snapshot: Snapshot, preferred: str = "") -> list[tuple[str, JsonObject]]:
    """Every kind of leader steps down, the meta leader last."""
    consumer, stream = consumer_facts(snapshot, WORKER), stream_facts(snapshot, STREAM)
    made = (
        (consumer_step_down.ACTION, consumer_step_down.step_down_stage(snapshot, consumer, preferred)),
        (stream_step_down.ACTION, stream_step_down.step_down_stage(snapshot, stream, preferred)),
        (meta_step_down.ACTION, meta_step_down.step_down_stage(snapshot, preferred)),
    )
    return [(action.kind, params.model_dump(mode="json")) for action, params in made]


def leaders(snapshot: Snapshot) -> list[str | None]:
    return [
        consumer_facts(snapshot, WORKER).standing.leader,
        stream_facts(snapshot, STREAM).standing.leader,
        meta_standing(snapshot).leader,
    ]


async def assert_nothing_lost(scene: Scene) -> None:
    snapshot = await scene.whole()
    state = consumer_facts(snapshot, WORKER).state
    assert (state.floor_stream_seq, state.delivered_stream_seq) == (FLOOR, FETCHED)
    assert stream_facts(snapshot, STREAM).state.last_seq == PUBLISHED
    await drills.publish(scene.client, "ORDERS", 1)
    assert stream_facts(await scene.whole(), STREAM).state.last_seq == PUBLISHED + 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_leader_moves_and_nothing_is_lost(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as lab:
        before = await lab.whole()
        execution = await lab.desk.carry_out(stages(before))
        assert execution.state is ExecutionState.DONE, said(execution)
        terms = [params["term"] for _, params in stages(before)]
        assert all(terms)
        after = await lab.whole()
        assert all(new["term"] > old for (_, new), old in zip(stages(after), terms, strict=True))
        await assert_nothing_lost(lab)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_preferred_leader_is_honoured_from_2_11_on_and_refused_before(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as lab:
        before = await lab.whole()
        for kind, params in stages(before):
            wanted = next(name for name in params["members"] if name != params["leader"])
            stage = (kind, params | {"preferred": wanted})
            if version_number(version) < PREFERRED:
                with pytest.raises(AssertionError, match=r"nobody can be preferred before 2\.11\.0"):
                    await lab.desk.plan([stage])
                continue
            execution = await lab.desk.carry_out([stage])
            assert execution.state is ExecutionState.DONE, said(execution)
            assert execution.stages[0].sentence == f"{wanted} leads, all members are current."
        if version_number(version) < PREFERRED:
            assert leaders(await lab.whole()) == leaders(before)
        await assert_nothing_lost(lab)


async def test_a_step_down_whose_answer_is_lost_is_found_applied_by_the_election_and_not_sent_again(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, "2.11.11") as lab:
        lost = LostReplies(lab.writers)
        desk = Desk(lab.desk.store, lab.readers, lost)  # pyright: ignore[reportArgumentType]
        execution = await desk.carry_out(stages(await lab.whole()))
        assert execution.state is ExecutionState.DONE, said(execution)
        assert lost.sent == 3
        assert [run.sent for run in execution.stages] == [1, 1, 1]


async def test_a_step_down_that_moves_nobody_is_failed_whatever_the_call_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_step_down.ACTION, "patience", 6.0)
    async with scene(tmp_path, "2.11.11") as lab:
        desk = Desk(lab.desk.store, lab.readers, Deaf())  # pyright: ignore[reportArgumentType]
        before = await lab.whole()
        execution = await desk.carry_out(stages(before)[1:2])
        (run,) = execution.stages
        assert run.state is StageState.FAILED, said(execution)
        assert run.sentence == f"{leaders(before)[1]} still leads."
        assert run.after["last sequence"] == PUBLISHED


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_leads_everything_is_relieved_and_the_rest_spread_evenly(
    tmp_path: Path, version: str
) -> None:
    async with scene(tmp_path, version) as lab:
        for number in range(7):
            await drills.create_stream(lab.client, f"S{number}", 3)
            await drills.create_consumer(lab.client, f"S{number}", "worker")
        await lab.whole()
        snapshot = await settled(lab)
        hot = max(shares(snapshot), key=lambda server: shares(snapshot)[server])
        choosing = version_number(version) >= PREFERRED
        await gather_leaders(lab, hot, 16 if choosing else 9, hot if choosing else "")
        snapshot = await settled(lab)
        execution = await lab.desk.carry_out(compose(snapshot, hot).stages)
        assert execution.state is ExecutionState.DONE, said(execution)
        assert shares(await settled(lab))[hot] <= 6
        if choosing:
            assert sorted(shares(await settled(lab)).values()) == [5, 5, 6]
            with pytest.raises(Refused, match="more even"):
                compose(await settled(lab))
        await assert_nothing_lost(lab)


async def settled(lab: Scene) -> Snapshot:
    """The cluster once every stream and consumer can be moved."""
    async with asyncio.timeout(ELECTION):
        while True:
            snapshot = await lab.look()
            keys = (*snapshot.streams(), *snapshot.consumers())
            with suppress(Refused):
                if len(keys) == 16 and all(find(snapshot, key)[0].agreed for key in keys):
                    return snapshot
            await asyncio.sleep(0.2)


async def gather_leaders(lab: Scene, server: str, count: int, preferred: str) -> None:
    """Makes one server lead so many."""
    async with asyncio.timeout(2 * ELECTION):
        while shares(snapshot := await settled(lab))[server] < count:
            for key in (*snapshot.streams(), *snapshot.consumers()):
                if find(snapshot, key)[0].leader == server:
                    continue
                if isinstance(key, ConsumerKey):
                    await lab.writers.step_down_consumer(key.account, key.stream, key.consumer, preferred)
                else:
                    await lab.writers.step_down_stream(key.account, key.stream, preferred)
            await asyncio.sleep(1)  # the servers report the old leaders for a moment
