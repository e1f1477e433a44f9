"""Which threads show less than the store holds, found without a look at every incident that there ever was.

The chat asks every second. An incident that was drawn and has not changed since needs no second look, and whatever changes bears the time of its change in an
indexed column. So a look goes through what has changed since shortly before the last look, and through what was behind then; now and then it goes through
everything, and so does the first one of a process: whatever the clocks of several replicas do, a thread that was overlooked is found then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.rows import DrawnRow, IncidentRow, StormMemberRow, moment_text
from bot.adapters.database.transaction import HAS_THREAD
from bot.model import IncidentId
from bot.ports import Clock

MARGIN: Final = timedelta(minutes=10)
"""Between the time that a change bears and its commit: a transaction waits its turn for 10 s at most (connection.py, QUEUE_SECONDS), and a replica may be
frozen inside it for 90 s or have a clock of its own (reference/safety.md 3.3).
"""
WHOLE: Final = timedelta(minutes=10)
"""From one look at everything to the next; it takes 0.2 s with 100,000 incidents (tests/bench/bench_restart.py)."""
MOST_NAMED: Final = 500
"""Incidents behind that the next look names one by one; where more are, it goes through everything."""


BEHIND: Final = (
    select(col(IncidentRow.id), col(IncidentRow.revision), col(IncidentRow.updated_at))
    .outerjoin(DrawnRow, col(DrawnRow.incident_id) == col(IncidentRow.id))
    .outerjoin(StormMemberRow, col(StormMemberRow.id) == col(IncidentRow.id))
    .where(col(IncidentRow.revision) > func.coalesce(col(DrawnRow.revision), 0), HAS_THREAD)
    .order_by(col(IncidentRow.updated_at), col(IncidentRow.id))
)


class Behind(NamedTuple):
    """An incident whose thread is behind: the revision that it has, and when it was changed last, as stored."""

    incident: IncidentId
    revision: int
    updated_at: str


@dataclass(frozen=True, slots=True)
class _Look:
    began: datetime
    whole_at: datetime
    """When everything was looked at last."""
    behind: tuple[IncidentId, ...]


class Threads:
    """Of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: _Look | None = None

    async def behind(self, session: AsyncSession) -> Sequence[Behind]:
        """Return the incidents whose revision is above the drawn one, oldest change first; those that only a storm's message shows are not among them."""
        now = self._clock.now()  # before the database is asked: what is committed meanwhile is the next look's
        last = self._last
        narrowed = None if last is None else _since(last, now)
        query = BEHIND if narrowed is None else BEHIND.where(narrowed)
        found = [Behind(IncidentId(one), revision, at) for one, revision, at in await session.execute(query)]
        whole_at = now if last is None or narrowed is None else last.whole_at
        self._last = _Look(now, whole_at, tuple(one.incident for one in found))
        return found


def _since(last: _Look, now: datetime) -> ColumnElement[bool] | None:
    """Return what the next look may be narrowed to; None where it goes through everything. A clock that was set back makes it begin earlier."""
    if not last.whole_at <= now < last.whole_at + WHOLE or len(last.behind) > MOST_NAMED:
        return None
    changed = col(IncidentRow.updated_at) >= moment_text(min(last.began, now) - MARGIN)
    return or_(changed, col(IncidentRow.id).in_(last.behind)) if last.behind else changed
