"""Until when something waits. A clock that is set back ends every wait: one that is too short costs Slack one more refusal, and one that is too long hides
threads from people (reference/safety.md 3.3, Clock).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """From a moment on, until another."""

    since: datetime
    until: datetime

    def lasts(self, now: datetime) -> bool:
        """Return whether there is still something to wait for."""
        return self.since <= now < self.until
