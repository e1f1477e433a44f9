"""Times calls of what is outside, at the ports: one place for every reader and writer, whatever it is made of."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import TypeVar, cast

from bot.ports import UNMETERED, Call, End, Meter, System, end_of

P = TypeVar("P")

Seconds = Callable[[], float]
"""A clock that only goes forward."""


@contextmanager
def timing(
    meter: Meter,
    system: System,
    operation: str,
    cluster: str = "",
    *,
    seconds: Seconds = time.perf_counter,
    ends: Callable[[BaseException | None], End] = end_of,
) -> Generator[None]:
    """Measure the block as one call, however it ends; `ends` says how, from what it raised."""
    started = seconds()
    failed: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failed = error
        raise
    finally:
        meter.called(Call(system, operation, ends(failed), seconds() - started, cluster))


def timed(port: P, system: System, meter: Meter, cluster: str, *, seconds: Seconds = time.perf_counter) -> P:
    """Return the port with each of its asynchronous methods measured under the method's name; the port itself where nothing is."""
    if port is None or meter is UNMETERED:
        return port
    # What stands before it has whatever the port has, which no type can say.
    return cast("P", _Timed(port, system, meter, cluster, seconds))


class _Timed:
    def __init__(self, port: object, system: System, meter: Meter, cluster: str, seconds: Seconds) -> None:
        self._port = port
        self._system = system
        self._meter = meter
        self._cluster = cluster
        self._seconds = seconds

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        ask: Callable[..., Awaitable[object]] = found

        @wraps(ask)
        async def call(*args: object, **named: object) -> object:
            with timing(self._meter, self._system, name, self._cluster, seconds=self._seconds):
                return await ask(*args, **named)

        return call
