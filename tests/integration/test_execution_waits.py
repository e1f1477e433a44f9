"""What an execution waits for half-way and on the way back, and what it does not wait for."""

from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import NotYet, ObjectMoved, Refused, Unreachable, WriteDenied
from bot.model import ExecutionState, StageState
from tests.integration.execution_house import SetValue, house


async def test_an_action_that_refuses_before_it_sends_anything_is_not_applied(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.faults["a"] = [Refused("The StatefulSet was edited.")]
        ended = await h.run()
        assert (ended.state, ended.stages[0].state) == (ExecutionState.FAILED, StageState.NOT_APPLIED)
        assert "The StatefulSet was edited. Nothing was changed." in ended.sentence
        assert h.target.effects == []


async def test_half_way_what_passes_is_sent_again_and_what_does_not_pass_ends_it(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [
            ObjectMoved("patch statefulsets nats", 409, "Conflict", "it moved"),
            Unreachable("gone"),
        ]
        ended = await h.run()
        assert (ended.state, ended.stages[1].sent) == (ExecutionState.DONE, 3)
    (tmp_path / "other").mkdir()
    async with house(tmp_path / "other", "a", "b") as h:
        h.target.faults["b"] = [Refused("Somebody else changed it."), WriteDenied("never reached")]
        ended = await h.run()
        assert (ended.state, ended.stages[1].sent) == (ExecutionState.ROLLED_BACK, 1)
        assert h.target.effects == ["a", "-a"]


async def test_half_way_a_passing_no_is_tried_for_as_long_as_a_refusal_is_waited_out(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [Unreachable("no leader") for _ in range(int(SetValue.half_way) - 1)]
        assert (await h.run()).state is ExecutionState.DONE
    (tmp_path / "other").mkdir()
    async with house(tmp_path / "other", "a", "b") as h:
        h.target.faults["b"] = [Unreachable("no leader") for _ in range(int(SetValue.half_way) + 9)]
        before = h.clock.now()
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])
        assert h.clock.now() - before < timedelta(seconds=SetValue.half_way + 9)


async def test_half_way_people_are_told_once_what_is_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.refusals = {"b": "nats-0 is not current."}
        ended = await h.run()
        assert ended.state is ExecutionState.ROLLED_BACK
        told = [e.sentence for e in await h.store.audit_entries() if e.kind == "stage.waiting"]
        assert told == ["Stage 2 of 2: Waits: nats-0 is not current."]


async def test_half_way_a_refusal_for_good_is_not_waited_out(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.refusals, h.target.hopeless = {"b": "Somebody else edited it."}, {"b"}
        before = h.clock.now()
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])
        assert h.clock.now() - before < timedelta(seconds=SetValue.half_way)


async def test_a_failure_for_good_ends_the_stage_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.broken, h.target.hopeless = {"a"}, {"a"}
        before = h.clock.now()
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])
        assert h.clock.now() - before < timedelta(seconds=SetValue.patience)


async def test_the_way_back_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.broken = {"b"}
        h.target.undoing["b"] = [NotYet("Its pod is being replaced."), Unreachable("no answer"), NotYet("Not current.")]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "b", "-b", "-a"])


@pytest.mark.parametrize("seconds", [SetValue.half_way])
async def test_the_way_back_does_not_wait_for_ever(tmp_path: Path, seconds: float) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.broken = {"b"}
        h.target.undoing["b"] = [NotYet("Its pod is being replaced.")] * 1000
        before = h.clock.now()
        ended = await h.run()
        assert ended.state is ExecutionState.NEEDS_HUMAN
        assert "Rolling back stage 2 stopped: Its pod is being replaced. A person must look." in ended.sentence
        assert h.target.effects == ["a", "b"]
        waited = (h.clock.now() - before).total_seconds()
        assert seconds <= waited <= seconds + SetValue.patience + SetValue.settle + 5


async def test_the_way_back_stops_at_a_right_that_is_missing(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.broken = {"b"}
        h.target.undoing["b"] = [WriteDenied("The applier may not delete pods nats-2.")]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.NEEDS_HUMAN, ["a", "b"])
        assert "may not delete pods" in ended.sentence


async def test_a_stage_that_nothing_needs_any_more_ends_well_unsent(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b", "c") as h:
        h.target.needless = {"b": "n0 is calm.", "c": "n0 is calm."}
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a"])
        assert [(r.state, r.sent) for r in ended.stages] == [(StageState.VERIFIED, sent) for sent in (1, 0, 0)]
        assert (ended.sentence, ended.stages[2].after) == ("Not sent: n0 is calm.", {"set": 1})


async def test_a_stage_that_was_not_needed_is_not_rolled_back(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b", "c") as h:
        h.target.needless = {"b": "n0 is calm."}
        h.target.broken = {"c"}
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "c", "-c", "-a"])
        assert [r.state for r in ended.stages] == [
            StageState.ROLLED_BACK,
            StageState.VERIFIED,
            StageState.ROLLED_BACK,
        ]
