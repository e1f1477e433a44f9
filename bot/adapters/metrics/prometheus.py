"""Turns commits and calls into counters and histograms (port `Meter`). Every label is a word of ours; see `words`."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry

from bot.adapters.metrics.families import Families
from bot.adapters.metrics.words import Words
from bot.model import (
    Alert,
    AlertState,
    Approval,
    Delivery,
    Diagnosis,
    Execution,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    StageState,
)
from bot.ports import Call, Commit, began

REFUSED: Final = frozenset({"click.refused", "command.refused"})
_BEGINNINGS: Final = ("alert", "relapse ")
"""Reasons of the diagnosis that an episode begins with (bot/flow/intake.py)."""
_OVER: Final = frozenset({IncidentState.VERIFIED, IncidentState.CLOSED})


class PrometheusMeter:
    """Counts into a registry of its own."""

    def __init__(self, registry: CollectorRegistry, words: Words) -> None:
        self.families = Families(registry)
        self._words = words

    def built(self, version: str, mode: str) -> None:
        """Say which program runs."""
        self.families.info.labels(version, platform.python_version(), mode).set(1)

    def committed(self, commit: Commit) -> None:
        """Count what a transaction has written."""
        self._taken_in(commit)
        self._diagnosed(commit)
        self._decided(commit)
        self._executed(commit)

    def called(self, call: Call) -> None:
        """Count and measure a call."""
        self.families.calls.labels(call.system, call.cluster, call.operation, call.end).inc()
        self.families.call_seconds.labels(call.system, call.cluster, call.operation).observe(call.seconds)

    def shown(self, incident: Incident, at: datetime) -> None:
        """Measure how long people waited for the thread."""
        self.families.to_thread.observe(_seconds(began(incident), at))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request; `route` is the path as the app declares it."""
        self.families.requests.labels(route, str(status)).inc()
        self.families.request_seconds.labels(route).observe(seconds)

    def _taken_in(self, commit: Commit) -> None:
        for before, delivery in commit.of(Delivery):
            if before is None:
                self.families.deliveries.labels(self._words.source(delivery.source)).inc()
        before_of = {incident.id: was for was, incident in commit.of(Incident)}
        seen: set[IncidentId] = set()
        for _, alert in commit.of(Alert):
            outcome = _outcome(alert, before_of, first=alert.incident_id not in seen)
            if alert.incident_id is not None:
                seen.add(alert.incident_id)
            self.families.alerts.labels(self._words.source(alert.source), outcome).inc()
        for before, incident in commit.of(Incident):
            if before is None or before.state is not incident.state:
                self.families.incidents.labels(incident.state).inc()

    def _diagnosed(self, commit: Commit) -> None:
        for before, diagnosis in commit.of(Diagnosis):
            if before is not None:
                continue
            runbook = self._words.runbook(diagnosis.runbook)
            self.families.diagnoses.labels(runbook, diagnosis.verdict.severity).inc()
            for finding in diagnosis.findings:
                self.families.findings.labels(self._words.check(finding.check), finding.severity).inc()
            incident = commit.one(Incident, diagnosis.incident_id)
            if incident is None:
                continue
            if diagnosis.reason.startswith(_BEGINNINGS):
                self.families.to_verdict.observe(_seconds(began(incident), diagnosis.ended_at))
            elif diagnosis.reason.startswith("after ") and incident.state in _OVER:
                self.families.to_verified.observe(_seconds(began(incident), diagnosis.ended_at))

    def _decided(self, commit: Commit) -> None:
        for before, proposal in commit.of(Proposal):
            if before is None or before.state is not proposal.state:
                self.families.proposals.labels(proposal.state, proposal.risk).inc()
        for before, approval in commit.of(Approval):
            if before is None:
                self.families.approvals.labels(approval.choice).inc()
        for reason in _reasons(commit):
            self.families.refusals.labels(self._words.reason(reason)).inc()

    def _executed(self, commit: Commit) -> None:
        for before, execution in commit.of(Execution):
            if before is None:
                incident = commit.one(Incident, execution.incident_id)
                if incident is not None:
                    self.families.to_approval.observe(_seconds(began(incident), execution.started_at))
            if not execution.state.terminal or (before is not None and before.state.terminal):
                continue
            self.families.executions.labels(execution.state).inc()
            proposal = commit.one(Proposal, execution.proposal_id)
            stages = proposal.stages if proposal is not None else ()
            for run in execution.stages:
                if run.state is not StageState.SKIPPED:
                    kind = self._words.action(stages[run.index].kind if run.index < len(stages) else "")
                    self.families.actions.labels(kind, run.state).inc()


def _outcome(alert: Alert, before: Mapping[IncidentId, Incident | None], *, first: bool) -> str:
    """Return what became of an alert: `opened` or `reopened` an incident, `folded` into an open one, `resolved` it, or was `unmatched` by any.

    `before` has what a commit changed, as it was; of several alerts of one incident in it the `first` one did that.
    """
    if alert.incident_id is None:
        return "unmatched"
    if alert.state is AlertState.RESOLVED:
        return "resolved"
    if not first or alert.incident_id not in before:
        return "folded"
    was = before[alert.incident_id]
    if was is None:
        return "opened"
    return "folded" if was.state is IncidentState.OPEN else "reopened"


def _reasons(commit: Commit) -> Iterator[str]:
    """Yield the reasons of refusals; a form with several mistakes has several."""
    for entry in commit.audited:
        if entry.kind in REFUSED:
            yield from str(entry.data.get("code") or "").split(", ")


def _seconds(since: datetime, until: datetime) -> float:
    """Return the time between; clocks that were set back make none."""
    return max(0.0, (until - since).total_seconds())
