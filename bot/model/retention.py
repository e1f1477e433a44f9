"""What is kept no longer: which things, from when on, and how many there are."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import Moment, Record


class Aged(StrEnum):
    """What grows too old."""

    INCIDENTS = "incidents"
    """Those that are over, with all that is theirs; their age counts from their last change."""
    SNAPSHOTS = "snapshots"
    """Their age counts from when they were taken."""
    DELIVERIES = "deliveries"
    """Those on which no incident rests; their age counts from when they came in."""


class Horizon(Record):
    """Before these moments things are too old to keep; None keeps them for ever."""

    incidents: Moment | None = None
    snapshots: Moment | None = None
    deliveries: Moment | None = None

    def of(self, aged: Aged) -> Moment | None:
        """Return the moment for one of them."""
        return {
            Aged.INCIDENTS: self.incidents,
            Aged.SNAPSHOTS: self.snapshots,
            Aged.DELIVERIES: self.deliveries,
        }[aged]


class Overdue(Record):
    """How many are too old."""

    incidents: int = 0
    snapshots: int = 0
    deliveries: int = 0

    def __str__(self) -> str:
        """Return what a sentence says of them."""
        return f"{self.incidents} incidents, {self.snapshots} snapshots, {self.deliveries} webhook requests"
