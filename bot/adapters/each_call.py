"""Puts something around each call of a port, whatever the port is made of."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import TypeVar, cast

P = TypeVar("P")

Within = Callable[[str], AbstractContextManager[None]]
"""What a call of the method of this name happens in."""


def each_call(port: P, within: Within) -> P:
    """Return the port with each of its asynchronous methods called within the context; what is no such method passes."""
    # What stands before it has whatever the port has, which no type can say.
    return cast("P", _EachCall(port, within))


class _EachCall:
    def __init__(self, port: object, within: Within) -> None:
        self._port = port
        self._within = within

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        ask: Callable[..., Awaitable[object]] = found

        @wraps(ask)
        async def call(*args: object, **named: object) -> object:
            with self._within(name):
                return await ask(*args, **named)

        return call
