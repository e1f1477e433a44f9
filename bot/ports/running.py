"""Protocols for time and durable execution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Beat:
    """What a replica learns when it says that it lives."""

    leads: bool
    """It is the one that does what must be done once."""
    others: Mapping[str, int]
    """The other replicas, and how often each has said that it lives."""


class Roster(Protocol):
    """The replicas of one database. The list is part of it: who is off the list can't write."""

    async def beat(self, replica: str, expelled: Mapping[str, int]) -> Beat:
        """Say that this replica lives, strike off those that are still at these counts, and lead where nobody does.

        Raises `ReplicaExpelled` where it is off the list itself, other StoreErrors where it could not be said.
        """
        ...


PhaseHandler = Callable[[str, Steps], Awaitable[None]]


class Engine(Protocol):
    """Durable execution. `start` is idempotent per (phase, key): a second start finds the first."""

    async def start(self, phase: Phase, key: str) -> None: ...


class Ended(Protocol):
    """Phases that have ended, which durable execution remembers until it is told to forget them."""

    async def forget(self, before: datetime, limit: int) -> int:
        """Forget the oldest that ended before this moment, at most `limit`; return how many that were. Raises `StoreError`."""
        ...
