"""How natsmedic ends on SIGTERM: it says that it is not ready, finishes what it is at, shows it, and goes, all within a grace.

Nothing depends on that: whatever is not finished is as if the process had been killed, and goes on at the next start. So the grace is a bound, not a hope, and
the exit code is 0. A second signal ends the waiting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

CLOSING_SHARE: Final = 0.4
"""Of the grace, kept for closing: requests and clicks in flight, connections, the database."""

Patience = Callable[[float], Awaitable[None]]
"""Finishes something; returns after so many seconds at the latest."""


class Leaving:
    """One end of one process. `said` is set once it was asked to end, `gone` once it may close."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self.said = asyncio.Event()
        self.gone = asyncio.Event()

    def ask(self) -> None:
        """Begin to leave; asked again, do not wait any longer."""
        if self.said.is_set():
            self.gone.set()
        self.said.set()

    def cut(self) -> None:
        """Leave without finishing anything: it is no longer this process's."""
        self.said.set()
        self.gone.set()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing new should be sent here."""
        return ("natsmedic is ending.",) if self.said.is_set() else ()

    @asynccontextmanager
    async def after(self, *parts: Patience) -> AsyncGenerator[None]:
        """Beside the block, wait until it is asked to end, then give each part in turn what is left of the time; it may close afterwards."""
        waiting = asyncio.create_task(self._wait(parts), name="leaving")
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _wait(self, parts: tuple[Patience, ...]) -> None:
        await self.said.wait()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace * (1 - CLOSING_SHARE)
        log.info("natsmedic ends", grace=self._grace)
        finishing = asyncio.create_task(self._finish(parts, end))
        skipping = asyncio.create_task(self.gone.wait())
        try:
            await asyncio.wait({finishing, skipping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (finishing, skipping):
                task.cancel()
            await asyncio.gather(finishing, skipping, return_exceptions=True)
            self.gone.set()

    async def _finish(self, parts: tuple[Patience, ...], end: float) -> None:
        for part in parts:
            try:
                await part(max(0.0, end - asyncio.get_running_loop().time()))
            except Exception:  # what one part can't finish keeps no other from finishing
                log.exception("something could not be finished before the end")

    @contextmanager
    def on_signals(self) -> Generator[None]:
        """Be asked by SIGTERM and SIGINT; from the first one on the process ends within the grace, whatever hangs."""
        loop = asyncio.get_running_loop()
        timer: list[threading.Timer] = []

        def asked() -> None:
            if not timer:
                timer.append(threading.Timer(self._grace, give_up))
                timer[0].daemon = True
                timer[0].start()
            self.ask()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked)
        try:
            yield
        finally:
            for running in timer:
                running.cancel()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def give_up() -> None:
    """End the process at once. Whatever hangs is durable, or it was never promised."""
    log.error("natsmedic did not end within its grace and goes without closing")
    os._exit(0)
