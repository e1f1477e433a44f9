"""Token buckets for calls of Slack, and who may take the last tokens of one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.ports import Clock

ROUNDING: Final = 1e-6
"""Datetimes have microseconds: a bucket that is full but for rounding is full."""

_patient: ContextVar[bool] = ContextVar("patient", default=False)


@contextmanager
def patiently() -> Generator[None]:
    """Within the block, calls of this task wait where those of others would not: nobody waits for what is drawn."""
    token = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(token)


@dataclass(slots=True)
class _Bucket:
    level: float
    at: datetime


class Pacer:
    """The buckets, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    async def take(self, name: str, rate: float, burst: float, spared: float) -> None:
        """Wait for a token, `patiently` for one beyond those that are spared."""
        wanted = 1.0 + (spared if _patient.get() else 0.0)
        while True:
            now = self._clock.now()
            bucket = self._buckets.setdefault(name, _Bucket(burst, now))
            bucket.level = min(burst, bucket.level + max(0.0, (now - bucket.at).total_seconds()) * rate)
            bucket.at = now
            if bucket.level >= wanted - ROUNDING:
                bucket.level -= 1.0
                return
            await self._clock.sleep((wanted - bucket.level) / rate)
