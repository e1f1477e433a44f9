"""One run: a change is proposed and approved, its executor is killed and started again, and the oracle looks at what became of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.process
import pkgutil
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from multiprocessing.context import ForkServerContext
from threading import Lock
from typing import Final

import runbooks
from bot import actions
from bot.action import Draft
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.nats import connect_cluster
from bot.bootstrap import both_sides
from bot.crashpoints import Point
from bot.flow.approval import ApprovalDesk, Click, queued
from bot.lab.process import LabError
from bot.limits import Limits
from bot.model import (
    AuditDraft,
    Choice,
    Execution,
    ExecutionId,
    JsonObject,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    StageState,
    Subject,
    new_id,
)
from bot.policy import typed_name
from bot.ports import Phase, Readers
from bot.settings import LimitSettings
from tests.crash import child
from tests.crash.child import Assignment, Death, quick_stages
from tests.crash.databases import Databases
from tests.crash.oracle import Evidence, Judged, judge
from tests.crash.people import ADA, BO, RULES, TwoPeople
from tests.crash.scene import Lab, Scene, Situation
from tests.integration import store_records as records

END_PATIENCE = 300.0
"""Seconds from a start or restart to a final state (I6), or to the death that it is armed with: a new server may need minutes to be current."""
LATE_ANSWERS = 0.5
"""Seconds for answers that are on their way when a child has gone."""


@dataclass(frozen=True)
class Run:
    """What happens in one run."""

    number: int
    scene: Scene
    deaths: tuple[Death, ...]
    """One for each life of the executor; the life after the last one is undisturbed."""
    lost: int | None = None
    """The stage whose change is made, and whose answer never arrives."""
    doubted: int | None = None
    """The stage whose verification fails, though its call succeeds and takes effect."""
    pause: float = 0.0
    """Seconds between a death and the next life."""

    @property
    def told(self) -> str:
        faults = list(map(str, self.deaths))
        if self.lost is not None:
            faults.append(f"the answer to stage {self.lost + 1} is lost")
        if self.doubted is not None:
            faults.append(f"stage {self.doubted + 1} does not help")
        return f"{self.scene.name} / {', '.join(faults) or 'nothing'}"


@dataclass
class Told:
    """What became of a run."""

    run: Run
    judged: Judged
    died: list[tuple[Point, str]] = field(default_factory=list[tuple[Point, str]])
    """Where it really died: the point, and the kind of the stage that was on."""
    seconds: float = 0.0
    lost: int = 0
    """How many answers to changes were really lost."""
    unplayed: str = ""
    """Why the lab could not bring about what the run begins with: it says nothing about the bot then."""
    again: bool = False
    """Whether a lab could not begin it, and another one did or could not either."""
    uncleared: str = ""
    """Why what the run left behind could not be cleared away: no other run may follow in its lab."""


class Host:
    """Starts children and keeps the databases. One for all runs."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._prepared = False
        self._gate = asyncio.Lock()

    async def database(self, name: str) -> str:
        """A database of this name with its tables made, as its URL."""
        async with self._gate:
            if not self._prepared:
                await _in_child(child.prepare, (await asyncio.to_thread(self._databases.empty),), END_PATIENCE)
                self._prepared = True
            return await asyncio.to_thread(self._databases.copy, name)

    async def carry_out(self, run: Run, lab: Lab) -> Told:
        """Carry one run out, from the proposal to the verdict of the oracle. Raises `NotBegunError`."""
        began, told = child.now(), None
        try:
            async with AsyncExitStack() as stack:
                situation = await _begun(stack, run, lab)
                lost = lab.lost(situation.door)
                told = await self._played(run, situation)
                told.lost = lab.lost(situation.door) - lost
                if run.lost is not None and not run.deaths and not told.lost:
                    missed = "harness: no answer was lost"
                    told.judged = replace(told.judged, violations=(*told.judged.violations, missed))
        except Exception as error:
            if told is None:
                raise
            told.uncleared = f"{type(error).__name__}: {error}"
        told.seconds = (child.now() - began).total_seconds()
        return told

    async def in_vain(self, situation: Situation, kind: str) -> Execution:
        """Carry a change out whose stages of this kind say that they are done, and change nothing; return how it ended."""
        database = await self.database(new_id("vain"))
        execution, _ = await _approved(database, situation)
        await _life(Assignment(database, execution, situation.cluster, idle=kind), None, END_PATIENCE)
        async with SqlStore.open(database, SystemClock()) as store:
            found = await store.get(Execution, execution)
        assert found is not None
        return found

    async def _played(self, run: Run, situation: Situation) -> Told:
        name = f"run{run.number}"
        database = await self.database(name)
        try:
            execution, proposal = await _approved(database, situation)
        except ChildFailedError as error:
            await asyncio.to_thread(self._databases.drop, name)  # begun once more, the run takes a new one of this name
            raise NotBegunError(str(error)) from error
        assignment = Assignment(database, execution, situation.cluster, doubted=_doubted(run, situation))
        if run.lost is not None:
            changes = situation.expected[_stage(run.lost, situation)]
            situation.lose(next(iter(changes), ""))
        died: list[tuple[Point, str]] = []
        restarted: datetime | None = None
        for death in run.deaths:
            code = await _life(assignment, death, END_PATIENCE)
            if code == 0:
                break
            died.append((death.point, await _stage_that_was_on(database, execution, proposal)))
            await asyncio.sleep(run.pause)
            restarted = child.now()
        else:
            await _life(assignment, None, END_PATIENCE)
        if situation.calm is not None:
            await situation.calm()
        await asyncio.sleep(LATE_ANSWERS)
        evidence = Evidence(situation, execution, restarted)
        async with SqlStore.open(database, SystemClock()) as store:
            judged = await judge(store, evidence)
        if not judged.violations:
            await asyncio.to_thread(self._databases.drop, name)
        return Told(run, judged, died)


