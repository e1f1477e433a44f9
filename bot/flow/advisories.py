"""Advisories of one cluster become deliveries: heard at once, stored as soon as the database takes them, resolved after silence.

An advisory is a hint like every alert: what is wrong, and whether it is over, is read from the cluster by the diagnosis. Advisories are published
once and kept nowhere, so those that are sent while nobody listens are lost; what lasts is repeated, and what is open when natsmedic starts is adopted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

import structlog

from bot.errors import BadInput, StoreError
from bot.flow.debounce import Debouncer
from bot.flow.incoming import IncomingAlert
from bot.flow.intake import Intake
from bot.flow.notices import ADVISORIES, Notice, parse_notice
from bot.model import AlertState, Delivery, IncidentState, JsonObject
from bot.ports import Clock, Store
from bot.settings import AdvisorySettings

log = structlog.get_logger(__name__)

TICK: Final = 1.0
"""Seconds between two looks at what is due; news is due at once."""

MOST_WAITING: Final = 100_000
"""Deliveries that are looked through for those of this source when natsmedic starts: ten times the queue's default cap."""
MOST_OPEN: Final = 1_000
"""Open incidents of advisories that are looked through when natsmedic starts."""


class Advisories:
    """Debounces what is heard of one cluster and hands it to the intake."""

    def __init__(self, *, cluster: str, pace: AdvisorySettings, store: Store, clock: Clock, intake: Intake) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._intake = intake
        self._debouncer = Debouncer(cluster, pace)
        self._outbox: deque[Notice] = deque()
        self._news = asyncio.Event()

    def heard(self, alert: IncomingAlert, evidence: JsonObject) -> None:
        """Take one advisory; never waits."""
        if self._debouncer.hear(alert, evidence):
            self._news.set()

    async def run(self) -> None:
        """Deliver for ever; an error of the database is logged, and what was due is delivered later."""
        while not await self._adopted():
            await self._clock.sleep(TICK)
        while True:
            await self.deliver()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), TICK)

    async def adopt(self) -> None:
        """Take over what an earlier process has left open: stored as firing, and not resolved since. Raises `StoreError`."""
        # A delivery that is folded between the two reads has become an incident for the second.
        # One by one, because after a storm many wait, and each may be large.
        for waiting in await self._store.waiting(MOST_WAITING):
            delivery = await self._store.get(Delivery, waiting)
            if delivery is None or delivery.source != ADVISORIES or delivery.processed_at is not None:
                continue
            with suppress(BadInput):  # the intake is about to record it as unreadable
                parsed = parse_notice(delivery.body)
                for alert in parsed.alerts if parsed.cluster == self._cluster else ():
                    if alert.state is AlertState.FIRING:
                        self._debouncer.adopt(alert, self._clock.now())
        for incident in await self._store.incidents(open_only=True, limit=MOST_OPEN, source=ADVISORIES):
            if incident.cluster != self._cluster:
                continue
            if incident.state is not IncidentState.CLEARED:
                alert = IncomingAlert(
                    fingerprint=incident.fingerprint,
                    state=AlertState.FIRING,
                    name=incident.title,
                    labels=incident.labels,
                    annotations=incident.annotations,
                    starts_at=incident.starts_at,
                    ends_at=None,
                )
                self._debouncer.adopt(alert, self._clock.now())

    async def deliver(self) -> None:
        """Store what is due; what cannot be stored stays first in line."""
        self._news.clear()
        if not self._outbox:  # so that it never holds more than one notice per alert
            self._outbox.extend(self._debouncer.due(self._clock.now()))
        while self._outbox:
            notice = self._outbox[0]
            try:
                delivery = await self._intake.accept(ADVISORIES, notice.model_dump_json())
            except StoreError as error:
                log.warning(
                    "advisory not stored yet", cluster=self._cluster, waiting=len(self._outbox), error=str(error)
                )
                return
            self._outbox.popleft()
            alert = notice.alert
            log.info(
                "advisories delivered",
                cluster=self._cluster,
                alert=alert.name,
                state=alert.state,
                heard=notice.heard,
                delivery=delivery,
            )

    async def _adopted(self) -> bool:
        try:
            await self.adopt()
        except StoreError as error:
            log.warning("open advisories not adopted yet", cluster=self._cluster, error=str(error))
            return False
        return True
