"""The executor in a process of its own: the real engine, store, sweeper, actions and adapters, without Slack and webhooks. Made to be killed.

It runs until the one execution has ended. It is started by a fork server that has imported everything already, so a start costs no time.
"""

from __future__ import annotations

import asyncio
import copy
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from bot import crashpoints
from bot.action import Comparing
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.engine import DbosEngine
from bot.adapters.nats import connect_cluster
from bot.bootstrap import both_sides
from bot.bootstrap.replicas import ALONE
from bot.bootstrap.serving import writers_of
from bot.crashpoints import Point
from bot.flow.execution import Executor
from bot.flow.stages import AnyAction, Stages
from bot.flow.sweep import Sweeper
from bot.limits import Limits
from bot.model import Execution, JsonObject, OperationId, Outcome, Record, Verification
from bot.ports import Phase, PhaseHandler, Readers, Steps, Writers
from bot.registry import load
from bot.settings import ClusterSettings, LimitSettings, PolicySettings, ThreadSettings
from tests.crash.people import RULES, TwoPeople

SETTLE = 0.3
"""Seconds instead of an action's own settle time: how long a condition must hold is not what is tested here."""
HURRY = 4.0
"""How many times as often as in production a poll looks; what is measured in time by the clock stays as long."""
LOOK_SECONDS = 0.1


class HurriedClock(SystemClock):
    """The real time, with shorter pauses between two looks."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / HURRY)


@dataclass(frozen=True)
class Death:
    """Kill at the nth time that a point is reached, counted from the intent of a stage on where one is given; it may never come."""

    point: Point
    nth: int = 1
    stage: int | None = None

    def __str__(self) -> str:
        return f"{self.point}:{self.nth}" + ("" if self.stage is None else f" of stage {self.stage + 1}")


class Killer:
    """Listens at the crash points, and kills this process where it is to die."""

    def __init__(self, death: Death) -> None:
        self._death = death
        self._intents = 0
        self._left = death.nth

    def __call__(self, point: Point) -> None:
        self._intents += point is Point.P11
        if point is self._death.point and self._death.stage in {None, self._intents - 1}:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Assignment:
    """What a child is to do."""

    database: str
    """URL."""
    execution: str
    cluster: ClusterSettings
    death: Death | None = None
    doubted: tuple[str, JsonObject] | None = None
    """The stage, as `(kind, params)`, whose symptom stays although its change takes effect."""
    idle: str = ""
    """The kind of action whose calls succeed and do nothing."""


def quick_stages(doubted: tuple[str, JsonObject] | None = None, idle: str = "") -> Stages:
    """All actions, each with a short settle time."""
    actions = quick(load().actions)
    if idle:
        actions[idle] = cast("AnyAction", Idle(actions[idle]))
    if doubted is not None:
        kind, params = doubted
        actions[kind] = cast("AnyAction", Doubted(actions[kind], params))
    return Stages(actions)


class Doubted:
    """An action that does what it does, and whose verification finds that it did not help where it has these parameters."""

    def __init__(self, real: AnyAction, params: JsonObject) -> None:
        self._real = real
        self._params = real.params.model_validate(params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def verify(self, readers: Readers, params: Record, operation: OperationId) -> Verification:
        """Look, and say that the symptom is there."""
        seen = await self._real.verify(readers, params, operation)
        # Flow fills in what stages compare with; it is no part of what was approved.
        if (params.model_copy(update={"before": {}}) if isinstance(params, Comparing) else params) != self._params:
            return seen
        return Verification(
            outcome=Outcome.FAILED, sentence="The symptom is still there.", numbers=seen.numbers, final=True
        )


class Idle:
    """An action whose call succeeds and changes nothing; all else, the verification too, is the real one's."""

    patience = 3.0
    """Seconds; nothing will come."""

    def __init__(self, real: AnyAction) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def apply(self, readers: Readers, writers: Writers, params: Record, operation: OperationId) -> None:
        """Say nothing, which is a yes."""
        del readers, writers, params, operation


def serve(assignment: Assignment) -> None:
    """Carry the execution to its end, or die on the way. Does not return: an orderly end takes the engine half a second, and is not what is tested."""
    crashpoints.listen(Killer(assignment.death) if assignment.death else None)
    asyncio.run(_serve(assignment))


def prepare(database: str) -> None:
    """Make the tables of the store and of the engine in a new database."""
    asyncio.run(_prepare(database))


def quick(actions: Mapping[str, AnyAction]) -> dict[str, AnyAction]:
    made: dict[str, AnyAction] = {}
    for kind, action in actions.items():
        quick = copy.copy(action)
        object.__setattr__(quick, "settle", min(action.settle, SETTLE))
        made[kind] = quick
    return made


class _Mute:
    """A chat without a thread."""

    def nudge(self, incident: str) -> None:
        del incident


async def _serve(assignment: Assignment) -> None:
    clock, chat = HurriedClock(), _Mute()
    cluster = assignment.cluster
    reading, writing = await connect_cluster(cluster, clock)
    writers = writers_of(writing, cluster)
    assert writers is not None, "the harness gives every cluster a writer"
    async with SqlStore.open(assignment.database, clock) as store:
        handlers: dict[Phase, PhaseHandler] = dict.fromkeys(Phase, _nothing)
        engine = DbosEngine(assignment.database, ALONE, handlers)
        executor = Executor(
            store=store,
            stages=quick_stages(assignment.doubted, assignment.idle),
            readers={cluster.name: both_sides(reading, cluster, clock)},
            writers={cluster.name: writers},
            directory=TwoPeople(),
            rules=RULES,
            limits=Limits(LimitSettings(), clock),
            engine=engine,
            clock=clock,
            chat=chat,
        )
        handlers[Phase.EXECUTION] = executor.run
        await engine.launch()
        sweeping = asyncio.create_task(
            Sweeper(
                store=store, engine=engine, clock=clock, chat=chat, threads=ThreadSettings(), rules=PolicySettings()
            ).run()
        )
        await _ended(store, assignment.execution, sweeping)
        os._exit(0)


async def _ended(store: SqlStore, execution: str, sweeping: asyncio.Task[None]) -> Execution:
    """Wait for the end; what ends the sweeper before is raised."""
    while True:
        found = await store.get(Execution, execution)
        if found is not None and found.state.terminal:
            return found
        if sweeping.done():
            sweeping.result()
        await asyncio.sleep(LOOK_SECONDS)


async def _nothing(key: str, steps: Steps) -> None:
    """A diagnosis is not what is tested here."""
    del key, steps


async def _prepare(database: str) -> None:
    async with SqlStore.open(database, SystemClock()):
        engine = DbosEngine(database, ALONE, dict.fromkeys(Phase, _nothing))
        await engine.launch()
        await engine.shutdown()


def now() -> datetime:
    """The time by which the harness and its children measure."""
    return SystemClock().now()
