"""One run of one runbook over one snapshot: what it found, the verdict, and the charts that show it."""

from __future__ import annotations

from bot.model.base import DiagnosisId, IncidentId, Moment, Record, SnapshotId
from bot.model.chart import Chart
from bot.model.finding import Finding, Verdict


class Diagnosis(Record):
    """One run of one runbook over one snapshot."""

    id: DiagnosisId
    incident_id: IncidentId
    runbook: str
    snapshot_id: SnapshotId | None
    """None where nothing could be read at all."""
    snapshot_digest: str | None = None
    started_at: Moment
    ended_at: Moment
    verdict: Verdict
    findings: tuple[Finding, ...]
    reason: str = "alert"
    """Why it ran: `alert`, `after execution exec_…`, `relapse …`, `changed …`, `sender resolved …`, `asked …` by a person."""
    charts: tuple[Chart, ...] = ()
    """Kept as data with the verdict they show: drawing a thread again then reads no archive, and a newer program changes no old thread."""
