"""An alert as a source delivered it, and the delivery (one webhook request) that carried it. All texts are untrusted."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import AlertId, DeliveryId, IncidentId, Moment, Record


class AlertState(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


class Delivery(Record):
    """One webhook request, durable before it is answered; `processed_at` is set once its alerts are in incidents."""

    id: DeliveryId
    source: str
    received_at: Moment
    body: str
    processed_at: Moment | None = None


class Alert(Record):
    """One alert of one delivery. `(source, fingerprint, starts_at)` names an episode of it."""

    id: AlertId
    delivery_id: DeliveryId
    incident_id: IncidentId | None = None
    source: str
    fingerprint: str
    state: AlertState
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: Moment
    ends_at: Moment | None
    received_at: Moment
    truncated: int = 0
    """How many alerts the sender left out of the same delivery (Alertmanager's truncatedAlerts)."""
