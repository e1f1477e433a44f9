"""The states of a proposal and of its execution: which are final, what they are called in the database, and what approvals are bound to."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import pytest

from bot.model import (
    DiagnosisId,
    Escalation,
    Execution,
    ExecutionId,
    ExecutionState,
    IncidentId,
    OperationId,
    Patch,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Rung,
    Stage,
    StageRun,
    StageState,
    Subject,
)
from bot.model.execution import Outcome, Verification
from tests.unit.policy.matters import NOW, proposal

OFFERED = proposal()


def test_a_proposal_is_final_once_it_ended_and_not_while_anything_may_still_happen() -> None:
    assert {state for state in ProposalState if not state.terminal} == {
        ProposalState.PROPOSED,
        ProposalState.PENDING,
        ProposalState.APPROVED,
        ProposalState.APPLYING,
        ProposalState.VERIFYING,
        ProposalState.UNKNOWN,
    }


def test_an_execution_is_final_once_nothing_more_happens_by_itself() -> None:
    assert {state for state in ExecutionState if state.terminal} == {
        ExecutionState.DONE,
        ExecutionState.FAILED,
        ExecutionState.ROLLED_BACK,
        ExecutionState.NEEDS_HUMAN,
        ExecutionState.REFUSED,
    }


def test_a_state_that_both_have_is_final_for_both_or_for_neither() -> None:
    """An execution hands its state to its proposal by name (bot/flow/ledger.py)."""
    shared = {state.value for state in ExecutionState} & {state.value for state in ProposalState}
    assert len(shared) == 7
    assert all(ExecutionState(name).terminal is ProposalState(name).terminal for name in shared)


@pytest.mark.parametrize("states", [ProposalState, ExecutionState, StageState, Outcome])
def test_a_state_is_stored_by_its_name_in_small_letters(states: type[StrEnum]) -> None:
    assert [state.value for state in states] == [state.name.lower() for state in states]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "prop_2"},
        {"cluster": "stage"},
        {"subject": Subject(cluster="prod", stream="ORDERS")},
        {"risk": RiskClass.LOW},
        {"stages": ()},
        {"stages": (OFFERED.stages[0].model_copy(update={"params": {"force": True}}),)},
        {"stages": (OFFERED.stages[0].model_copy(update={"preview": Preview(summary="x", blast_radius="", way_back="")}),)},
        {"world": {"consumer.leader": "n2"}},
        {"expires_at": NOW},
        {"requested_by": "ada"},
    ],
)  # fmt: skip
def test_whatever_would_run_otherwise_voids_the_approvals(change: dict[str, object]) -> None:
    assert OFFERED.model_copy(update=change).digest != OFFERED.digest


@pytest.mark.parametrize(
    "change",
    [
        {"state": ProposalState.APPROVED, "state_reason": "r"},
        {"title": "x", "why": "x", "cautions": ("x",)},
        {"reminded_at": NOW},
        {"escalations": (Escalation(group="leads", stands_for="owners", at=NOW),)},
        {"button": "btn_2"},
    ],
)
def test_what_is_only_told_leaves_the_approvals_as_they_are(change: dict[str, object]) -> None:
    assert OFFERED.model_copy(update=change).digest == OFFERED.digest
    assert len(OFFERED.digest) == 64


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"id": "prop_2", "button": "b", "expires_at": NOW, "created_at": NOW - timedelta(hours=1)}, True),
        ({"requested_by": "ada", "why": "x"}, True),
        ({"subject": Subject(cluster="prod", stream="ORDERS")}, False),
        ({"stages": ()}, False),
        ({"world": {"consumer.leader": "n2"}}, False),
        ({"guidance": ("look",)}, False),
        ({"title": "x"}, False),
        ({"state": ProposalState.PROPOSED}, False),
    ],
)
def test_two_proposals_are_the_same_offer_where_the_same_would_run_on_the_same_in_the_same_world(
    change: dict[str, object], same: bool
) -> None:
    assert (OFFERED.model_copy(update=change).offer == OFFERED.offer) is same


def test_an_edited_proposal_is_the_offer_of_which_it_is_an_edit() -> None:
    assert OFFERED.model_copy(update={"origin": "an offer", "world": {}}).offer == "an offer"


def test_guidance_cannot_be_run_and_a_stage_can() -> None:
    assert OFFERED.approvable is True
    assert proposal(guidance_only=True).approvable is False


def test_what_a_proposal_does_not_say_it_does_not_claim() -> None:
    preview = Preview(summary="s", blast_radius="b", way_back="w")
    bare = Proposal(
        id=ProposalId("p"),
        incident_id=IncidentId("i"),
        diagnosis_id=DiagnosisId("d"),
        cluster="prod",
        subject=Subject(cluster="prod"),
        title="t",
        why="w",
        risk=RiskClass.LOW,
        stages=(Stage(kind="k", params={}, risk=RiskClass.LOW, preview=preview),),
        world={},
        state=ProposalState.PROPOSED,
        button="b",
        created_at=NOW,
        expires_at=NOW,
    )
    said = bare.model_dump(exclude=set(bare.model_fields_set))
    assert said == {
        "guidance": (),
        "rung": None,
        "cautions": (),
        "patches": (),
        "tunables": (),
        "origin": "",
        "state_reason": "",
        "requested_by": None,
        "superseded_by": None,
        "reminded_at": None,
        "escalations": (),
    }
    assert (preview.diff, preview.effects) == ("", ())
    assert Rung(not_enough="n", go_on="g").problem == ""
    assert Patch(name="n", text="t").model_fields_set == {"name", "text"}


def test_what_was_not_run_yet_has_no_past() -> None:
    run = StageRun(index=0, state=StageState.WAITING, operation_id=OperationId("op"))
    assert run.model_dump(exclude={"index", "state", "operation_id"}) == {
        "intended_at": None,
        "applied_at": None,
        "ended_at": None,
        "sent": 0,
        "before": {},
        "after": {},
        "before_image": {},
        "sentence": "",
    }
    execution = Execution(
        id=ExecutionId("e"),
        proposal_id=ProposalId("p"),
        incident_id=IncidentId("i"),
        cluster="prod",
        state=ExecutionState.QUEUED,
        stages=(run,),
        started_at=NOW,
    )
    assert (execution.fence, execution.ended_at, execution.sentence) == (0, None, "")
    assert Verification(outcome=Outcome.FAILED, sentence="s").model_dump(include={"numbers", "final"}) == {
        "numbers": {},
        "final": False,
    }
