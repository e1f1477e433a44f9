"""One trace per incident, made of the records that are committed (port `Meter`).

Every record has its times and says what it belongs to, so spans are made from it when it is final, and nothing needs to be carried from phase to phase: a
crash between two, or another replica that goes on, tears no trace. The ids of traces and spans are derived from the records' ids for the same reason.
Attributes are ids, codes and counts of ours; no sentence, name or label from outside is among them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context
from structlog.contextvars import get_contextvars

from bot.model import (
    Alert,
    Approval,
    Delivery,
    Diagnosis,
    Execution,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    StageRun,
    StageState,
)
from bot.ports import Call, Commit, System, began

Attributes = dict[str, str | int]

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
"""Of their ids (W3C Trace Context, traceparent)."""
REMEMBERED: Final = 256
"""Incidents whose looks at the cluster are kept until their diagnosis is committed; more than run at once."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BAD: Final = frozenset({StageState.FAILED, StageState.NOT_APPLIED, StageState.UNKNOWN, StageState.ROLLED_BACK})


class _DerivedIds(IdGenerator):
    """Hands out the ids that the next span shall have."""

    def __init__(self) -> None:
        self.trace = self.span = 1

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


def provider_for(version: str) -> TracerProvider:
    """Return a provider for `SpanMeter`, without a processor yet. Everything is sampled: there are a few spans per incident."""
    resource = Resource.create({SERVICE_NAME: "natsmedic", SERVICE_VERSION: version})
    return TracerProvider(resource=resource, id_generator=_DerivedIds(), sampler=ALWAYS_ON)


