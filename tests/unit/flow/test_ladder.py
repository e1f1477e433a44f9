"""What one diagnosis proposes for one problem, in the light of what was tried."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.flow.ladder import climb
from bot.model import Preview, Proposal, ProposalState, RiskClass, Rung, Stage, Subject
from tests.integration import store_records as records

CONSUMER = Subject(cluster="prod", account="APP", stream="ORDERS", consumer="worker")
OTHER = Subject(cluster="prod", account="APP", stream="ORDERS", consumer="other")
SERVER = Subject(cluster="prod", server="n1")


def proposal(
    name: str,
    kind: str | None,
    *,
    subject: Subject = CONSUMER,
    state: ProposalState = ProposalState.PENDING,
    rung: bool = True,
) -> Proposal:
    preview = Preview(summary="s", blast_radius="b", way_back="w")
    stages = (Stage(kind=kind, params={}, risk=RiskClass.LOW, preview=preview),) if kind else ()
    return records.proposal(name).model_copy(
        update={
            "title": name,
            "subject": subject,
            "stages": stages,
            "state": state,
            "state_reason": "it did not help." if state.terminal else "",
            "rung": Rung(not_enough="n", go_on="g") if rung else None,
        }
    )


STEP_DOWN = proposal("step down", "consumer.step_down")
RESTART = proposal("restart", None, subject=SERVER, state=ProposalState.PROPOSED)
RECREATE = proposal("recreate", "consumer.delete")


def failed(like: Proposal, state: ProposalState = ProposalState.ROLLED_BACK) -> Proposal:
    return like.model_copy(update={"state": state, "state_reason": "it did not help."})


def test_a_higher_rung_names_the_lower_ones_that_were_not_tried() -> None:
    low, _, high = climb([STEP_DOWN, RESTART, RECREATE], [])
    assert low.cautions == ()
    assert high.state is ProposalState.PENDING
    assert high.cautions == (
        "“step down” is less destructive, and was not tried yet.",
        "“restart” is less destructive, and was not tried yet.",
    )


@pytest.mark.parametrize("state", [ProposalState.FAILED, ProposalState.ROLLED_BACK, ProposalState.NEEDS_HUMAN])
def test_after_a_failure_the_next_rung_is_offered_and_the_failed_one_only_shown(state: ProposalState) -> None:
    low, high = climb([STEP_DOWN, RECREATE], [failed(STEP_DOWN, state)])
    assert (low.state, high.state) == (ProposalState.PROPOSED, ProposalState.PENDING)
    assert low.state_reason.startswith("It was tried and did not succeed: it did not help.")
    assert high.cautions == ("“step down” was tried and did not succeed: it did not help.",)


def test_the_last_rung_is_offered_again() -> None:
    (only,) = climb([RECREATE], [failed(RECREATE)])
    assert only.state is ProposalState.PENDING


def test_a_denied_or_expired_repair_was_not_tried() -> None:
    for state in (ProposalState.DENIED, ProposalState.EXPIRED, ProposalState.SUPERSEDED, ProposalState.DONE):
        low, _ = climb([STEP_DOWN, RECREATE], [failed(STEP_DOWN, state)])
        assert low.state is ProposalState.PENDING, state


def test_the_ladder_of_another_consumer_is_another_one() -> None:
    other = RECREATE.model_copy(update={"subject": OTHER})
    low, high = climb([STEP_DOWN, other], [failed(STEP_DOWN)])
    assert (low.state, high.cautions) == (ProposalState.PENDING, ())


def test_the_ladder_of_another_problem_is_another_one() -> None:
    low, high = (
        p.model_copy(update={"subject": SERVER, "rung": Rung(not_enough="n", go_on="g", problem=problem)})
        for p, problem in ((STEP_DOWN, "a probe"), (RECREATE, "a volume"))
    )
    assert climb([low, high], [failed(low)]) == [low, high]
    same = high.model_copy(update={"rung": low.rung})
    assert climb([low, same], [failed(low)])[0].state is ProposalState.PROPOSED


def test_what_stands_on_no_ladder_is_left_as_it_is() -> None:
    alone = proposal("a", "x", rung=False)
    assert climb([alone, RECREATE], []) == [alone, RECREATE]


def test_the_latest_of_several_failures_is_told() -> None:
    early = failed(STEP_DOWN)
    late = early.model_copy(update={"state_reason": "later.", "created_at": early.created_at + timedelta(minutes=1)})
    _, high = climb([STEP_DOWN, RECREATE], [late, early])
    assert high.cautions == ("“step down” was tried and did not succeed: later.",)


def test_what_was_tried_is_the_same_repair_of_the_same_thing() -> None:
    of_another = failed(STEP_DOWN).model_copy(update={"subject": OTHER})
    for before in (failed(RECREATE), of_another):
        low, high = climb([STEP_DOWN, RECREATE], [before])
        assert low.state is ProposalState.PENDING
        assert high.cautions == ("“step down” is less destructive, and was not tried yet.",)


def test_what_says_nothing_of_itself_stands_above_a_repair_of_no_certain_problem_only() -> None:
    alone = proposal("a", "x", rung=False)
    assert climb([STEP_DOWN, alone], [])[1].cautions == ("“step down” is less destructive, and was not tried yet.",)
    certain = STEP_DOWN.model_copy(update={"rung": Rung(not_enough="n", go_on="g", problem="a probe")})
    assert climb([certain, alone], [])[1].cautions == ()
