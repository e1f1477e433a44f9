"""Keeps what a process sends from arriving after another has gone on with its work: the last look before each write, at the ports.

A lock in a database fences the database, never a cluster (reference/safety.md 3.3, two replicas). So a process that was stopped for longer than its lease finds
here that it must not send what it was about to. Between this look and the socket lie microseconds; what slips through there, or is on its way, meets the receipts
and the guards of each action (resource version, UID, operation id).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar, cast

from bot.errors import LeaseOver

P = TypeVar("P")


def always() -> bool:
    """Return True: the only process of a database may always send."""
    return True


def fenced(port: P, may_send: Callable[[], bool]) -> P:
    """Return the port, each of its asynchronous methods raising `LeaseOver` where nothing may be sent."""
    # What stands before it has whatever the port has, which no type can say.
    return cast("P", _Fenced(port, may_send))


class _Fenced:
    def __init__(self, port: object, may_send: Callable[[], bool]) -> None:
        self._port = port
        self._may_send = may_send

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        ask: Callable[..., Awaitable[object]] = found

        @wraps(ask)
        async def call(*args: object, **named: object) -> object:
            if not self._may_send():
                raise LeaseOver(
                    "Nothing was sent: this natsmedic has not reached its database for so long that another one may be at it."
                )
            return await ask(*args, **named)

        return call
