"""What is done to the replicas, their database and their way to NATS: drawn by a seed, many faults at once, and each of them ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from bot.adapters.clock import SystemClock

LONGEST_FREEZE: Final = 90.0
"""Seconds (issue 7): beyond every lease, so that a frozen replica wakes up beside its successor."""
LONGEST_ABSENCE: Final = 5.0
"""Seconds that a killed replica stays away; a frozen one stays away for longer."""
PAUSES: Final = (1.0, 6.0)
"""Seconds between the beginnings of two faults."""
RESTS: Final = (2.0, 30.0)
"""Seconds in which a replica that serves again suffers nothing: what never runs shows nothing."""


class FaultKind(StrEnum):
    FREEZE = "freeze"
    """SIGSTOP: connections and locks stay, and it goes on later as if nothing had been."""
    KILL = "kill"
    DATABASE = "database restart"
    LOST = "answer lost"
    """The answer to the next change of one NATS cluster never arrives."""


SHARES: Final = {FaultKind.FREEZE: 2, FaultKind.KILL: 3, FaultKind.DATABASE: 3, FaultKind.LOST: 2}
OF_A_REPLICA: Final = frozenset({FaultKind.FREEZE, FaultKind.KILL})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; `target` is the number of a replica or of a NATS cluster."""

    pause: float
    """Seconds since the fault before."""
    kind: FaultKind
    target: int
    seconds: float
    """How long it lasts; 0 for what lasts as long as it takes."""
    rest: float = 0.0
    """Seconds after it in which its replica is spared."""


@dataclass(frozen=True)
class Suffered:
    """A fault as it was: of a replica until it served again, of the database (`target` None), or of an answer."""

    kind: FaultKind
    target: int | None
    began: datetime
    ended: datetime


class Victim(Protocol):
    """A replica."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    async def kill(self) -> None:
        """SIGKILL; it stays away until `rise`."""
        ...

    async def rise(self) -> None:
        """Wait until it serves; one that was killed is started again."""
        ...


class World(Protocol):
    """What the nemesis may lay hands on."""

    @property
    def victims(self) -> Sequence[Victim]: ...

    @property
    def sites(self) -> int:
        """How many NATS clusters there are."""
        ...

    async def restart_database(self) -> None:
        """Cancelled, it comes to its end all the same."""
        ...

    def lose(self, site: int) -> None:
        """Keep the answer to the next change of this cluster."""
        ...


def drawn(seed: int, replicas: int, sites: int) -> Iterator[Fault]:
    """Yield faults for ever. A freeze is short more often than long: the mean is a quarter of the longest."""
    dice = random.Random(f"nemesis {seed}")
    while True:
        (kind,) = dice.choices(list(SHARES), list(SHARES.values()))
        pause, part = dice.uniform(*PAUSES), dice.random()
        target = dice.randrange(replicas if kind in OF_A_REPLICA else sites)
        lasts = {FaultKind.FREEZE: LONGEST_FREEZE * part**3, FaultKind.KILL: LONGEST_ABSENCE * part}
        yield Fault(pause, kind, target, lasts.get(kind, 0.0), dice.uniform(*RESTS))


@dataclass
class Nemesis:
    """Brings faults about until it is cancelled; all of them have ended then."""

    world: World
    faults: Iterator[Fault]
    suffered: list[Suffered] = field(default_factory=list[Suffered])
    _busy: set[int] = field(default_factory=set[int])
    """Replicas that suffer something."""

    async def run(self) -> None:
        """Bring about one fault after the other, also while earlier ones last."""
        async with asyncio.TaskGroup() as group:
            for fault in self.faults:
                await asyncio.sleep(fault.pause)
                if fault.kind not in OF_A_REPLICA:
                    # One at a time: a database that restarts cannot be restarted.
                    await self._outside(fault)
                elif fault.target not in self._busy:
                    self._busy.add(fault.target)
                    group.create_task(self._of_replica(fault))

    @property
    def told(self) -> str:
        counted = Counter(one.kind for one in self.suffered)
        return ", ".join(f"{kind} {counted[kind]}" for kind in FaultKind)

    async def _outside(self, fault: Fault) -> None:
        began = _now()
        if fault.kind is FaultKind.DATABASE:
            await self.world.restart_database()
            self.suffered.append(Suffered(fault.kind, None, began, _now()))
        else:
            self.world.lose(fault.target)
            self.suffered.append(Suffered(fault.kind, fault.target, began, began))

    async def _of_replica(self, fault: Fault) -> None:
        victim, began = self.world.victims[fault.target], _now()
        try:
            with suppress(asyncio.CancelledError):  # the end of all faults is the end of this one
                await self._lasts(fault, victim)
            await victim.rise()  # one that was frozen for long may find that it was struck off, and ends
        finally:
            self.suffered.append(Suffered(fault.kind, fault.target, began, _now()))
        await asyncio.sleep(fault.rest)
        self._busy.discard(fault.target)

    async def _lasts(self, fault: Fault, victim: Victim) -> None:
        if fault.kind is FaultKind.KILL:
            await victim.kill()
            await asyncio.sleep(fault.seconds)
            return
        victim.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            victim.thaw()


def _now() -> datetime:
    return SystemClock().now()
