"""What a scene is: it makes something for an action to change, composes the change as the product does, and counts what really changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from bot.lab.process import LabError
from bot.model import JsonObject
from bot.settings import ClusterSettings
from tests.crash.proxy import Proxy

StageList = Sequence[tuple[str, JsonObject]]


class Where(StrEnum):
    """What a scene plays in."""

    NATS = "nats"
    GONE = "nats, one server of which is gone"
    NEWER = "nats 2.14 or newer"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True)
class Situation:
    """One object that shall be changed, and how to see what became of it."""

    cluster: ClusterSettings
    """How the bot reaches the target, past a counter."""
    door: Proxy
    """What stands between the bot and NATS."""
    stages: StageList
    """The change as the product composes it."""
    expected: Sequence[Sequence[str]]
    """What each stage changes at the target, as `effects` writes it; more than one for a stage that sends several changes."""
    effects: Callable[[], Sequence[str]]
    """Everything that natsmedic has changed at the target so far, in order: what was refused, or answered with an error, is not in it."""
    problem: Callable[[], Awaitable[str]]
    """What is wrong with the target after a repair that is *done*; empty where it is as it should be."""
    untouched: Callable[[], Awaitable[str]]
    """What differs from before, after a repair that changed nothing or took everything back; empty where nothing does."""
    lose: Callable[[str], None]
    """Have the answer to the next change never arrive that is this one, as `effects` writes it; empty for the request of a stage that changes nothing that is counted."""
    by_itself: bool = False
    """Whether what is wanted may come without the change: an election that nobody asked for."""
    calm: Callable[[], Awaitable[None]] | None = None
    """Waits until nothing that was sent can arrive any more; the oracle looks only then."""
    back: Sequence[Sequence[str]] = ()
    """By the number of stages that were done, from one on: what the whole way back from there changes at the target, in order."""
    needless: frozenset[str] = frozenset()
    """What the way back may leave out, where it came before its time or the target did it by itself."""


class Lab(Protocol):
    """Something real that scenes play in, one after another."""

    where: Where
    version: str
    spent: bool
    """What the last run left behind can't be cleared away: the next one needs a new lab."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def lost(self, door: Proxy) -> int:
        """How many answers to changes have been lost so far, at this door and otherwise."""
        ...


class Scene(Protocol):
    """One change of every kind in `kinds`."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> Sequence[str]:
        """The action of each of its stages, in order."""
        ...

    @property
    def where(self) -> Where: ...

    @property
    def share(self) -> int:
        """How often it is drawn, compared with others: the longer a run takes, the less."""
        ...

    def open(self, lab: Lab, number: int) -> AbstractAsyncContextManager[Situation]:
        """Make what run `number` needs in its lab, and clear it away afterwards."""
        ...


async def until(what: str, condition: Callable[[], Awaitable[bool]], within: float = 60.0) -> None:
    """Wait for a condition of the target. Raises `LabError` that names it."""
    try:
        async with asyncio.timeout(within):
            while not await condition():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise LabError(f"{what} did not come within {within:g} s") from None
