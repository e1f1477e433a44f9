"""How many alerts a source may bring: a token bucket each, so that one sender that has gone wild does not fill the queue of the others.

A delivery is let in while its source's bucket is above zero, and is charged for what it turns out to hold: a large group is never undeliverable, it is
paid for afterwards. What is refused is 503 at the door, never a 4xx: Alertmanager sends only 5xx again (reference/safety.md, finding 7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bot.errors import StoreError
from bot.ports import Clock


class OverQuota(StoreError):
    """The source has brought more alerts than it may for now; `seconds` is when it may again."""

    retry_helps = True

    def __init__(self, source: str, rate: float, seconds: int) -> None:
        super().__init__(f"Source {source} brings more than {rate:g} alerts per second: it may again in {seconds} s.")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Quota:
    """Alerts per second in the long run, and alerts at once after a rest."""

    rate: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    level: float
    at: datetime


class Quotas:
    """The buckets of all sources. A source that has no quota is natsmedic itself."""

    def __init__(self, quotas: Mapping[str, Quota], clock: Clock) -> None:
        self._quotas = quotas
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, source: str) -> None:
        """Raise OverQuota where the source must wait."""
        quota = self._quotas.get(source)
        if quota is None:
            return
        level = self._bucket(source, quota).level
        if level <= 0.0:
            raise OverQuota(source, quota.rate, max(1, math.ceil(-level / quota.rate)))

    def charge(self, source: str, alerts: int) -> None:
        """Take what a delivery held from the source's bucket; a delivery without alerts costs one, since it was read all the same."""
        quota = self._quotas.get(source)
        if quota is not None:
            self._bucket(source, quota).level -= max(1, alerts)

    def _bucket(self, source: str, quota: Quota) -> _Bucket:
        now = self._clock.now()
        bucket = self._buckets.setdefault(source, _Bucket(quota.burst, now))
        # A clock that was set back pays nothing; one that was set forward fills the bucket once at most.
        passed = max(0.0, (now - bucket.at).total_seconds())
        bucket.level = min(quota.burst, bucket.level + passed * quota.rate)
        bucket.at = now
        return bucket
