"""The open case: folds an alert's repeats, owns one thread, and says how far the bot has come."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import DiagnosisId, IncidentId, Moment, Record


class IncidentState(StrEnum):
    OPEN = "open"
    """The alert fires, or its repair is not verified."""
    CLEARED = "cleared"
    """The sender says resolved; the bot has not verified it itself."""
    VERIFIED = "verified"
    """The bot has read that the condition is gone."""
    CLOSED = "closed"
    """Nothing more is expected; a new episode opens a new incident."""


class Incident(Record):
    """`revision` grows with every change a thread should show; the chat draws until its own revision has caught up."""

    id: IncidentId
    cluster: str | None
    """None where no configured cluster matches the alert's labels."""
    source: str
    fingerprint: str
    starts_at: Moment
    opened_at: Moment
    updated_at: Moment
    state: IncidentState
    title: str
    channel: str
    labels: dict[str, str]
    annotations: dict[str, str]
    firing_count: int = 1
    """Deliveries in which the alert was firing, repeats included."""
    truncated: int = 0
    last_diagnosis: DiagnosisId | None = None
    requested_by: str | None = None
    """Person key of whoever asked for it, where a person did; such a person approves no proposal of it (design/safety.md, Approving 2)."""
    note: str | None = None
    """One sentence about something the bot could not do, e.g. no cluster matches."""
    revision: int = 1
