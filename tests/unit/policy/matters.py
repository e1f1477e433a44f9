"""Records that policy tests decide on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bot.model import (
    Approval,
    ApprovalId,
    Choice,
    DiagnosisId,
    IncidentId,
    Person,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    SlackUser,
    Stage,
    Subject,
)
from bot.settings import GroupSettings, PolicySettings

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1",)), "owners": GroupSettings(users=("U2",))},
    approvers={
        RiskClass.LOW: ("operators",),
        RiskClass.MEDIUM: ("operators",),
        RiskClass.DESTRUCTIVE: ("operators", "owners"),
    },
)


def proposal(
    risk: RiskClass = RiskClass.DESTRUCTIVE,
    state: ProposalState = ProposalState.PENDING,
    requested_by: str | None = None,
    guidance_only: bool = False,
) -> Proposal:
    preview = Preview(summary="s", blast_radius="one consumer", way_back="none")
    stage = Stage(kind="consumer.delete", params={}, risk=risk, preview=preview)
    return Proposal(
        id=ProposalId("prop_1"),
        incident_id=IncidentId("inc_1"),
        diagnosis_id=DiagnosisId("diag_1"),
        cluster="prod",
        subject=Subject(cluster="prod", account="APP", stream="ORDERS", consumer="worker"),
        title="t",
        why="w",
        risk=risk,
        stages=() if guidance_only else (stage,),
        world={},
        state=state,
        button="btn_1",
        requested_by=requested_by,
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )


def person(key: str, *groups: str, **flags: object) -> Person:
    facts: dict[str, object] = {
        "user": SlackUser(team_id="T1", user_id=f"U{key.upper()}"),
        "key": key,
        "human": True,
        "active": True,
        "guest": False,
        "home_workspace": True,
        "groups": frozenset(groups),
        "looked_up_at": NOW,
    }
    return Person.model_validate(facts | flags)


def approval(of: Proposal, who: Person, choice: Choice = Choice.APPROVE) -> Approval:
    return Approval(
        id=ApprovalId(f"app_{who.key}"),
        proposal_id=of.id,
        proposal_digest=of.digest,
        choice=choice,
        user=who.user,
        person=who.key,
        groups=tuple(sorted(who.groups)),
        reason="because",
        at=NOW,
    )
