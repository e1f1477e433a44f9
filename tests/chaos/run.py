"""One chaos run from the first server to the verdict."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.adapters.database import SqlStore
from bot.model import Execution, ExecutionState
from tests.chaos.arena import Arena, Crew, Site, crews, key_of, rules
from tests.chaos.judge import judged
from tests.chaos.nemesis import Nemesis, drawn
from tests.chaos.play import Played, carried_out, read
from tests.crash.oracle import ENDED_WITHIN

DRAWN_WITHIN: Final = 60.0
"""Seconds after the last fault within which the drawing of threads goes on (design/safety.md, I4). How long it takes then depends on how many there are."""
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    operations: int
    replicas: int
    sites: int
    workers: int
    """Operations of one cluster that are under way at once: all but one wait for its lock."""
    seed: int
    calm: bool = False
    slower: float = 1.0
    """How many times as long it takes until the next fault comes."""
    mixed: bool = False
    """Whether replicas are of two versions, of which only the newer one can run all that was begun."""
    minutes: float = math.inf
    """After which no further operation begins."""

    @property
    def able(self) -> range:
        """The replicas that can run all that was begun, after whichever start."""
        return range(self.replicas - 1 if self.mixed else 0, self.replicas)


@dataclass(frozen=True)
class Report:
    """What came of it."""

    plan: Plan
    played: Sequence[Played]
    ends: Counter[ExecutionState]
    delivered: Counter[str]
    faults: str
    exits: Sequence[int]
    """Exit codes of replicas that ended by themselves."""
    seconds: float
    processor: float
    """Seconds of processor time of everything together, the harness and the servers included."""
    violations: Sequence[str]

    def __str__(self) -> str:
        plan, took = self.plan, sorted((one.ended - one.began).total_seconds() for one in self.played)
        wishes = Counter(one.wish for one in self.played)
        changes = sum(len(one.effects) for one in self.played)
        mixed = " of two versions" if plan.mixed else ""
        return "\n".join(
            (
                f"{len(self.played)} operations on {plan.replicas} replicas{mixed} and {plan.sites} clusters in {self.seconds:.0f} s, seed {plan.seed}",
                f"delivered: {', '.join(f'{what} {count}' for what, count in self.delivered.items())}",
                f"wishes: {', '.join(f'{wish} {count}' for wish, count in wishes.most_common())}; {changes} changes took effect",
                f"processor time {self.processor:.0f} s, {self.processor / max(1, len(self.played)):.2f} s for an operation",
                f"an operation took {took[len(took) // 2]:.1f} s (median), {took[-1]:.0f} s at most" if took else "",
                f"executions ended {', '.join(f'{state} {count}' for state, count in self.ends.most_common())}",
                f"faults: {self.faults or 'none'}; replicas that ended by themselves: {list(self.exits) or 'none'}",
                f"violations: {len(self.violations)}",
                *(f"- {violation}" for violation in self.violations),
            )
        )


async def chaos(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Report:
    """Play the plan. `tell` hears of every operation as it ends."""
    people = crews(plan.sites * plan.workers)
    began, busy = time.monotonic(), _processor()
    async with Arena(
        folder, replicas=plan.replicas, sites=plan.sites, people=people, seed=plan.seed, mixed=plan.mixed
    ) as arena:
        tell(f"{plan.replicas} replicas and {plan.sites} clusters are up after {time.monotonic() - began:.0f} s")
        nemesis = Nemesis(arena, drawn(plan.seed, plan.replicas, plan.sites, plan.slower))
        played: list[Played] = []
        violations: list[str] = []
        async with _suffering(arena, nemesis, calm=plan.calm) as over:
            try:
                await _play(plan, arena, people, played, over, tell)
            except TimeoutError:
                violations.append(f"I6: operations were under way {ENDED_WITHIN:.0f} s after the last fault")
        ended = time.monotonic()
        violations += await _drawn(arena)
        tell(f"every thread is drawn {time.monotonic() - ended:.0f} s after the last operation")
        violations += await judged(arena.store, played, rules(people), nemesis.suffered, plan.able)
        violations += _doubled(arena)
        ends = Counter([one.state for one in await _executions(arena.store, played)])
        exits = [code for victim in arena.victims for code in victim.ended]
    return Report(
        plan,
        played,
        ends,
        arena.delivered,
        nemesis.told,
        exits,
        time.monotonic() - began,
        _processor() - busy,
        violations,
    )


def _processor() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    return sum(os.times()[:4])


@asynccontextmanager
async def _suffering(arena: Arena, nemesis: Nemesis, *, calm: bool) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Let the nemesis run beside the block; what is yielded ends all faults, as the end of the block does."""
    running = asyncio.create_task(nemesis.run()) if not calm else None

    async def end() -> None:
        if running is not None and not running.done():
            running.cancel()
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)
        arena.heal()

    try:
        yield end
    finally:
        await end()
        if running is not None and not running.cancelled() and (error := running.exception()) is not None:
            raise error


async def _play(
    plan: Plan,
    arena: Arena,
    people: Sequence[Crew],
    played: list[Played],
    over: Callable[[], Awaitable[None]],
    tell: Callable[[str], None],
) -> None:
    """Play all operations. Faults end with the last one that begins, and what is under way then has the time of I6 to end."""
    numbers = _numbers(plan)
    places = itertools.product(arena.places, range(plan.workers))
    workers = [
        asyncio.create_task(_worker(plan, arena, site, crew, numbers, played, tell))
        for (site, _), crew in zip(places, people, strict=True)
    ]
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        await over()
        async with asyncio.timeout(ENDED_WITHIN):
            await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _numbers(plan: Plan) -> Iterator[int]:
    """Number the operations, for as long as they may begin."""
    until = time.monotonic() + plan.minutes * 60
    return itertools.takewhile(lambda _: time.monotonic() < until, range(1, plan.operations + 1))


async def _worker(
    plan: Plan,
    arena: Arena,
    site: Site,
    crew: Crew,
    numbers: Iterator[int],
    played: list[Played],
    tell: Callable[[str], None],
) -> None:
    for number in numbers:
        one = await carried_out(arena, site, crew, number, plan.seed)
        played.append(one)
        took = (one.ended - one.began).total_seconds()
        tell(
            f"{len(played):>5}/{plan.operations} {took:6.1f} s  operation {number} on {site.name}: {one.wish} {one.problem or 'is there'}"
        )


async def _drawn(arena: Arena) -> list[str]:
    """I4: every thread comes to show what there is, without a standstill."""
    fewest, since = math.inf, time.monotonic()
    while behind := len(await read(arena, lambda store: store.behind())):
        if behind < fewest:
            fewest, since = behind, time.monotonic()
        if time.monotonic() - since > DRAWN_WITHIN:
            return [f"I4: {behind} threads do not show what there is, and none has come to for {DRAWN_WITHIN:.0f} s"]
        await asyncio.sleep(LOOK_SECONDS)
    return []


def _doubled(arena: Arena) -> list[str]:
    """I4: no message stands twice."""
    keys = Counter(
        (site.channel, key_of(message))
        for site in arena.places
        for message in arena.slack.messages(site.channel)
        if key_of(message)
    )
    return [f"I4: {key} stands {times} times in {channel}" for (channel, key), times in keys.items() if times > 1]


async def _executions(store: SqlStore, played: Sequence[Played]) -> list[Execution]:
    found: list[Execution] = []
    for one in played:
        for proposal in await store.proposals(one.incident):
            execution = await store.execution_of(proposal.id)
            found += [execution] if execution is not None else []
    return found
