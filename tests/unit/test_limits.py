"""The limits at their exact borders."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.limits import Past, Ruling, Stop, judge
from bot.model import (
    ExecutionState,
    Freeze,
    FreezeId,
    Lift,
    OperationId,
    Preview,
    Proposal,
    RiskClass,
    Stage,
    StageRun,
    StageState,
    Subject,
)
from bot.settings import LimitSettings
from tests.integration import store_records as records
from tests.integration.store_records import NOW

RULES = LimitSettings()
SECOND = timedelta(seconds=1)


def proposal(name: str = "new", stream: str = "ORDERS", kind: str = "consumer.delete") -> Proposal:
    stage = Stage(
        kind=kind,
        params={},
        risk=RiskClass.MEDIUM,
        preview=Preview(summary="s", blast_radius="b", way_back="w"),
    )
    return records.proposal(name).model_copy(
        update={"stages": (stage,), "subject": Subject(cluster="prod", stream=stream)}
    )


def past(
    ago: timedelta,
    state: ExecutionState = ExecutionState.DONE,
    *,
    stream: str = "OTHER",
    kind: str = "consumer.delete",
    sent: bool = True,
) -> Past:
    """An execution that sent and ended so long ago."""
    run = StageRun(
        index=0,
        state=StageState.VERIFIED,
        operation_id=OperationId("op"),
        intended_at=NOW - ago if sent else None,
        sent=int(sent),
    )
    execution = records.execution(state=state).model_copy(update={"stages": (run,), "ended_at": NOW - ago})
    return Past(execution=execution, proposal=proposal("old", stream, kind))


def ruling(*before: Past, rules: LimitSettings = RULES) -> Ruling:
    return judge(proposal(), before, rules, NOW)


def test_nothing_before_lets_everything_start() -> None:
    assert ruling().allowed


def test_the_fifth_change_within_an_hour_waits_for_the_first_to_be_an_hour_old() -> None:
    early = timedelta(minutes=59, seconds=59)
    three = [past(timedelta(minutes=m)) for m in (10, 20, 30)]
    assert ruling(*three).allowed
    stopped = ruling(*three, past(early))
    assert (stopped.stop, stopped.opens_at) == (Stop.PER_HOUR, NOW + SECOND)
    assert "4 changes" in stopped.sentence
    assert ruling(*three, past(early + SECOND)).allowed


def test_what_sent_nothing_is_no_change() -> None:
    assert ruling(*[past(timedelta(minutes=1), ExecutionState.FAILED, sent=False) for _ in range(9)]).allowed


@pytest.mark.parametrize("state", [ExecutionState.FAILED, ExecutionState.ROLLED_BACK, ExecutionState.NEEDS_HUMAN])
def test_after_a_failure_the_cluster_rests_for_fifteen_minutes(state: ExecutionState) -> None:
    rest = timedelta(minutes=15)
    stopped = ruling(past(rest - SECOND, state))
    assert (stopped.stop, stopped.opens_at) == (Stop.REST, NOW + SECOND)
    assert ruling(past(rest, state)).allowed


def test_three_failures_on_one_target_block_it_for_an_hour() -> None:
    failed = ExecutionState.FAILED
    two = [past(timedelta(minutes=m), failed, stream="ORDERS") for m in (20, 30)]
    assert ruling(*two).allowed
    assert ruling(*two, past(timedelta(minutes=40), failed, stream="OTHER")).allowed
    stopped = ruling(*two, past(timedelta(minutes=60) - SECOND, failed, stream="ORDERS"))
    assert (stopped.stop, stopped.opens_at) == (Stop.LOOP, NOW + SECOND)
    assert ruling(*two, past(timedelta(minutes=60), failed, stream="ORDERS")).allowed


def test_a_repair_that_is_needed_again_did_not_last() -> None:
    again = [past(timedelta(minutes=m), stream="ORDERS") for m in (10, 20, 30)]
    assert ruling(*again).stop is Stop.LOOP
    other = past(timedelta(minutes=10), stream="ORDERS", kind="consumer.step_down")
    assert ruling(other, *again[1:]).allowed


def test_of_two_limits_the_one_that_lasts_longer_is_told() -> None:
    failed = [past(timedelta(minutes=m), ExecutionState.FAILED, stream="ORDERS") for m in (1, 2, 3)]
    stopped = ruling(*failed)
    assert (stopped.stop, stopped.opens_at) == (Stop.LOOP, NOW + timedelta(minutes=57))


def freeze(**changes: object) -> Freeze:
    made = Freeze(id=FreezeId("frz_1"), reason="black friday", person="ada", at=NOW)
    return made.model_copy(update=changes)


def test_a_freeze_covers_what_it_names_and_nothing_else() -> None:
    assert freeze().covers("prod", "x")
    assert freeze(cluster="prod").covers("prod", "x")
    assert not freeze(cluster="prod").covers("stage", "x")
    assert freeze(action="x").covers("stage", "x")
    assert not freeze(cluster="prod", action="x").covers("prod", "y")


def test_a_freeze_ends_with_its_time_or_with_the_second_person() -> None:
    timed = freeze(until=NOW + SECOND)
    assert timed.active(NOW)
    assert not timed.active(NOW + SECOND)
    twice = [Lift(person="ada", reason="over", at=NOW)] * 2
    assert freeze(lifts=tuple(twice)).active(NOW)
    assert not freeze(lifts=(twice[0], Lift(person="bo", reason="over", at=NOW))).active(NOW)
