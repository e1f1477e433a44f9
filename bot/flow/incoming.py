"""What a source's parser makes of a webhook body. Every text is untrusted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from bot.model import AlertState, Record, page_worthy


class IncomingAlert(Record):
    """One alert as its source's parser read it."""

    fingerprint: str
    state: AlertState
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None


class ParsedDelivery(Record):
    """One webhook body; `truncated` is how many alerts the sender left out."""

    alerts: tuple[IncomingAlert, ...]
    truncated: int = 0
    cluster: str | None = None
    """The cluster it is about, where the source knows that of itself; labels choose it otherwise."""
    changed: bool = False
    """What is wrong is not what the source said before, so an incident that is open is diagnosed again."""
    asked_by: str | None = None
    """Person key, where a person asked for a look at the cluster: what is asked is diagnosed in every case, and its proposals bear that name."""
    event: str | None = None
    """The sender's id of this very event, where it has one: a second delivery of it is a repeat or a replay, and has no effect."""
    named_by_labels: bool = False
    """A fingerprint follows from the labels, so that a page-worthy alert and another are never the same one: they may be taken in another order."""

    @property
    def pages(self) -> int:
        """How many alerts are taken before the others and before those of other deliveries: page-worthy ones, and what a person waits for."""
        if self.asked_by is not None:
            return len(self.alerts)
        return sum(page_worthy(alert.labels) for alert in self.alerts) if self.named_by_labels else 0

    @property
    def in_order(self) -> tuple[IncomingAlert, ...]:
        """The alerts in the order in which they are taken; those of one fingerprint stay in theirs."""
        if not self.named_by_labels:
            return self.alerts
        return tuple(sorted(self.alerts, key=lambda alert: not page_worthy(alert.labels)))


Parser = Callable[[str], ParsedDelivery]
"""Reads a body; raises `BadInput` with one sentence that does not repeat the body."""
