"""How late the event loop is. A loop that is blocked answers nobody: neither Slack within 3 s, nor the kubelet, nor an alert."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import Gauge

EVERY_SECONDS: Final = 1.0
REMEMBERED: Final = 60
"""Looks of which the worst is told: longer than Prometheus' usual time between two scrapes, so that no lag falls between them."""


class LoopLag:
    """Sleeps and looks how late it wakes up."""

    def __init__(
        self,
        gauge: Gauge,
        *,
        seconds: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gauge = gauge
        self._seconds = seconds
        self._sleep = sleep
        self._lags: deque[float] = deque(maxlen=REMEMBERED)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            await self.look()

    async def look(self) -> None:
        """Measure once."""
        started = self._seconds()
        await self._sleep(EVERY_SECONDS)
        self._lags.append(max(0.0, self._seconds() - started - EVERY_SECONDS))
        self._gauge.set(max(self._lags))
