"""Phase 1: a webhook delivery becomes a durable row, its alerts become incidents, repeats fold into the open one.

The row is the queue: what is folded is recorded in the transaction that folds it, so that a crash, or a second replica, neither loses nor doubles an
alert, and no other engine has to know. A transaction takes a few alerts, whatever a delivery holds, so that people's clicks never wait for a storm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import BadInput, StoreError
from bot.flow.folding import Folder
from bot.flow.inbox import Inbox
from bot.flow.incoming import IncomingAlert, ParsedDelivery, Parser
from bot.flow.quota import Quota, Quotas
from bot.flow.sheet import Sheet
from bot.model import AuditDraft, Delivery, DeliveryId, IncidentId, Progress, new_id
from bot.ports import Chat, Clock, Engine, Phase, Store
from bot.settings import ClusterSettings, ThreadSettings

log = structlog.get_logger(__name__)

TOGETHER: Final = 50
"""Alerts per transaction, some 40 ms (tests/bench/bench_storm.py): that long whoever else writes waits."""
PAUSE_SECONDS: Final = 0.01
"""After a full transaction, so that a writer that polls for SQLite's lock (the engine's own) gets it; our own writers take turns."""
GATHER_SECONDS: Final = 0.1
"""After one that was not full: what comes in meanwhile shares the next one, which costs the same for one alert as for ten. The first alert waits for nothing."""
POLL_SECONDS: Final = 1.0
"""Until deliveries are looked for that nobody told of: those of another replica, or of one that has ended."""
ASIDE: Final = timedelta(seconds=5)
"""Until a delivery that could not be folded is tried again; the others do not wait for it."""
NO_QUOTAS: Final[Mapping[str, Quota]] = {}


@dataclass(frozen=True, slots=True)
class _Turn:
    """The alerts of one delivery that one transaction folds."""

    delivery: Delivery
    parsed: ParsedDelivery
    alerts: Sequence[IncomingAlert]
    last: bool
    """Nothing of the delivery is left to fold after it."""

    def after(self, due: Sequence[str], now: datetime) -> Progress:
        """Return how far the delivery is once this is committed."""
        due = tuple(dict.fromkeys((*self.delivery.due, *due)))
        return Progress(
            pages=self.delivery.pages,
            folded=self.delivery.folded + len(self.alerts),
            due=due,
            processed_at=now if self.last and not due else None,
        )


class Intake:
    """Accepts deliveries and folds their alerts."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        clock: Clock,
        chat: Chat,
        clusters: Sequence[ClusterSettings],
        parsers: Mapping[str, Parser],
        max_queue: int,
        threads: ThreadSettings,
        quotas: Mapping[str, Quota] = NO_QUOTAS,
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._chat = chat
        self._parsers = parsers
        self._inbox = Inbox(store, max_queue)
        self._folder = Folder(clusters, threads, clock)
        self._quotas = Quotas(quotas, clock)
        self._news = asyncio.Event()
        self._aside: dict[DeliveryId, datetime] = {}
        self._half_done: tuple[DeliveryId, ParsedDelivery] | None = None
        """The delivery whose next alerts are taken next, so that a large body is not parsed for each of its transactions."""

    async def accept(self, source: str, body: str) -> DeliveryId:
        """Make a delivery durable. Returning means stored; an event that was stored before returns its first delivery.

        Raises BadInput for a body the source's parser cannot read, OverQuota, QueueFull or another StoreError where the sender must retry.
        """
        self._quotas.admit(source)
        try:
            parsed = self._parsers[source](body)
        except BadInput:
            self._quotas.charge(source, 0)
            raise
        now = self._clock.now()
        delivery = Delivery(id=DeliveryId(new_id("dlv")), source=source, received_at=now, body=body, pages=parsed.pages)
        crashpoints.reached(Point.P01)
        stored = await self._inbox.put(delivery, parsed.event)
        self._quotas.charge(source, len(parsed.alerts))
        crashpoints.reached(Point.P02)
        if stored != delivery.id:
            log.info("an event was delivered again", source=source, delivery=stored)
        self._news.set()
        return stored

    async def run(self) -> None:
        """Fold for ever; an error of the database is logged, and what waits is folded later."""
        while True:
            self._news.clear()
            try:
                while folded := await self.fold():
                    await self._clock.sleep(PAUSE_SECONDS if folded >= TOGETHER else GATHER_SECONDS)
            except StoreError as error:
                log.warning("folding postponed", error=str(error))
                await self._clock.sleep(POLL_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), POLL_SECONDS)

    async def drain(self) -> None:
        """Fold everything that waits now."""
        while await self.fold():
            pass

    async def fold(self) -> int:
        """Fold the alerts whose turn it is, in one transaction, and start what is due. Raises StoreError.

        Return how many alerts, and deliveries of which nothing but a start was left, that were; 0 where nothing waits.
        """
        now = self._clock.now()
        self._aside = {one: until for one, until in self._aside.items() if now < until <= now + ASIDE}
        waiting = await self._store.waiting(TOGETHER + len(self._aside))
        ids = [one for one in waiting if one not in self._aside][:TOGETHER]
        return await self._fold(ids) if ids else 0

    async def _fold(self, ids: Sequence[DeliveryId]) -> int:
        try:
            turns = await self._commit(ids)
        except Exception as error:  # whatever is wrong with one delivery must not keep the others waiting
            if isinstance(error, StoreError) and error.retry_helps:
                raise  # it is the database that ails, and asking it for each of them in turn would not help
            if len(ids) > 1:
                return sum([await self._fold((one,)) for one in ids])
            log.exception("a delivery could not be folded and is put aside", delivery=ids[0], error=str(error))
            self._aside[ids[0]] = self._clock.now() + ASIDE
            return 0
        await self._start(turns)
        return sum(max(1, len(turn.alerts)) for turn, _ in turns.values())

    async def _commit(self, ids: Sequence[DeliveryId]) -> dict[DeliveryId, tuple[_Turn, Progress]]:
        """Fold in one transaction; return what was folded, and how far each delivery is now."""
        made: dict[DeliveryId, tuple[_Turn, Progress]] = {}
        async with self._store.begin() as tx:
            sheet = Sheet(tx, self._clock)
            turns = await self._turns(sheet, await tx.deliveries(ids))
            for source in {turn.delivery.source for turn in turns}:
                its = [turn.alerts for turn in turns if turn.delivery.source == source]
                await sheet.load(source, {alert.fingerprint for alerts in its for alert in alerts})
            for turn in turns:
                due: list[str] = []
                for incoming in turn.alerts:
                    due += await self._folder.fold(sheet, turn.delivery, incoming, turn.parsed)
                made[turn.delivery.id] = turn, turn.after(due, self._clock.now())
            await sheet.flush()
            await tx.progress({one: progress for one, (_, progress) in made.items()})
        unfinished = [turn for turn in turns if not turn.last]
        self._half_done = (unfinished[-1].delivery.id, unfinished[-1].parsed) if unfinished else None
        return made

    async def _turns(self, sheet: Sheet, deliveries: Sequence[Delivery]) -> list[_Turn]:
        """Return what one transaction takes: of an urgent delivery its page-worthy alerts, of the others all."""
        turns: list[_Turn] = []
        room = TOGETHER
        for delivery in deliveries:
            if delivery.processed_at is not None or room <= 0:
                continue
            parsed = await self._parsed(sheet, delivery)
            alerts = parsed.in_order
            end = delivery.pages if delivery.folded < min(delivery.pages, len(alerts)) else len(alerts)
            end = min(end, delivery.folded + room)
            chosen = alerts[delivery.folded : end]
            room -= len(chosen)
            turns.append(_Turn(delivery, parsed, chosen, last=delivery.folded + len(chosen) >= len(alerts)))
        return turns

    async def _parsed(self, sheet: Sheet, delivery: Delivery) -> ParsedDelivery:
        if self._half_done is not None and self._half_done[0] == delivery.id:
            return self._half_done[1]
        try:
            return self._parsers[delivery.source](delivery.body)
        except (BadInput, KeyError) as error:
            log.exception("a stored delivery is not readable", delivery=delivery.id, source=delivery.source)
            sentence = f"Delivery {delivery.id} is not readable: {error}"
            await sheet.audit(AuditDraft(kind="delivery.unreadable", actor=delivery.source, sentence=sentence))
            return ParsedDelivery(alerts=())

    async def _start(self, made: Mapping[DeliveryId, tuple[_Turn, Progress]]) -> None:
        """Start the diagnoses that are due, then record that they are; a crash in between starts them again, which finds them."""
        started: dict[DeliveryId, Progress] = {}
        for delivery, (turn, progress) in made.items():
            for key in progress.due:
                self._chat.nudge(IncidentId(key.partition("/")[0]))
                await self._engine.start(Phase.DIAGNOSIS, key)
            if progress.due:
                ended = self._clock.now() if turn.last else None
                started[delivery] = progress.model_copy(update={"due": (), "processed_at": ended})
        if started:
            async with self._store.begin() as tx:
                await tx.progress(started)
