"""What is remembered of a person's second factor: which code was used last, and which were wrong."""

from __future__ import annotations

from bot.model.base import Moment, Record


class Factor(Record):
    id: str
    """The person's key."""
    step: int = 0
    """The time step (of 30 s since 1970) whose code was used last; neither it nor an older one is taken again."""
    wrong: tuple[Moment, ...] = ()
    """When codes that were wrong were sent, as long as they count."""
