"""Keeps what a process sends from arriving after another has gone on with its work: the last look before each write, at the ports.

A lock in a database fences the database, never a cluster (reference/safety.md 3.3, two replicas). So a process that was stopped for longer than its lease finds
here that it must not send what it was about to. Between this look and the socket lie microseconds; what slips through there, or is on its way, meets the receipts
and the guards of each action (resource version, UID, operation id).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from bot.adapters.each_call import each_call
from bot.errors import LeaseOver

P = TypeVar("P")


def always() -> bool:
    """Return True: the only process of a database may always send."""
    return True


def fenced(port: P, may_send: Callable[[], bool]) -> P:
    """Return the port, each of its asynchronous methods raising `LeaseOver` where nothing may be sent."""

    @contextmanager
    def permitted(_: str) -> Generator[None]:
        if not may_send():
            raise LeaseOver(
                "Nothing was sent: this natsmedic has not reached its database for so long that another one may be at it."
            )
        yield

    return each_call(port, permitted)
