"""Records as a busy incident leaves them, with any text anybody could put into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bot.adapters.slack.wanted import Case, ProposalCase
from bot.model import (
    Approval,
    ApprovalId,
    Choice,
    Diagnosis,
    DiagnosisId,
    Execution,
    ExecutionId,
    ExecutionState,
    Finding,
    Incident,
    IncidentId,
    IncidentState,
    Layer,
    OperationId,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Severity,
    SlackUser,
    SnapshotId,
    Stage,
    StageRun,
    StageState,
    Subject,
    Verdict,
)
from bot.settings import GroupSettings, PolicySettings
from tests.unit.charts import matrix

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U0ADA",)), "owners": GroupSettings(usergroups=("S0OWN",))},
    approvers={
        RiskClass.LOW: ("operators",),
        RiskClass.MEDIUM: ("operators",),
        RiskClass.DESTRUCTIVE: ("operators", "owners"),
    },
)


def incident(words: str = "Consumer stuck", state: IncidentState = IncidentState.OPEN) -> Incident:
    return Incident(
        id=IncidentId("inc_1"),
        cluster="prod",
        source="alertmanager",
        fingerprint="f1",
        starts_at=NOW,
        opened_at=NOW,
        updated_at=NOW,
        state=state,
        title=words,
        channel="C0OPS",
        labels={words[:40] or "label": words},
        annotations={"summary": words},
        note=words or None,
        firing_count=3,
        truncated=2,
        last_diagnosis=DiagnosisId("diag_1"),
    )


def finding(words: str, severity: Severity = Severity.CRITICAL, stream: str | None = None) -> Finding:
    return Finding(
        check="CONSUMER_SPLIT",
        layer=Layer.CONSUMERS,
        subject=Subject(cluster="prod", account="APP", stream=stream or words, consumer=words),
        severity=severity,
        sentence=words,
        issue=words or None,
    )


def diagnosis(words: str = "The consumer has no leader.", count: int = 9) -> Diagnosis:
    root = finding(words)
    consequences = tuple(finding(words, stream=f"S{i}") for i in range(count))
    unknown = tuple(finding(words, Severity.UNKNOWN, stream=f"X{i}") for i in range(count))
    verdict = Verdict(severity=Severity.CRITICAL, root=root, sentence=words, consequences=consequences, others=unknown)
    return Diagnosis(
        id=DiagnosisId("diag_1"),
        incident_id=IncidentId("inc_1"),
        runbook="stuck-consumer",
        snapshot_id=SnapshotId("snap_1"),
        snapshot_digest="ab" * 32,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=1.25),
        verdict=verdict,
        findings=(root, *consequences, *unknown),
        charts=(matrix(words),),
    )


def proposal(
    words: str = "Recreate the consumer",
    state: ProposalState = ProposalState.PENDING,
    *,
    stages: int = 2,
    risk: RiskClass = RiskClass.DESTRUCTIVE,
) -> Proposal:
    preview = Preview(summary=words, diff=words, blast_radius=words, effects=(words, words), way_back=words)
    return Proposal(
        id=ProposalId("prop_1"),
        incident_id=IncidentId("inc_1"),
        diagnosis_id=DiagnosisId("diag_1"),
        cluster="prod",
        subject=Subject(cluster="prod", account="APP", stream="ORDERS", consumer="worker"),
        title=words,
        why=words,
        risk=risk,
        stages=tuple(
            Stage(kind="consumer.recreate", params={"x": words}, risk=risk, preview=preview) for _ in range(stages)
        ),
        guidance=() if stages else (words, words),
        cautions=(words,),
        world={"consumer.leader": words},
        state=state,
        state_reason=words,
        button="btn_opaque",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )


def approval(
    offered: Proposal, words: str = "looked at it", user: str = "U0ADA", choice: Choice = Choice.APPROVE
) -> Approval:
    return Approval(
        id=ApprovalId(f"app_{user}"),
        proposal_id=offered.id,
        proposal_digest=offered.digest,
        choice=choice,
        user=SlackUser(team_id="T0LAB", user_id=user),
        person=f"person-{user}",
        groups=("operators",),
        reason=words,
        at=NOW,
    )


def execution(words: str = "ok", stages: int = 2, state: ExecutionState = ExecutionState.APPLYING) -> Execution:
    runs = tuple(
        StageRun(
            index=i,
            state=list(StageState)[i % len(StageState)],
            operation_id=OperationId(f"op_{i}"),
            intended_at=NOW,
            sent=2,
            before={"ack floor": 90, words[:50] or "n": words},
            after={"ack floor": 95, words[:50] or "n": None},
            sentence=words,
        )
        for i in range(stages)
    )
    return Execution(
        id=ExecutionId("exec_1"),
        proposal_id=ProposalId("prop_1"),
        incident_id=IncidentId("inc_1"),
        cluster="prod",
        state=state,
        stages=runs,
        started_at=NOW,
        sentence=words,
    )


def case(words: str, count: int = 9, stages: int = 2, state: ProposalState = ProposalState.PENDING) -> Case:
    """Everything an incident can have, with `words` wherever text from outside can stand."""
    offered = proposal(words, state, stages=stages)
    entry = ProposalCase(proposal=offered, approvals=(approval(offered, words),), execution=execution(words, stages))
    return Case(incident(words), (diagnosis(words, count),), (entry,), lock_holder=words or None)