async def _begun(stack: AsyncExitStack, run: Run, lab: Lab) -> Situation:
    """Bring about what a run begins with. Nothing of the bot has done anything by then, so whatever fails is the lab's."""
    try:
        return await stack.enter_async_context(run.scene.open(lab, run.number))
    except Exception as error:
        raise NotBegunError(f"{type(error).__name__}: {error}") from error


async def _life(assignment: Assignment, death: Death | None, patience: float) -> int:
    """Start a child and return its exit code: 0 where it came to its end. Raises `ChildFailed` for any other end than that or the death."""
    code = await _in_child(child.serve, (replace(assignment, death=death),), patience)
    if code == 0 or (death is not None and code == -signal.SIGKILL):
        return code
    raise ChildFailedError(f"the executor ended with {code}, armed with {death}")


class NotBegunError(LabError):
    """The lab could not bring about what a run begins with."""


class ChildFailedError(Exception):
    """A child ended in a way that nobody asked for."""


@cache
def _processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # What the registry would import: half a second of work that no child need do for itself.
    found = [
        f"{package.__name__}.{module.name}"
        for package in (actions, runbooks)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    context.set_forkserver_preload([child.__name__, *found])
    return context


_STARTS_AND_ENDS: Final = Lock()
"""Starting a process polls all others, too, and of two threads that read how one ended only the first is told (multiprocessing/popen_forkserver.py)."""


def _start(process: multiprocessing.process.BaseProcess) -> None:
    with _STARTS_AND_ENDS:
        process.start()


def _exit_code(process: multiprocessing.process.BaseProcess) -> int | None:
    with _STARTS_AND_ENDS:
        return process.exitcode


async def _in_child(work: Callable[..., None], arguments: tuple[object, ...], patience: float) -> int:
    process = _processes().Process(target=work, args=arguments, daemon=True)
    await asyncio.to_thread(_start, process)
    await _ends(process, patience)
    code = await asyncio.to_thread(_exit_code, process)
    if code is None:
        process.kill()
        await _ends(process, patience)
        raise ChildFailedError(f"the executor did not end within {patience:g} s")
    return code


async def _ends(process: multiprocessing.process.BaseProcess, patience: float) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        async with asyncio.timeout(patience):
            await ended.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(process.sentinel)


def _doubted(run: Run, situation: Situation) -> tuple[str, JsonObject] | None:
    return None if run.doubted is None else situation.stages[_stage(run.doubted, situation)]


def _stage(wanted: int, situation: Situation) -> int:
    """Return the stage that is there for the one that is wanted: newer servers need fewer of some."""
    return min(wanted, len(situation.stages) - 1)


class _Nobody:
    """An engine and a chat for the side on which nothing is executed."""

    async def start(self, phase: Phase, key: str) -> None:
        del phase, key

    def nudge(self, incident: str) -> None:
        del incident


async def _approved(database: str, situation: Situation) -> tuple[ExecutionId, Proposal]:
    """Propose the change and have both people approve it at the real desk; returns its execution, which nothing has started yet."""
    clock, nobody = SystemClock(), _Nobody()
    reading, writing = await connect_cluster(situation.cluster, clock)
    try:
        readers = both_sides(reading, situation.cluster, clock)
        async with SqlStore.open(database, clock) as store:
            proposal = await _proposed(store, readers, situation)
            desk = ApprovalDesk(
                store=store,
                directory=TwoPeople(),
                readers={readers.cluster: readers},
                stages=quick_stages(),
                rules=RULES,
                limits=Limits(LimitSettings(), clock),
                engine=nobody,
                clock=clock,
                chat=nobody,
            )
            people = (ADA, BO) if proposal.risk is RiskClass.DESTRUCTIVE else (ADA,)
            for person in people:
                click = Click(user=person, button=proposal.button, choice=Choice.APPROVE)
                answer = await desk.decide(click, "the harness looked at it", typed_name(proposal) or "")
                if not answer.accepted:
                    raise ChildFailedError(f"the proposal was not approved: {answer.sentence} {answer.errors}")
    finally:
        await reading.aclose()
        if writing is not None:
            await writing.aclose()
    return queued(proposal, clock).id, proposal


async def _proposed(store: SqlStore, readers: Readers, situation: Situation) -> Proposal:
    draft = Draft(title="Repair", why="It is broken.", stages=tuple(situation.stages))
    plan = await quick_stages().plan(readers, draft)
    if not plan.stages:
        raise ChildFailedError(f"the change is not offered: {plan.guidance}")
    now = child.now()
    proposal = records.proposal().model_copy(
        update={
            "id": ProposalId(new_id("prop")),
            "cluster": readers.cluster,
            "subject": Subject(cluster=readers.cluster),
            "risk": plan.risk,
            "stages": plan.stages,
            "world": plan.world,
            "button": new_id("btn"),
            "state": ProposalState.PENDING,
            "created_at": now,
            "expires_at": now + timedelta(seconds=RULES.expiry_seconds[plan.risk]),
        }
    )
    async with store.begin() as tx:
        await tx.put(records.incident().model_copy(update={"last_diagnosis": records.diagnosis().id}))
        await tx.put(records.diagnosis())
        await tx.put(proposal)
        await tx.audit(AuditDraft(kind="proposal.created", actor="bot", subject=proposal.id, sentence="Proposed."))
    return proposal


async def _stage_that_was_on(database: str, execution: ExecutionId, proposal: Proposal) -> str:
    """The kind of the first stage that had not come to its end; that of the last one where all had."""
    async with SqlStore.open(database, SystemClock()) as store:
        found = await store.execution_of(proposal.id)
    assert found is not None, execution
    open_ = [run.index for run in found.stages if run.state not in {StageState.VERIFIED, StageState.ROLLED_BACK}]
    return proposal.stages[min(open_, default=len(found.stages) - 1)].kind
