"""A freeze: nothing new is sent to what it covers until it is over or two people have lifted it (design/safety.md, Approving 5)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from bot.model.base import FreezeId, Moment, Record

LIFTERS: Final = 2
"""Different people who must lift a freeze; one may set it."""


class Lift(Record):
    """One person's word that a freeze may end."""

    person: str
    reason: str
    at: Moment


class Freeze(Record):
    """Covers everything, one cluster, one kind of action, or one kind on one cluster."""

    id: FreezeId
    cluster: str | None = None
    action: str | None = None
    """An action's kind, e.g. `consumer.delete`."""
    reason: str
    person: str
    at: Moment
    until: Moment | None = None
    """None: until it is lifted."""
    lifts: tuple[Lift, ...] = ()

    def active(self, now: datetime) -> bool:
        """Return whether it still holds."""
        return not self.lifted and (self.until is None or now < self.until)

    @property
    def lifted(self) -> bool:
        """Whether enough different people have lifted it."""
        return len({lift.person for lift in self.lifts}) >= LIFTERS

    def covers(self, cluster: str, action: str) -> bool:
        """Return whether an action of this kind on that cluster is stopped by it."""
        return self.cluster in {None, cluster} and self.action in {None, action}

    def __str__(self) -> str:
        what = " of ".join(part for part in (self.action, self.cluster) if part) or "everything"
        until = f"until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else "until it is lifted"
        return f"{what} is frozen {until} by {self.person}: {self.reason}"
