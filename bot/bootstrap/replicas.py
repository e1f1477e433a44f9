"""Several processes on one database: who of them lives, who leads, and who goes on with the work of one that died.

Every replica says every few seconds in the database that it lives, and watches the counts of the others: one that stands still for `DEAD_SECONDS` by the
watcher's own clock is struck off. No two clocks are ever compared, so none needs to be right. From then on the database refuses whatever that replica writes,
and it stops sending to clusters before that: its lease ends by its own clock, which began to run earlier (bot/adapters/fenced.py). A process that was only
stopped and wakes up later therefore finds that it may do nothing, and ends.

The one that leads does what must be done once: it folds alerts, sweeps, draws threads, keeps checkpoints, hears advisories and keeps schedules. Leading is
never taken from a replica that lives. Requests, clicks and commands are taken by all, and whoever takes a click runs what it starts, and tells the one that
leads, so that the thread shows it at once.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Protocol

import structlog

from bot.adapters.database import SqlStore
from bot.errors import ReplicaExpelled, StoreError
from bot.model import IncidentId
from bot.ports import Clock, Roster

BEAT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.5
"""Until the next attempt after a beat that failed."""
DEAD_SECONDS: Final = 10.0
"""For which a replica's count stands still before it is struck off. With a beat before that is noticed, and one until its work is taken over, 14 s: issue 7 wants
the work to go on within 15. A process whose event loop is blocked for that long serves nobody either."""
LEASE_SECONDS: Final = 9.0
"""After the beginning of its last beat a replica sends nothing more. The others see that beat after it began, so they wait longer than this."""
GAP_SECONDS: Final = 2 * BEAT_SECONDS
"""Between two own beats above which a watcher forgets what it saw: while the database is away nobody's count moves, and nobody is dead for that."""
ALONE: Final = "natsmedic"
"""The one process of a database that takes no several; the same after each start, so that the engine resumes its own work."""

Seconds = Callable[[], float]
Run = Callable[[], Awaitable[None]]
"""A part of the bot that works for ever."""

log = structlog.get_logger(__name__)


class Work(Protocol):
    """What replicas have begun (the engine)."""

    async def owners(self) -> frozenset[str]:
        """Return the replicas that have work which is not done."""
        ...

    async def adopt(self, owner: str) -> int:
        """Let the work of a replica go on elsewhere; return how much it was."""
        ...


