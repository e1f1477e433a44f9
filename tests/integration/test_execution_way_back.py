"""The way back of an execution: announced before it is sent, interrupted and lost answers included, and told as what it was."""

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import NotApplied, OutcomeUnknown
from bot.flow.execution import LATE_ARRIVAL_FACTOR
from bot.model import ExecutionState, ProposalState, StageState
from tests.integration.test_execution import NoReaders, SetValue, house


class KilledError(BaseException):
    """Ends a run at a crash point, as a kill does, without ending the test."""


@pytest.fixture(autouse=True)
def _nobody_listens() -> Generator[None]:
    yield
    crashpoints.listen(None)


def kill_at(point: Point, nth: int) -> None:
    left = [nth]

    def listener(reached: Point) -> None:
        left[0] -= reached is point
        if left[0] == 0:
            crashpoints.listen(None)
            raise KilledError

    crashpoints.listen(listener)


async def test_killed_when_its_one_stage_was_undone_it_still_says_rolled_back(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.broken, h.target.hopeless = {"a"}, {"a"}
        kill_at(Point.P14, 2)
        with pytest.raises(KilledError):
            await h.run()
        ended = await h.run()
        assert (ended.state, await h.state()) == (ExecutionState.ROLLED_BACK, ProposalState.ROLLED_BACK)
        assert h.target.effects == ["a", "-a"]
        assert "looked Undone: a is undone." in ended.sentence
        assert "Nothing was changed" not in ended.sentence


async def test_killed_between_two_undone_stages_it_goes_on_and_names_the_stage_that_failed(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b", "c") as h:
        h.target.faults["c"] = [NotApplied("insufficient resources")]
        kill_at(Point.P14, 4)
        with pytest.raises(KilledError):
            await h.run()
        assert h.target.effects == ["a", "b", "-b"]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "b", "-b", "-a"])
        assert "Stage 3 of 3 did not succeed: insufficient resources" in ended.sentence


async def test_a_way_back_whose_answer_was_lost_is_tried_again_once_it_can_not_arrive_any_more(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [NotApplied("insufficient resources")]
        h.target.undoing = {"a": [OutcomeUnknown("no answer")]}
        before = h.clock.now()
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])
        assert h.clock.now() - before >= timedelta(seconds=LATE_ARRIVAL_FACTOR * NoReaders.api_timeout)


async def test_a_way_back_that_stays_unknown_is_a_humans_and_keeps_the_lock(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [NotApplied("insufficient resources")]
        h.target.undoing = {"a": [OutcomeUnknown("no answer") for _ in range(int(SetValue.half_way))]}
        ended = await h.run()
        assert (ended.state, ended.stages[0].state) == (ExecutionState.NEEDS_HUMAN, StageState.UNKNOWN)
        assert "Perhaps undone. no answer" in ended.sentence
        assert (await h.store.fence("prod"))[0] == ended.id


async def test_a_way_back_is_on_record_before_it_is_sent(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [NotApplied("insufficient resources")]
        h.target.undoing = {"a": [OutcomeUnknown("no answer")]}
        await h.run()
        kinds = [
            entry.kind for entry in await h.store.audit_entries() if "undo" in entry.kind or "rolled" in entry.kind
        ]
        assert kinds == ["stage.undoing", "stage.rolled_back", "execution.rolled_back"]
