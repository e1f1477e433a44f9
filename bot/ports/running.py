"""Protocols for time and durable execution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Clock(Protocol):
    """Time, so that a test can own it."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Phase(StrEnum):
    """Units of durable work; each reads its record by id."""

    DIAGNOSIS = "diagnosis"
    EXECUTION = "execution"


class Steps(Protocol):
    """Checkpoints inside a durable phase: a completed step is not run again after a crash; an interrupted one is."""

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Run `work` at least once, remember its result."""
        ...


PhaseHandler = Callable[[str, Steps], Awaitable[None]]


class Engine(Protocol):
    """Durable execution. `start` is idempotent per (phase, key): a second start finds the first."""

    async def start(self, phase: Phase, key: str) -> None: ...
