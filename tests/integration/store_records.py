"""Records with plausible values, for the store's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bot.model import (
    Alert,
    AlertId,
    AlertState,
    Approval,
    ApprovalId,
    AuditDraft,
    Choice,
    Delivery,
    DeliveryId,
    Diagnosis,
    DiagnosisId,
    Execution,
    ExecutionId,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Severity,
    SlackUser,
    Subject,
    Verdict,
)
from bot.ports import Store
from tests.unit.charts import bars, lines, matrix

NOW = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)


class FixedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def delivery(name: str = "1", *, processed: bool = False) -> Delivery:
    return Delivery(
        id=DeliveryId(f"dlv_{name}"), source="am", received_at=NOW, body="{}", processed_at=NOW if processed else None
    )


def incident(
    name: str = "1", *, fingerprint: str = "f1", state: IncidentState = IncidentState.OPEN, starts_at: datetime = NOW
) -> Incident:
    return Incident(
        id=IncidentId(f"inc_{name}"),
        cluster="prod",
        source="am",
        fingerprint=fingerprint,
        starts_at=starts_at,
        opened_at=NOW,
        updated_at=NOW,
        state=state,
        title="Consumer stuck",
        channel="C1",
        labels={"stream": "ORDERS"},
        annotations={"summary": "späť \u202e <!channel>"},
    )


def alert(name: str = "1", *, incident_id: str | None = None, starts_at: datetime = NOW) -> Alert:
    return Alert(
        id=AlertId(f"alr_{name}"),
        delivery_id=DeliveryId("dlv_1"),
        incident_id=IncidentId(incident_id) if incident_id else None,
        source="am",
        fingerprint="f1",
        state=AlertState.FIRING,
        name="ConsumerStuck",
        labels={},
        annotations={},
        starts_at=starts_at,
        ends_at=None,
        received_at=NOW,
    )


def diagnosis(name: str = "1") -> Diagnosis:
    verdict = Verdict(severity=Severity.UNKNOWN, root=None, sentence="Nothing could be read.")
    return Diagnosis(
        id=DiagnosisId(f"dia_{name}"),
        incident_id=IncidentId("inc_1"),
        runbook="E",
        snapshot_id=None,
        started_at=NOW,
        ended_at=NOW,
        verdict=verdict,
        findings=(),
        charts=(matrix(), lines(), bars()),
    )


def proposal(name: str = "1", *, state: ProposalState = ProposalState.PENDING, button: str | None = None) -> Proposal:
    return Proposal(
        id=ProposalId(f"prop_{name}"),
        incident_id=IncidentId("inc_1"),
        diagnosis_id=DiagnosisId("dia_1"),
        cluster="prod",
        subject=Subject(cluster="prod", stream="ORDERS"),
        title="Recreate the consumer",
        why="It has no leader.",
        risk=RiskClass.DESTRUCTIVE,
        stages=(),
        world={"consumer.leader": None},
        state=state,
        button=button or f"btn_{name}",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )


def approval(name: str = "1", *, person: str = "ana") -> Approval:
    return Approval(
        id=ApprovalId(f"apr_{name}"),
        proposal_id=ProposalId("prop_1"),
        proposal_digest="d" * 64,
        choice=Choice.APPROVE,
        user=SlackUser(team_id="T1", user_id="U1"),
        person=person,
        groups=("sre",),
        reason="looked at it",
        at=NOW,
    )


def execution(name: str = "1", *, state: ExecutionState = ExecutionState.QUEUED) -> Execution:
    return Execution(
        id=ExecutionId(f"exec_{name}"),
        proposal_id=ProposalId("prop_1"),
        incident_id=IncidentId("inc_1"),
        cluster="prod",
        state=state,
        stages=(),
        started_at=NOW,
    )


def draft(sentence: str = "Something happened.", **data: object) -> AuditDraft:
    return AuditDraft(
        kind="test.noted", actor="bot", incident_id="inc_1", subject="prop_1", sentence=sentence, data=data
    )


async def filled(store: Store) -> None:
    """Store one open incident with its delivery, alert, diagnosis and proposal."""
    async with store.begin() as tx:
        for record in (delivery(), incident(), alert(incident_id="inc_1"), diagnosis(), proposal()):
            await tx.put(record)
