"""The oracle of the chaos runs sees what is wrong: an operation that went as it should, and the same one spoiled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.flow.approval import queued
from bot.model import (
    AuditEntry,
    ExecutionState,
    IncidentId,
    JsonObject,
    Preview,
    ProposalState,
    RiskClass,
    Stage,
    StageState,
)
from tests.chaos.judge import (
    Background,
    Case,
    at_once,
    away,
    halted,
    lost,
    overlap,
    twice,
    unaudited,
    unfinished,
    untrue,
)
from tests.chaos.nemesis import FaultKind, Suffered
from tests.chaos.play import COPIES, Played
from tests.chaos.wishes import Wish
from tests.crash.people import RULES
from tests.crash.proxy import Sent
from tests.integration.store_records import NOW, FixedClock, incident, proposal

CREATED, DELETED = "CONSUMER.CREATE.OP1.worker", "CONSUMER.DELETE.OP1.worker"
VERIFIED = StageState.VERIFIED


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def sent(*changes: str) -> tuple[Sent, ...]:
    return tuple(Sent(what, NOW, b"", b"{}") for what in changes)


def case(
    *states: StageState, end: ExecutionState = ExecutionState.DONE, effects: tuple[str, ...] = (DELETED, CREATED)
) -> Case:
    """A recreation whose stages came to these ends."""
    preview = Preview(summary="set", blast_radius="the test", way_back="none")
    stages = [
        Stage(kind=kind, params={}, risk=RiskClass.LOW, preview=preview)
        for kind in ("consumer.delete", "consumer.create")
    ]
    planned = proposal(state=ProposalState(end.value)).model_copy(update={"stages": tuple(stages)})
    made = queued(planned, FixedClock())
    runs = tuple(
        run.model_copy(update={"state": state, "sent": int(state is not StageState.SKIPPED)})
        for run, state in zip(made.stages, states, strict=True)
    )
    execution = made.model_copy(update={"state": end, "stages": runs})
    entries = [
        entry(number, kind, execution.id, stage=run.index)
        for number, (run, kind) in enumerate(
            (run, kind) for run in runs if run.sent for kind in ("stage.intended", "stage.sending")
        )
    ]
    played = Played(1, Wish.RECREATE, "chaos0", "OP1", IncidentId("inc_1"), sent(*effects), "", NOW, NOW + after(3))
    counted = incident().model_copy(update={"firing_count": COPIES})
    return Case(played, counted, (planned,), {planned.id: execution}, entries)


def entry(number: int, kind: str, execution: str, **data: int) -> AuditEntry:
    body: JsonObject = {"execution": execution, **data}
    return AuditEntry(
        seq=number + 1,
        at=NOW + after(number),
        kind=kind,
        actor="bot",
        incident_id="inc_1",
        subject="prop_1",
        sentence="",
        data=body,
        previous="",
        hash="",
    )


def shared(*spans: tuple[float, float]) -> Background:
    return Background(RULES, {}, [(NOW + after(begin), NOW + after(end)) for begin, end in spans])


def test_a_repair_that_went_as_it_should_violates_nothing():
    good = case(VERIFIED, VERIFIED)
    found = [*lost(good), *twice(good), *untrue(good), *unaudited(good), *unfinished(good), *halted(good, shared())]
    assert found == []


def test_a_webhook_that_was_answered_and_is_not_counted_is_lost():
    good = case(VERIFIED, VERIFIED)
    (told,) = lost(replace(good, incident=incident().model_copy(update={"firing_count": COPIES - 1})))
    assert told == "I1: 5 webhooks were answered 2xx, 4 are counted"
    assert list(lost(replace(good, incident=None))) == ["I1: its incident is not there"]


@pytest.mark.parametrize(
    "effects", [(DELETED, CREATED, CREATED), (DELETED, DELETED, CREATED), (DELETED,), (CREATED,), ()]
)
def test_a_verified_change_that_took_effect_more_or_less_often_than_once_is_told(effects: tuple[str, ...]):
    assert any(told.startswith("I2") for told in twice(case(VERIFIED, VERIFIED, effects=effects)))


def test_a_change_of_unknown_outcome_may_have_taken_effect_once_and_no_more():
    for effects, wrong in (((DELETED,), 0), ((DELETED, CREATED), 0), ((DELETED, CREATED, CREATED), 1)):
        unknown = case(VERIFIED, StageState.UNKNOWN, end=ExecutionState.NEEDS_HUMAN, effects=effects)
        assert len(list(twice(unknown))) == wrong


def test_a_way_back_counts_only_where_it_was_announced():
    back = case(StageState.ROLLED_BACK, StageState.NOT_APPLIED, end=ExecutionState.ROLLED_BACK)
    assert [told[:10] for told in twice(back)] == ["I2: CREATE"]
    announced = entry(9, "stage.undoing", next(iter(back.executions.values())).id, stage=0)
    assert list(twice(replace(back, entries=[*back.entries, announced]))) == []


def test_done_is_untrue_where_the_target_is_not_as_was_wished_for():
    good = case(VERIFIED, VERIFIED)
    spoiled = replace(good, played=replace(good.played, problem="6 messages wait, not 3"))
    assert list(untrue(spoiled)) == ["I4: it says done, but 6 messages wait, not 3"]
    other = good.proposals[0].model_copy(update={"state": ProposalState.APPLYING})
    assert list(untrue(replace(good, proposals=(other,)))) == ["I4: the execution is done, its proposal applying"]


def test_a_superseded_proposal_of_which_something_was_sent_is_untrue():
    for state, sent, wrong in (
        (ExecutionState.FAILED, 0, 0),
        (ExecutionState.FAILED, 1, 1),
        (ExecutionState.DONE, 0, 1),
    ):
        stopped = case(StageState.NOT_APPLIED, StageState.SKIPPED, end=state)
        (execution,) = stopped.executions.values()
        runs = tuple(run.model_copy(update={"sent": sent}) for run in execution.stages)
        executions = {execution.proposal_id: execution.model_copy(update={"stages": runs})}
        proposals = (stopped.proposals[0].model_copy(update={"state": ProposalState.SUPERSEDED}),)
        assert len(list(untrue(replace(stopped, proposals=proposals, executions=executions)))) == wrong


def test_a_second_intent_or_a_sending_that_is_not_on_record_is_told():
    good = case(VERIFIED, VERIFIED)
    assert len(list(unaudited(replace(good, entries=[*good.entries, good.entries[0]])))) == 1
    assert len(list(unaudited(replace(good, entries=good.entries[:-1])))) == 1


def test_what_has_not_ended_is_told():
    running = case(VERIFIED, StageState.INTENDED, end=ExecutionState.APPLYING)
    assert len(list(unfinished(running))) == 2
    given_up = case(VERIFIED, VERIFIED)
    told = list(unfinished(replace(given_up, played=replace(given_up.played, unfinished=True))))
    assert told == ["I6: people gave up waiting; proposals: prop_1 done"]


def test_a_repair_may_stand_still_for_a_minute_in_which_a_replica_could_work():
    good = case(VERIFIED, VERIFIED)
    execution = next(iter(good.executions.values())).id
    for seconds, spans, told in ((60, [], 0), (61, [], 1), (100, [(10, 50)], 0), (101, [(10, 50)], 1)):
        entries = [entry(0, "stage.intended", execution), entry(seconds, "stage.applied", execution)]
        assert len(list(halted(replace(good, entries=entries), shared(*spans)))) == told


def test_executions_of_one_cluster_that_overlap_are_told():
    one, two = (queued(proposal(name), FixedClock()) for name in ("1", "2"))
    apart = [
        entry(0, "execution.started", one.id),
        entry(1, "execution.verifying", one.id),
        entry(2, "execution.done", one.id),
        entry(3, "execution.started", two.id),
    ]
    assert list(at_once([one, two], apart)) == []
    assert len(list(at_once([one, two], [apart[0], apart[3], apart[2]]))) == 1


def suffered(kind: FaultKind, target: int | None, begin: float, end: float) -> Suffered:
    return Suffered(kind, target, NOW + after(begin), NOW + after(end))


def seconds_away(faults: list[Suffered], able: range) -> list[tuple[float, float]]:
    return [((begin - NOW).total_seconds(), (end - NOW).total_seconds()) for begin, end in away(faults, able)]


def test_nothing_can_be_expected_while_all_replicas_were_away_or_the_database_was():
    faults = [
        suffered(FaultKind.FREEZE, 0, 0, 50),
        suffered(FaultKind.KILL, 1, 30, 60),
        suffered(FaultKind.DATABASE, None, 70, 71),
        suffered(FaultKind.LOST, 0, 80, 80),
    ]
    taken_over = [(0, 15), (30, 45)]
    assert seconds_away(faults, range(2)) == [(70, 71), *taken_over, (30, 50)]
    assert seconds_away(faults, range(1, 2)) == [(70, 71), *taken_over, (30, 60)]


def test_a_short_freeze_costs_its_length_and_a_short_death_a_take_over():
    faults = [suffered(FaultKind.FREEZE, 0, 0, 3), suffered(FaultKind.KILL, 1, 30, 33)]
    assert seconds_away(faults, range(3)) == [(0, 3), (30, 45)]


def test_times_that_overlap_are_counted_once():
    spans = [(NOW + after(0), NOW + after(10)), (NOW + after(5), NOW + after(20)), (NOW + after(40), NOW + after(50))]
    assert overlap(spans, NOW + after(8), NOW + after(45)) == after(12 + 5)
