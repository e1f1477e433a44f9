"""An alert as a source delivered it, and the delivery (one webhook request) that carried it. All texts are untrusted."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import AlertId, DeliveryId, IncidentId, Moment, Record


class AlertState(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


class Progress(Record):
    """How far the alerts of a delivery are in incidents. They are taken page-worthy ones first."""

    pages: int = 0
    """Its first alerts, which are taken before the alerts of all other deliveries."""
    folded: int = 0
    """Alerts that are in incidents."""
    due: tuple[str, ...] = ()
    """Keys of diagnoses that its alerts ask for and that may not have been started yet."""
    processed_at: Moment | None = None
    """Set once nothing is left to do."""

    @property
    def urgent(self) -> bool:
        """Whether it stands before the others in the queue."""
        return self.processed_at is None and (self.folded < self.pages or bool(self.due))


class Delivery(Progress):
    """One webhook request, durable before it is answered."""

    id: DeliveryId
    source: str
    received_at: Moment
    body: str


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
