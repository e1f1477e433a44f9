"""How much time a proposal has left: an upper bound that is lowered in a few steps, so that a message says nothing wrong between two edits.

Slack's own `<!date^…^{ago}>` is documented for moments of the past only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from bot.adapters.slack.waits import Wait
from bot.model import IncidentId, Proposal, ProposalState
from bot.ports import Clock, Store

STEPS: Final = (60, 30, 15, 10, 5, 1)
"""Minutes, descending. Two messages show it, so one proposal costs twelve edits at most, of about 50 a minute for all threads (reference/chatops.md 5)."""
LOOK_SECONDS: Final = 15
"""How old the list of proposals may be whose change this process has not seen, because another one has drawn it."""

Bounds = tuple[int | None, ...]


def bound(expires_at: datetime, now: datetime) -> int | None:
    """Return the lowest step that is not below what is left; None where more than the highest is left."""
    return min((step for step in STEPS if expires_at - now <= timedelta(minutes=step)), default=None)


def time_left(expires_at: datetime, now: datetime) -> str:
    """Return ` (at most 15 min left)`; empty where more than the highest step is left."""
    found = bound(expires_at, now)
    return f" (at most {found} min left)" if found is not None else ""


class Countdown:
    """Which threads show a bound that is too high by now."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.offers: Sequence[Proposal] = ()
        """Proposals that are not over."""
        self._read: Wait | None = None
        """How long `offers` are good enough where nothing has changed."""
        self._drawn: dict[IncidentId, Bounds] = {}

    async def due(self, *, changed: bool) -> list[IncidentId]:
        """Return the threads to draw; `changed` where any thread has changed. Raises `StoreError`."""
        now = self._clock.now()
        if changed or self._read is None or not self._read.lasts(now):
            self.offers = await self._store.proposals(active_only=True)
            self._read = Wait(now, now + timedelta(seconds=LOOK_SECONDS))
        wanted: dict[IncidentId, Bounds] = {}
        for one in self._waiting():
            wanted[one.incident_id] = (*wanted.get(one.incident_id, ()), bound(one.expires_at, now))
        self._drawn = {incident: bounds for incident, bounds in self._drawn.items() if incident in wanted}
        return [incident for incident, bounds in wanted.items() if self._drawn.get(incident) != bounds]

    def bounds(self, incident: IncidentId) -> Bounds:
        """Return what the thread would show if it were drawn now."""
        now = self._clock.now()
        return tuple(bound(one.expires_at, now) for one in self._waiting() if one.incident_id == incident)

    def drawn(self, incident: IncidentId, bounds: Bounds) -> None:
        """Remember what a thread shows that was drawn whole since `bounds` were asked for."""
        self._drawn[incident] = bounds

    def _waiting(self) -> Iterator[Proposal]:
        return (one for one in self.offers if one.approvable and one.state is ProposalState.PENDING)
