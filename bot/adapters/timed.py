"""Times calls of what is outside, at the ports: one place for every reader and writer, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from bot.adapters.each_call import each_call
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
    return each_call(port, lambda operation: timing(meter, system, operation, cluster, seconds=seconds))