class Replica:
    """This process as one of those that serve with a database. Without a roster it is the only one."""

    def __init__(self, name: str, roster: Roster | None, *, seconds: Seconds = time.monotonic) -> None:
        self.name = name
        self.leading = asyncio.Event()
        """Set once this replica leads; it stays so until the end."""
        self.expelled = asyncio.Event()
        """Set once it is off the list and must end."""
        self._roster = roster
        self._seconds = seconds
        self._beaten = seconds()
        self._seen: dict[str, tuple[int, float]] = {}
        """The counts of the others, and since when they have stood there."""
        if roster is None:
            self.leading.set()

    @property
    def only_one(self) -> bool:
        """Whether no other process can serve with the database."""
        return self._roster is None

    @property
    def silence(self) -> float:
        """Seconds since this replica last said that it lives; 0 for the only one."""
        return 0.0 if self._roster is None else self._seconds() - self._beaten

    @property
    def may_send(self) -> bool:
        """Whether nobody else can have gone on with this replica's work."""
        return self.silence < LEASE_SECONDS and not self.expelled.is_set()

    def answers_for(self, owner: str) -> bool:
        """Whether what this replica began is for this process to start again: its own, and for the leader that of the dead."""
        return owner == self.name or (self.leading.is_set() and owner not in self._seen)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing new should be sent here."""
        if self.may_send:
            return ()
        return (
            f"This replica has not reached the database for {self.silence:.0f} s, so others may go on with its work.",
        )

    def insist(self) -> None:
        """Raise `ReplicaExpelled` where this replica is off the list."""
        if self.expelled.is_set():
            raise ReplicaExpelled(
                f"Replica {self.name} was taken for dead: the others go on with its work. Start it again."
            )

    def once_leading(self, duties: Mapping[str, Run]) -> dict[str, Run]:
        """Return parts that begin once this replica leads."""

        async def begin(run: Run) -> None:
            await self.leading.wait()
            await run()

        return {part: partial(begin, run) for part, run in duties.items()}

    async def run(self, clock: Clock, ended: Callable[[], None]) -> None:
        """Beat until this replica is struck off, and say so."""
        while not self.expelled.is_set():
            try:
                await self.beat()
            except ReplicaExpelled as error:
                log.critical("this replica ends", replica=self.name, reason=str(error))
                self.expelled.set()
            except StoreError as error:
                log.warning("the other replicas could not be told that this one lives", error=str(error))
                await clock.sleep(RETRY_SECONDS)
            except Exception:  # a defect here must not look like death
                log.exception("a beat failed")
                await clock.sleep(RETRY_SECONDS)
            else:
                await clock.sleep(BEAT_SECONDS)
        ended()

    async def beat(self) -> None:
        """Say once that this replica lives, and strike off whoever does not."""
        if self._roster is None:
            return
        began = self._seconds()
        known = self._seen if began - self._beaten <= GAP_SECONDS else {}
        dead = {name: beats for name, (beats, since) in known.items() if began - since >= DEAD_SECONDS}
        told = await self._roster.beat(self.name, dead)
        if dead.keys() - told.others.keys():
            log.error("replicas are taken for dead", replicas=sorted(dead.keys() - told.others.keys()))
        self._beaten = began
        self._seen = self._watched(told.others, known)
        if told.leads and not self.leading.is_set():
            log.info("this replica leads", replica=self.name)
            self.leading.set()

    def _watched(
        self, others: Mapping[str, int], known: Mapping[str, tuple[int, float]]
    ) -> dict[str, tuple[int, float]]:
        now = self._seconds()
        return {
            name: known[name] if name in known and known[name][0] == beats else (beats, now)
            for name, beats in others.items()
        }


@asynccontextmanager
async def joined(store: SqlStore, clock: Clock, ended: Callable[[], None]) -> AsyncGenerator[Replica]:
    """Serve with the database while the block runs; `ended` is called once this replica must end.

    Raises `StoreError` where the database takes one process only and has it.
    """
    if not store.takes_several:
        await store.acquire_process_lock()
        yield Replica(ALONE, None)
        return
    replica = Replica(f"{socket.gethostname()}/{secrets.token_hex(4)}", store)
    await store.join(replica.name)
    await replica.beat()
    beating = asyncio.create_task(replica.run(clock, ended), name="replica")
    try:
        yield replica
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        with suppress(StoreError):  # the others notice it by themselves
            await store.leave(replica.name)


async def take_over(store: SqlStore, work: Work, clock: Clock) -> None:
    """Let the work of replicas that are off the list go on elsewhere, for ever; only the one that leads does that."""
    while store.takes_several:
        try:
            # In this order: whoever has begun work was on the list before that, so nobody's work is taken who has just joined.
            owners = await work.owners()
            for owner in sorted(owners - await store.replicas()):
                if count := await work.adopt(owner):
                    log.warning("the work of a replica that is gone goes on", replica=owner, phases=count)
        except StoreError as error:
            log.warning("what the dead have begun could not be looked for", error=str(error))
        await clock.sleep(BEAT_SECONDS)
    await asyncio.Event().wait()


async def hear(store: SqlStore, hurry: Callable[[IncidentId], None], clock: Clock) -> None:
    """Hurry, for ever, where a person has acted on an incident at another replica; only the one that leads, and so draws, does that."""
    lost = False
    while store.takes_several:
        try:
            async with store.hurried() as incidents:
                lost = False
                async for incident in incidents:
                    hurry(incident)
        except StoreError as error:
            if not lost:
                log.warning("what people do at other replicas is shown some seconds late", error=str(error))
            lost = True
        await clock.sleep(RETRY_SECONDS)
    await asyncio.Event().wait()
