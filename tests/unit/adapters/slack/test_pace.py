"""The bar of a running repair: how far by the stages, how long by the clock, of how long by what went before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from bot.adapters.slack.pace import Pace, Usual, progress_bar, usual
from bot.adapters.slack.render import render
from bot.adapters.slack.wanted import Case, ProposalCase
from bot.model import Execution, ExecutionState, OperationId, Proposal, ProposalState, StageRun, StageState
from tests.unit.adapters.slack.slack_records import NOW, RULES, execution, incident, proposal
from tests.unit.adapters.slack.test_render import flat, message

KIND = "consumer.recreate"
WAITING, INTENDED, APPLIED, VERIFIED = StageState.WAITING, StageState.INTENDED, StageState.APPLIED, StageState.VERIFIED


def run(*states: StageState, began: int = 0, took: int | None = None) -> Execution:
    """A repair with these stages; the one under way began so many seconds after the start, a verified one took so many."""
    stages = tuple(
        StageRun(
            index=index,
            state=state,
            operation_id=OperationId(f"op_{index}"),
            intended_at=None if state is WAITING else NOW + timedelta(seconds=began),
            ended_at=NOW + timedelta(seconds=began + took) if state is VERIFIED and took is not None else None,
        )
        for index, state in enumerate(states)
    )
    return execution().model_copy(update={"stages": stages})


def bar(seconds: float, repair: Execution, known: Usual | None = None) -> str:
    plan = proposal(stages=len(repair.stages))
    return progress_bar(repair, plan, Pace(NOW + timedelta(seconds=seconds), known or {}))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-3, "00:00"), (0, "00:00"), (4.9, "00:00"), (5, "00:05"), (42, "00:40"), (60, "01:00"), (3_725, "62:05")],
)
def test_the_time_is_told_in_whole_steps(seconds: float, expected: str) -> None:
    assert bar(seconds, run(INTENDED)).endswith(f"stage 1 of 1 · {expected}")


@pytest.mark.parametrize(
    ("states", "filled", "number"),
    [
        ((WAITING, WAITING, WAITING), 0, 1),
        ((VERIFIED, INTENDED, WAITING), 4, 2),
        ((VERIFIED, VERIFIED, APPLIED), 8, 3),
        ((VERIFIED, VERIFIED, VERIFIED), 12, 3),
    ],
)
def test_each_verified_stage_fills_its_part(states: Sequence[StageState], filled: int, number: int) -> None:
    shown = bar(0, run(*states))
    assert shown.startswith("▓" * filled + "░" * (12 - filled) + f" stage {number} of 3 ")


def test_a_stage_fills_its_part_by_the_clock_and_never_wholly_before_it_is_verified() -> None:
    filled = [bar(seconds, run(INTENDED), {KIND: 60.0}).count("▓") for seconds in (0, 30, 59, 600)]
    assert filled == [0, 6, 10, 10]


@pytest.mark.parametrize(
    ("seconds", "usually", "expected"),
    [
        (10, 120.0, "00:10 of about 2 min"),
        (120, 120.0, "02:00 of about 2 min"),
        (125, 120.0, "02:05, usually about 2 min"),
        (10, 42.0, "00:10 of about 40 s"),
        (0, 1.0, "00:00 of about 5 s"),
    ],
)
def test_it_says_how_long_such_a_repair_takes_and_when_it_takes_longer(
    seconds: int, usually: float, expected: str
) -> None:
    assert bar(seconds, run(INTENDED), {KIND: usually}).endswith(expected)


def test_nothing_is_said_of_the_end_where_a_stage_is_the_first_of_its_kind() -> None:
    assert "about" not in bar(10, run(INTENDED), {"another.kind": 60.0})


def test_how_long_a_kind_takes_is_the_median_of_its_verified_stages() -> None:
    plan = proposal(stages=1)
    earlier: list[tuple[Execution, Proposal]] = [(run(VERIFIED, took=took), plan) for took in (10, 20, 900)]
    earlier += [(run(StageState.FAILED), plan), (run(VERIFIED), plan), (run(VERIFIED, VERIFIED, took=5), plan)]
    assert usual(earlier) == {KIND: 15.0}


@pytest.mark.parametrize("state", list(ExecutionState))
def test_the_board_has_a_bar_exactly_while_a_repair_runs(state: ExecutionState) -> None:
    repair = run(INTENDED).model_copy(update={"state": state})
    entry = ProposalCase(proposal(state=ProposalState.APPLYING, stages=1), (), repair)
    shown = render(Case(incident(), (), (entry,), pace=Pace(NOW, {})), RULES)
    runs = state in {ExecutionState.QUEUED, ExecutionState.APPLYING, ExecutionState.VERIFYING}
    assert ("░ stage 1 of 1" in flat(message(shown, "board"))) is runs