class SpanMeter:
    """Makes spans. `provider` is one of `provider_for`; another one would give them other ids."""

    def __init__(self, provider: TracerProvider) -> None:
        if not isinstance(provider.id_generator, _DerivedIds):
            raise TypeError("A provider of provider_for is needed: its ids are derived from the records.")
        self._ids = provider.id_generator
        self._tracer = provider.get_tracer("natsmedic")
        self._looks: OrderedDict[str, list[tuple[int, int]]] = OrderedDict()

    def committed(self, commit: Commit) -> None:
        """Make the spans of what is final now."""
        self._taken_in(commit)
        self._diagnosed(commit)
        self._decided(commit)
        self._executed(commit)

    def called(self, call: Call) -> None:
        """Remember a look at the cluster until the diagnosis that it was for is committed."""
        incident = get_contextvars().get("incident")
        if call.system is System.NATS and call.operation == "gather" and isinstance(incident, str):
            ended = time.time_ns()
            self._looks.setdefault(incident, []).append((ended - int(call.seconds * 1e9), ended))
            while len(self._looks) > REMEMBERED:
                self._looks.popitem(last=False)

    def shown(self, incident: Incident, at: datetime) -> None:
        """The thread is there."""
        self._span(incident.id, "thread", f"thread {incident.id}", (_ns(began(incident)), _ns(at)), {})

    def _taken_in(self, commit: Commit) -> None:
        opened = {after.id: after for before, after in commit.of(Incident) if _begins(before, after)}
        deliveries = [after for _, after in commit.of(Delivery) if after.processed_at is not None]
        for _, alert in commit.of(Alert):
            incident = opened.pop(alert.incident_id, None) if alert.incident_id is not None else None
            if incident is None:
                continue
            times = (_ns(alert.received_at), _ns(began(incident)))
            about: Attributes = {"natsmedic.alert": alert.id, "natsmedic.cluster": incident.cluster or ""}
            self._span(incident.id, "alert", None if not incident.relapses else f"alert {alert.id}", times, about)
            for delivery in deliveries:
                if delivery.id == alert.delivery_id and delivery.processed_at is not None:
                    times = (_ns(delivery.received_at), _ns(delivery.processed_at))
                    key = f"intake {incident.id} {delivery.id}"
                    self._span(incident.id, "intake", key, times, {"natsmedic.delivery": delivery.id})

    def _diagnosed(self, commit: Commit) -> None:
        for before, diagnosis in commit.of(Diagnosis):
            if before is not None:
                continue
            about: Attributes = {
                "natsmedic.diagnosis": diagnosis.id,
                "natsmedic.runbook": diagnosis.runbook,
                "natsmedic.severity": diagnosis.verdict.severity.value,
                "natsmedic.findings": len(diagnosis.findings),
                "natsmedic.reason": diagnosis.reason.partition(" ")[0],
            }
            times = (_ns(diagnosis.started_at), _ns(diagnosis.ended_at))
            self._span(diagnosis.incident_id, "diagnosis", diagnosis.id, times, about)
            for number, look in enumerate(self._looks.pop(diagnosis.incident_id, ())):
                self._span(
                    diagnosis.incident_id, "gather", f"gather {number} {diagnosis.id}", look, {}, parent=diagnosis.id
                )

    def _decided(self, commit: Commit) -> None:
        for before, approval in commit.of(Approval):
            incident = next((after for _, after in commit.of(Incident)), None)
            if before is not None or incident is None:
                continue
            proposal = commit.one(Proposal, approval.proposal_id)
            asked = proposal.created_at if proposal is not None else approval.at
            about: Attributes = {
                "natsmedic.proposal": approval.proposal_id,
                "natsmedic.decision": approval.choice.value,
            }
            times = (_ns(asked), _ns(approval.at))
            parent = proposal.diagnosis_id if proposal is not None else None
            self._span(incident.id, "approval", approval.id, times, about, parent=parent)

    def _executed(self, commit: Commit) -> None:
        for before, execution in commit.of(Execution):
            over = execution.state.terminal and (before is None or not before.state.terminal)
            if not over or execution.ended_at is None:
                continue
            about: Attributes = {
                "natsmedic.proposal": execution.proposal_id,
                "natsmedic.execution": execution.id,
                "natsmedic.outcome": execution.state.value,
            }
            times = (_ns(execution.started_at), _ns(execution.ended_at))
            self._span(execution.incident_id, "execution", execution.id, times, about)
            proposal = commit.one(Proposal, execution.proposal_id)
            for run in execution.stages:
                kind = proposal.stages[run.index].kind if proposal is not None else ""
                self._stage(execution, run, kind)

    def _stage(self, execution: Execution, run: StageRun, kind: str) -> None:
        """A stage is `stage` until it is applied, and `verify` until reality shows it; one that never began is none."""
        if run.intended_at is None:
            return
        ended = run.ended_at or execution.ended_at or run.intended_at
        about: Attributes = {
            "natsmedic.action": kind,
            "natsmedic.operation": run.operation_id,
            "natsmedic.sent": run.sent,
        }
        about["natsmedic.outcome"] = run.state.value
        bad = run.state in _BAD
        times = (_ns(run.intended_at), _ns(run.applied_at or ended))
        self._span(
            execution.incident_id,
            "stage",
            run.operation_id,
            times,
            about,
            parent=execution.id,
            bad=bad and run.applied_at is None,
        )
        if run.applied_at is not None:
            times = (_ns(run.applied_at), _ns(ended))
            key = f"verify {run.operation_id}"
            self._span(execution.incident_id, "verify", key, times, about, parent=execution.id, bad=bad)

    def _span(
        self,
        incident: IncidentId,
        name: str,
        key: str | None,
        times: tuple[int, int],
        about: Attributes,
        *,
        parent: str | None = None,
        bad: bool = False,
    ) -> None:
        """Make one span, below that of the record `parent`, or below the incident's first; without a key it is that first one."""
        trace, first = _derived(incident, TRACE_BYTES), _derived(incident, SPAN_BYTES)
        above = first if parent is None else _derived(parent, SPAN_BYTES)
        self._ids.trace, self._ids.span = trace, first if key is None else _derived(key, SPAN_BYTES)
        span = self._tracer.start_span(
            name,
            context=Context() if key is None else _below(trace, above),
            attributes={"natsmedic.incident": incident, **about},
            start_time=times[0],
        )
        if bad:
            span.set_status(Status(StatusCode.ERROR))
        span.end(max(times))


def _begins(before: Incident | None, after: Incident) -> bool:
    return before is None or (after.state is IncidentState.OPEN and len(after.relapses) > len(before.relapses))


def _below(trace: int, span: int) -> Context:
    context = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(context), Context())


def _derived(key: str, size: int) -> int:
    return int.from_bytes(sha256(key.encode()).digest()[:size])


def _ns(moment: datetime) -> int:
    """Nanoseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND * 1000
