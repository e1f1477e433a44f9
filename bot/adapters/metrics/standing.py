"""What the store holds and how far the bot's own parts are, read when somebody scrapes: at most once in `FRESH_SECONDS`, however many do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from bot.errors import StoreError
from bot.model import Json
from bot.ports import Clock, Tallies, Tally, Waiting

FRESH_SECONDS: Final = 5.0
"""For which one tally answers; Prometheus asks every 15 to 60 s, and somebody who asks all the time costs the database no more than this."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What parts of the bot say of themselves."""

    checkpoints: Callable[[], Sequence[Json]] = tuple
    """As `bot.flow.checkpoints.Checkpointer.standing`."""
    swept_at: Callable[[], datetime | None] = lambda: None
    """When the last sweep ended."""
    leads: Callable[[], bool] = lambda: True
    """Whether this process does what must be done once."""


class StoreCollector:
    """A collector of prometheus_client. Call `refresh` before a scrape; `collect` then only says what is known."""

    def __init__(self, tallies: Tallies, clock: Clock, standing: Standing) -> None:
        self._tallies = tallies
        self._clock = clock
        self._standing = standing
        self._tally: Tally | None = None
        self._asked_at: datetime | None = None
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Count again where the last count is old. A database that can't be read is a metric of its own, and its numbers are left out: none is a guess."""
        async with self._turn:
            now = self._clock.now()
            if self._asked_at is not None and abs((now - self._asked_at).total_seconds()) < FRESH_SECONDS:
                return
            self._asked_at = now
            try:
                self._tally = await self._tallies.tally()
            except StoreError as error:
                self._tally = None
                log.warning("the store could not be counted for a scrape", reason=str(error))

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        tally, now = self._tally, self._clock.now()
        yield _gauge("store_readable", "1 where the last count of the store worked.", float(tally is not None))
        if tally is not None:
            yield from self._held(tally, now)
        yield from self._checkpoints(tally)
        yield _gauge("leads", "1 where this replica does what must be done once.", float(self._standing.leads()))
        swept_at = self._standing.swept_at()
        if swept_at is not None:
            yield _gauge("sweep_age_seconds", "Since the last sweep ended.", _age(swept_at, now))

    def _held(self, tally: Tally, now: datetime) -> Iterator[Metric]:
        yield _family(
            "open_incidents",
            "Incidents not closed, by severity of the verdict.",
            ("state", "severity"),
            tally.incidents,
        )
        yield _family("active_proposals", "Proposals not over.", ("state", "risk"), tally.proposals)
        yield _family("active_executions", "Executions not over.", ("state",), tally.executions)
        yield _family(
            "locks_held", "Locked clusters, by the state of the execution that holds the lock.", ("state",), tally.locks
        )
        yield from _waiting("deliveries_waiting", "deliveries that are not in incidents yet", tally.deliveries, now)
        yield from _waiting("chat_behind", "threads that have changed and are not drawn yet", tally.threads, now)
        yield _gauge("audit_rows", "Length of the audit log.", tally.audit_rows)

    def _checkpoints(self, tally: Tally | None) -> Iterator[Metric]:
        """Places are named by the settings, so there are as many series as an operator has written."""
        age = GaugeMetricFamily("natsmedic_checkpoint_age_seconds", "Since a checkpoint was kept.", labels=("place",))
        behind = GaugeMetricFamily("natsmedic_checkpoint_rows_behind", "Audit rows after it.", labels=("place",))
        failing = GaugeMetricFamily("natsmedic_checkpoint_failing", "1 where none can be kept.", labels=("place",))
        for place in self._standing.checkpoints():
            name = (str(place["place"]),)
            failing.add_metric(name, float(place["problem"] is not None))
            if place["age_seconds"] is not None:
                age.add_metric(name, place["age_seconds"])
            if tally is not None:
                behind.add_metric(name, max(0, tally.audit_rows - (place["row"] or 0)))
        yield from (age, behind, failing)


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"natsmedic_{name}", meaning, value=value)


def _waiting(name: str, what: str, waiting: Waiting, now: datetime) -> Iterator[Metric]:
    yield _gauge(name, f"How many {what}.", waiting.count)
    oldest = 0.0 if waiting.since is None else _age(waiting.since, now)
    yield _gauge(f"{name}_oldest_seconds", f"Since when the oldest waits of {what}; 0 where none does.", oldest)


def _family(
    name: str, meaning: str, labels: Sequence[str], counts: dict[str, int] | dict[tuple[str, str], int]
) -> Metric:
    family = GaugeMetricFamily(f"natsmedic_{name}", meaning, labels=labels)
    for key, count in counts.items():
        family.add_metric((key,) if isinstance(key, str) else key, count)
    return family
