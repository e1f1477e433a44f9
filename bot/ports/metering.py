"""Protocol for what is measured: what was committed, calls of what is outside, threads that people see.

What happens is taken from commits, not from the places where it happens: a transaction that was rolled back counts nothing, and none is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, cast

from bot.errors import (
    NotApplied,
    NotInVersion,
    NotSent,
    OutcomeUnknown,
    ReadDenied,
    ReadTimedOut,
    Refused,
    StoreBusy,
    StoreConflict,
    Unreachable,
    Unreadable,
    WriteDenied,
)
from bot.model import AuditEntry, Incident
from bot.ports.storage import R, Stored


class System(StrEnum):
    """What natsmedic calls."""

    NATS = "nats"
    KUBERNETES = "kubernetes"
    SLACK = "slack"
    DATABASE = "database"


class End(StrEnum):
    """How a call ended."""

    OK = "ok"
    DENIED = "denied"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    NOT_IN_VERSION = "not_in_version"
    UNREADABLE = "unreadable"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"
    """It may have been done: no answer came."""
    REFUSED = "refused"
    LIMITED = "limited"
    """Too many calls (HTTP 429); nothing was done."""
    BUSY = "busy"
    CONFLICT = "conflict"
    CANCELLED = "cancelled"
    FAILED = "failed"


_ENDS: Final[tuple[tuple[type[BaseException], End], ...]] = (
    (ReadDenied, End.DENIED),
    (WriteDenied, End.DENIED),
    (ReadTimedOut, End.TIMED_OUT),
    (TimeoutError, End.TIMED_OUT),
    (Unreachable, End.UNREACHABLE),
    (NotSent, End.UNREACHABLE),
    (NotInVersion, End.NOT_IN_VERSION),
    (Unreadable, End.UNREADABLE),
    (OutcomeUnknown, End.UNKNOWN),
    (NotApplied, End.NOT_APPLIED),
    (Refused, End.REFUSED),
    (StoreBusy, End.BUSY),
    (StoreConflict, End.CONFLICT),
    (asyncio.CancelledError, End.CANCELLED),
)
"""The first that fits; the special ones stand before those they are kinds of (bot/errors.py)."""


def end_of(error: BaseException | None) -> End:
    """Return how a call ended that raised this, or nothing."""
    if error is None:
        return End.OK
    return next((end for kind, end in _ENDS if isinstance(error, kind)), End.FAILED)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of something outside. `operation` is a word of ours or the name of an API's method, never of an object."""

    system: System
    operation: str
    end: End
    seconds: float
    cluster: str = ""
    """Name of the cluster in the settings; empty where it is about none."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record as it was before a transaction (None where it was not), and as it is after it."""

    before: Stored | None
    after: Stored


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction has written, each record once."""

    changes: tuple[Change, ...]
    audited: tuple[AuditEntry, ...]

    def of(self, kind: type[R]) -> Iterator[tuple[R | None, R]]:
        """Yield the records of a kind, before and after."""
        for change in self.changes:
            if isinstance(change.after, kind):
                yield cast("R | None", change.before), change.after  # a record replaces one of its own kind

    def one(self, kind: type[R], id: str) -> R | None:  # noqa: A002 - the records' word
        """Return the record of this id as it is now, None where the transaction did not write it."""
        return next((after for _, after in self.of(kind) if after.id == id), None)


class Meter(Protocol):
    """Counts and measures. Fast, and never raises: a commit is no less committed because it could not be counted."""

    def committed(self, commit: Commit) -> None:
        """A transaction has committed."""
        ...

    def called(self, call: Call) -> None:
        """A call has ended."""
        ...

    def shown(self, incident: Incident, at: datetime) -> None:
        """People see the incident's thread, for the first time."""
        ...


class _Unmetered:
    """Measures nothing."""

    def committed(self, commit: Commit) -> None: ...

    def called(self, call: Call) -> None: ...

    def shown(self, incident: Incident, at: datetime) -> None: ...


UNMETERED: Final[Meter] = _Unmetered()
"""For commands, which end before anybody could ask."""


def began(incident: Incident) -> datetime:
    """Return when the episode that an incident is in began for natsmedic: with its first alert, or with that of its last relapse."""
    return incident.relapses[-1].at if incident.relapses else incident.opened_at


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits, and since when the oldest does; None where nothing waits."""

    count: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What the store holds now, by words of ours alone."""

    incidents: dict[tuple[str, str], int]
    """Those that are not closed, by state and by the severity of their newest verdict; empty where there is none yet."""
    proposals: dict[tuple[str, str], int]
    """Those that are not over, by state and risk."""
    executions: dict[str, int]
    """Those that are not over, by state."""
    locks: dict[str, int]
    """Clusters that are locked, by the state of the execution that holds the lock."""
    deliveries: Waiting
    """Stored and not yet in incidents."""
    threads: Waiting
    """Changed and not yet drawn in the chat."""
    audit_rows: int


class Tallies(Protocol):
    """Where a tally is taken."""

    async def tally(self) -> Tally:
        """Count. Raises `StoreError`."""
        ...
