"""Notices that the event loop is blocked: everything natsmedic does runs in it, so nothing in it could say so.

A task of the loop leaves the time behind, and a thread beside it looks at how old that is. After `DUMP_SECONDS` the stacks of all threads go to the log, once
for each time; after `FAIL_SECONDS` the process counts as dead, so that whoever runs it (the kubelet's liveness probe) starts another one. A loop that is blocked
wholly answers no probe at all; one that barely moves answers that it is.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 1.0
DUMP_SECONDS: Final = 10.0
"""Far beyond what a busy loop needs: in the storm of tests/bench/bench_storm.py it never waits for half a second."""
FAIL_SECONDS: Final = 30.0
"""reference/safety.md 3.3, Process: an event loop that is blocked for 30 s."""


class Watchdog:
    """Of the loop in which `beat` runs. `now` is a clock that never goes back, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._beat = now()
        self._dumped = False
        self._stop = threading.Event()

    async def beat(self) -> None:
        """Leave the time behind, for ever."""
        while True:
            self._beat = self._now()
            await asyncio.sleep(BEAT_SECONDS)

    @property
    def lag(self) -> float:
        """Seconds by which the loop is late."""
        return max(0.0, self._now() - self._beat - BEAT_SECONDS)

    def problem(self) -> str | None:
        """Return why the process should be started anew; None where it is alive."""
        lag = self.lag
        return f"The event loop is {lag:.0f} s late." if lag >= FAIL_SECONDS else None

    def look(self) -> None:
        """Log the stacks of all threads once the loop is too late, and that it goes on again."""
        lag = self.lag
        if lag >= DUMP_SECONDS and not self._dumped:
            self._dumped = True
            log.error("the event loop is blocked", seconds=round(lag, 1), stacks=stacks())
        elif lag < DUMP_SECONDS and self._dumped:
            self._dumped = False
            log.warning("the event loop goes on")

    @contextmanager
    def watching(self, every: float = LOOK_SECONDS) -> Generator[None]:
        """Look from a thread for the length of the block."""
        self._beat = self._now()

        def run() -> None:
            while not self._stop.wait(every):
                self.look()

        thread = threading.Thread(target=run, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def stacks() -> dict[str, list[str]]:
    """Return where each thread is, innermost last: files, lines and functions, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, 'unknown')} {ident}": [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_stack(top)
        ]
        for ident, top in sys._current_frames().items()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the documented way to see other threads
    }
