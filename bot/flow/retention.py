"""Removes what nobody needs any more, in batches so small that no webhook waits for one.

Nothing of the audit log goes: its rows name what was there, with digests, and verify as before. A run says in one row what it is about to remove, and then
removes it; one that is interrupted leaves the rest to the next, whose row counts what was left. The rules of what may go are the database's
(`bot/adapters/database/retention.py`), and are asked anew for each batch. With the incidents goes what durable execution remembers of work as old as they.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.errors import StoreError
from bot.model import Aged, AuditDraft, Horizon, JsonObject, Overdue
from bot.ports import Ageing, Clock, Ended
from bot.settings import RetentionSettings

log = structlog.get_logger(__name__)

PRUNED: Final = "database.pruned"
FIRST_SECONDS: Final = 600.0
"""From the start to the first run: a bot that starts has alerts to take in."""
EVERY_SECONDS: Final = 24 * 3600.0
PAUSE_SECONDS: Final = 0.2
"""Between two batches, in which others write."""
LOOK: Final = 5_000
"""Found at once, which takes a look through all that is old but keeps nobody waiting."""
BATCH: Final = {Aged.INCIDENTS: 25, Aged.SNAPSHOTS: 4, Aged.DELIVERIES: 100}
"""Removed at once, which does: each takes 30 to 50 ms of one core on SQLite, with snapshots of 2 MB."""
FORGOTTEN: Final = 100
"""Phases that are forgotten at once."""


class Retention:
    """Keeps the database from growing for ever."""

    def __init__(self, *, store: Ageing, ended: Ended, clock: Clock, rules: RetentionSettings) -> None:
        self._store = store
        self._ended = ended
        self._clock = clock
        self._rules = rules

    async def run(self) -> None:
        """Prune once a day, for ever; where the database fails, the next day's run does it."""
        await self._clock.sleep(FIRST_SECONDS)
        while True:
            try:
                await self.prune("bot")
            except StoreError as error:
                log.warning("retention postponed", error=str(error))
            await self._clock.sleep(EVERY_SECONDS)

    def horizon(self) -> Horizon:
        """Return what is too old now."""
        now = self._clock.now()

        def before(days: int) -> datetime | None:
            return now - timedelta(days=days) if days else None

        return Horizon(
            incidents=before(self._rules.incidents),
            snapshots=before(self._rules.snapshots),
            deliveries=before(self._rules.deliveries),
        )

    async def overdue(self) -> Overdue:
        """Count, and change nothing."""
        return await self._store.overdue(self.horizon())

    async def prune(self, who: str) -> Overdue:
        """Remove all that is too old now and return how much that was, on record before the first of it goes. Raises `StoreError`."""
        horizon = self.horizon()
        found = await self._store.overdue(horizon)
        if found == Overdue():
            return found
        data: JsonObject = {**found.model_dump(), "before": horizon.model_dump(mode="json")}
        sentence = f"Too old to keep, and removed: {found}."
        async with self._store.begin() as tx:
            await tx.audit(AuditDraft(kind=PRUNED, actor=who, sentence=sentence, data=data))
        for aged in Aged:  # in this order: what rests on an incident can go after it
            if (before := horizon.of(aged)) is not None:
                await self._remove(aged, before)
        if horizon.incidents is not None:
            while await self._ended.forget(horizon.incidents, FORGOTTEN) == FORGOTTEN:
                await self._clock.sleep(PAUSE_SECONDS)
        log.info("removed what was too old to keep", **found.model_dump())
        return found

    async def _remove(self, aged: Aged, before: datetime) -> None:
        removed = True
        while removed and (found := await self._store.too_old(aged, before, LOOK)):
            removed = False
            for start in range(0, len(found), BATCH[aged]):
                batch = found[start : start + BATCH[aged]]
                removed = bool(await self._store.remove(aged, batch, before)) or removed
                await self._clock.sleep(PAUSE_SECONDS)
