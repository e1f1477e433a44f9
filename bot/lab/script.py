"""A drill as a script: faults at relative times, and what must be seen after each of them, when, and with how much tolerance. And who runs it.

A script is data plus plain functions; the runner knows nothing of NATS. Times are seconds after the fault before, since a fault itself takes as long as the
servers take. What is expected after one fault is looked for together, and each is settled before the next fault begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import httpx
from nats.errors import Error as NatsError

from bot.errors import NatsmedicError
from bot.lab.process import LabError

POLL_SECONDS: Final = 0.5
"""Between two looks at what has not been seen yet."""
TOLERANCE: Final = 10.0
"""Seconds by which a busy machine may be late; servers keep to their own times within one (reference/drills.md 1)."""
EARLY: Final = 1.0
"""Seconds by which what is expected may come sooner: no machine makes a server's timer run fast."""

WENT_WRONG: Final = (NatsmedicError, LabError, NatsError, httpx.HTTPError, TimeoutError, OSError)
"""What a look at broken servers may end in: nothing was seen, and this is why."""


class World(Protocol):
    """What a script plays in."""

    def forget(self) -> None:
        """Forget what was seen: the next look is a new one."""
        ...


W = TypeVar("W", bound=World)
V = TypeVar("V", bound=World, contravariant=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: whether it is as expected, and what was there."""

    holds: bool
    observed: str


class Look(Protocol[V]):
    def __call__(self, world: V, /) -> Awaitable[Seen]: ...


@dataclass(frozen=True, slots=True)
class Fault(Generic[W]):
    """Something that is done to the world: damage, or its repair."""

    said: str
    do: Callable[[W], Awaitable[str]]
    """Returns what else there is to say of it, in one line. Raises what `WENT_WRONG` names where it can't be done."""
    after: float = 0.0
    """Seconds after the fault before it."""


@dataclass(frozen=True, slots=True)
class Expect(Generic[W]):
    """Something that must be seen after the fault before it."""

    said: str
    look: Look[W]
    latest: float = 30.0
    earliest: float = 0.0
    """Seconds after the fault: what is seen sooner is as wrong as what is not seen."""
    holds: float = 0.0
    """Seconds for which it must stay so."""
    once: bool = False
    """Whether it can be looked at one time only, because looking changes it; it has as long as it takes."""
    tolerance: float = TOLERANCE

    @property
    def when(self) -> str:
        """The window, for people."""
        if self.once:
            return "at once"
        stays = f", for {self.holds:g} s" if self.holds else ""
        return f"{self.earliest:g} to {self.latest:g} s after it{stays}"


Step = Fault[W] | Expect[W]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Script(Generic[W]):
    """One drill."""

    name: str
    told: str
    """What it is about, in one line."""
    source: str
    """Where the facts come from that it expects."""
    stage: Callable[[Path, Tell], AbstractAsyncContextManager[W]]
    """Starts everything in a directory; what is started ends with the context."""
    steps: tuple[Step[W], ...]
    hindrance: Callable[[], str] = lambda: ""
    """Why it can't run on this machine; empty where it can."""


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    """A fault."""
    SEEN = "seen"
    TOO_SOON = "too soon"
    MISSED = "missed"
    """It was not seen in time."""
    BROKE = "broke"
    """It was seen, and did not stay."""
    FAILED = "failed"
    """A fault that could not be done."""
    NOT_REACHED = "not reached"

    @property
    def good(self) -> bool:
        return self in {Outcome.DONE, Outcome.SEEN}


@dataclass(frozen=True, slots=True)
class Line:
    """One step as it went. `at` is seconds since the first step, `took` since the fault before, or of the fault itself."""

    said: str
    outcome: Outcome
    at: float = 0.0
    took: float = 0.0
    wanted: str = ""
    observed: str = ""

    def __str__(self) -> str:
        if self.outcome is Outcome.NOT_REACHED:
            return f"        -  {self.outcome.value:<11} {self.said}"
        when = f"took {self.took:.1f} s" if not self.wanted else f"{self.wanted}: {self.took:.1f} s"
        rest = f"\n{'':23}{self.observed}" if self.observed else ""
        return f"{self.at:7.1f} s  {self.outcome.value:<11} {self.said} ({when}){rest}"


@dataclass(slots=True)
class Report:
    """How a script went."""

    lines: list[Line] = field(default_factory=list[Line])

    @property
    def passed(self) -> bool:
        return all(line.outcome.good for line in self.lines)

    @property
    def verdict(self) -> str:
        """The last line, for people."""
        expected = [line for line in self.lines if line.wanted]
        met = sum(line.outcome.good for line in expected)
        return f"{'passed' if self.passed else 'FAILED'}: {met} of {len(expected)} expectations met"


class LabClock(Protocol):
    """Time, so that a test can own it."""

    def now(self) -> float:
        """Seconds that only grow."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class RealClock:
    """Implements `LabClock`."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def run(script: Script[W], directory: Path, say: Tell, clock: LabClock | None = None) -> Report:
    """Play a script and say each step as it ends. The first one that fails ends it; what it started is gone when this returns. Raises `LabError` where it
    can't be staged.
    """
    async with script.stage(directory, say) as world:
        return await play(script.steps, world, say, clock or RealClock())


async def play(steps: Sequence[Step[W]], world: W, say: Tell, clock: LabClock) -> Report:
    """Play steps in a world that is there."""
    report, turn = Report(), _Turn(world, clock, clock.now(), clock.now())
    groups = [(is_fault, list(group)) for is_fault, group in groupby(steps, lambda step: isinstance(step, Fault))]
    for _, group in groups:
        if not report.passed:
            report.lines += [_not_reached(step) for step in group]
            continue
        faults = [step for step in group if isinstance(step, Fault)]
        expected = [step for step in group if isinstance(step, Expect)]
        async for line in turn.suffer(faults) if faults else turn.await_all(expected):
            report.lines.append(line)
            say(str(line))
    for line in report.lines:
        if line.outcome is Outcome.NOT_REACHED:
            say(str(line))
    return report


def _not_reached(step: Fault[W] | Expect[W]) -> Line:
    return Line(step.said, Outcome.NOT_REACHED, wanted=step.when if isinstance(step, Expect) else "")


@dataclass(slots=True)
class _Turn(Generic[W]):
    """Where the script is. `done` is when the last fault was done."""

    world: W
    clock: LabClock
    begun: float
    done: float

    async def suffer(self, faults: Iterable[Fault[W]]) -> AsyncIterator[Line]:
        """Do one fault after another, until one fails."""
        failed = False
        for fault in faults:
            if failed:
                yield _not_reached(fault)
                continue
            await self.clock.sleep(max(0.0, self.done + fault.after - self.clock.now()))
            start = self.clock.now()
            try:
                observed, outcome = await fault.do(self.world), Outcome.DONE
            except WENT_WRONG as error:
                observed, outcome, failed = f"{type(error).__name__}: {error}", Outcome.FAILED, True
            self.done = self.clock.now()
            yield Line(fault.said, outcome, start - self.begun, self.done - start, observed=observed)

    async def await_all(self, expected: Iterable[Expect[W]]) -> AsyncIterator[Line]:
        """Look for all of them until each is settled."""
        pending: dict[Expect[W], float | None] = dict.fromkeys(expected)
        while pending:
            self.world.forget()
            for expect, before in list(pending.items()):
                began = self.clock.now() - self.done
                seen = await self._look(expect)
                ended = self.clock.now() - self.done
                outcome, first = settle(expect, before, began, ended, holds=seen.holds)
                if outcome is None:
                    pending[expect] = first
                    continue
                del pending[expect]
                at = self.clock.now() - self.begun
                yield Line(expect.said, outcome, at, first or ended, expect.when, seen.observed)
            if pending:
                await self.clock.sleep(POLL_SECONDS)

    async def _look(self, expect: Expect[W]) -> Seen:
        try:
            return await expect.look(self.world)
        except WENT_WRONG as error:
            return Seen(holds=False, observed=f"nothing could be seen: {type(error).__name__}: {error}")


def settle(
    expect: Expect[W], first: float | None, began: float, ended: float, *, holds: bool
) -> tuple[Outcome | None, float | None]:
    """Return what one look decides, None for nothing yet, and when it was first seen. All in seconds after the fault; a look takes from `began` to `ended`."""
    if expect.once:
        return (Outcome.SEEN if holds else Outcome.MISSED), ended
    if not holds:
        if first is not None:
            return Outcome.BROKE, first
        return (Outcome.MISSED if ended > expect.latest + expect.tolerance else None), None
    if first is None and ended < expect.earliest - EARLY:
        return Outcome.TOO_SOON, ended
    if first is None and began > expect.latest + expect.tolerance:
        return Outcome.MISSED, ended
    first = ended if first is None else first
    return (Outcome.SEEN if ended - first >= expect.holds else None), first
