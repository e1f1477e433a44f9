"""The port `Engine` on DBOS 3.4: one stable workflow per phase, its steps checkpointed, everything in our own event loop.

Rules, and why:

- The workflow of (phase, key) has the id `phase:key`, so a second start finds the first, and no two of them ever run at once.
- A phase that **returns** is finished for ever: a later start does nothing. Work that must go on raises.
- A phase that **raises** is logged with its id and ends in ERROR; nothing of it is lost. It is started again no earlier than `RETRY_DELAYS` say: by this engine itself
  where the error says that a retry helps, and by whoever calls `start` next (the sweeper) otherwise. It goes on at the step that failed; completed steps are
  not run again.
- After a crash the phase is run again from its first line; completed steps answer with their recorded result, the interrupted one is run again. So a phase
  calls the same steps in the same order each time: which steps it calls may depend on its key and on results of earlier steps, never on a record
  read between steps. A phase that breaks this is started over from its first step.
- A step that raises ends the phase: its exception is recorded as text only, so a phase that went on after it would go another way when it is replayed.
- Values are JSON, never pickle. The application version is pinned: a new natsmedic finishes what an older one began (reference/dependencies.md 1.3 f). A
  phase whose steps change incompatibly gets a new workflow name beside the old one.
- DBOS is told to cancel nothing (1.3 d). `shutdown` leaves running phases pending, as a crash does; the next `launch` of the same executor resumes them.
  `park` before it lets running steps end and begins no further one, so that as little as possible is found half done.
- Several processes may share one database, each with an executor id that no other has or had. What one that is gone had begun is put into a queue (`adopt`), from
  which any of the others takes it; the update names the owner, so that work which goes on already is never taken twice.
- Each version of the workflows has a queue of its own, and a process only listens to those whose workflows it knows. So during an upgrade the old one never
  takes what only the new one can run, and the new one finishes what the old one began for as long as it is given the `earlier` handlers, too.

DBOS keeps one instance per process, so a process has at most one launched engine.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog
from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    PortableWorkflowError,
    SetWorkflowID,
    WorkflowStatusString,
)
from dbos import error as dbos_error
from sqlalchemy import make_url

from bot.errors import NatsmedicError
from bot.ports import Phase, PhaseHandler

log = structlog.get_logger(__name__)

APPLICATION = "natsmedic"
APPLICATION_VERSION = "natsmedic-1"
"""Pinned: DBOS only resumes work of its own version, and its default version changes with every release of it or of us."""
WORKFLOW_VERSION = 1
"""The suffix of the workflow names; when a phase must change incompatibly, all are registered under the next one, beside those of this one."""
POLL_SECONDS = 0.5
"""Between two looks into a queue. What is started goes no way through it, only what is taken over or started again."""
RETRY_DELAYS = (1.0, 2.0, 5.0, 10.0)
"""Seconds from a phase's nth failure in a row to its next run, none of its steps having ended since; the last one repeats.

Well below the 60 s in which I7 wants an interrupted repair resumed: the replica that waits may be lost in that time, which costs the 15 s of a take-over.
"""
_SETTLE_SECONDS = 0.05
"""Pause between looks at a workflow whose error DBOS is about to record."""

NOTHING_EARLIER: Mapping[int, Mapping[Phase, PhaseHandler]] = {}

_Workflow = Callable[[str], Coroutine[Any, Any, None]]


class _Gate:
    """Whether steps may begin."""

    def __init__(self) -> None:
        self.closed = False
        self.inside = 0
        """Steps that run."""
        self.changed = asyncio.Event()

    def enter(self) -> None:
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1
        self.changed.set()


class _Steps:
    """The steps of one run of a phase (port `Steps`)."""

    def __init__(self, gate: _Gate, ended: Callable[[], object]) -> None:
        self._gate = gate
        self._ended = ended
        """Is told of every step that ran and is on record."""
        self._failure: BaseException | None = None

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Run `work` as a checkpointed step; after a step that raised, every further one raises the same."""
        if self._failure is not None:
            raise self._failure

        ran = False

        async def step() -> str:
            nonlocal ran
            ran = True
            return await work()

        if self._gate.closed:
            await asyncio.Event().wait()  # until `shutdown` cancels the phase, which stays pending
        self._gate.enter()
        try:
            result = await DBOS.run_step_async({"name": name}, step)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._gate.leave()
        if ran:
            self._ended()
        return result


class DbosEngine:
    """Runs phases. `executor_id` names this process: what it began goes on at its next launch under the same name, or once another adopts it.

    `answers_for` says of an executor whether this one starts its failed phases again: of two that did so at once, both would run them.
    """

    def __init__(
        self,
        database_url: str,
        executor_id: str,
        handlers: Mapping[Phase, PhaseHandler],
        *,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        answers_for: Callable[[str], bool] = lambda _: True,
        version: int = WORKFLOW_VERSION,
        earlier: Mapping[int, Mapping[Phase, PhaseHandler]] = NOTHING_EARLIER,
    ) -> None:
        self._url = database_url
        self._executor_id = executor_id
        self._version = version
        self._handlers = {**earlier, version: handlers}
        self._retry_delays = retry_delays
        self._answers_for = answers_for
        self._workflows: dict[Phase, _Workflow] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._one_start = asyncio.Lock()
        self._gate = _Gate()

    async def launch(self) -> None:
        """Start DBOS inside the running loop and resume this executor's pending phases. The database's folder must exist."""
        _quiet()
        _use_wal(self._url)
        self._dbos = DBOS(config=self._config())
        for version, handlers in self._handlers.items():
            workflows = {phase: self._register(version, phase, handler) for phase, handler in handlers.items()}
            if version == self._version:
                self._workflows = workflows
        DBOS.listen_queues([_queue(version) for version in self._handlers])
        DBOS.launch()
        await DBOS.register_queue_async(_queue(self._version), polling_interval_sec=POLL_SECONDS)

    async def owners(self) -> frozenset[str]:
        """Return the executors that have begun phases which are not done."""
        pending = await DBOS.list_workflows_async(
            status=WorkflowStatusString.PENDING.value, load_input=False, load_output=False
        )
        return frozenset(found.executor_id for found in pending if found.executor_id is not None)

    async def adopt(self, owner: str) -> int:
        """Let the phases that an executor had begun go on elsewhere, or here; return how many. It must be gone, and stay so."""
        pending = await DBOS.list_workflows_async(
            status=WorkflowStatusString.PENDING.value, executor_id=owner, load_input=False, load_output=False
        )
        taken = [await asyncio.to_thread(self._requeue, found.workflow_id, found.name, owner) for found in pending]
        return sum(taken)

    def _requeue(self, workflow_id: str, name: str, owner: str) -> bool:
        # DBOS has no public call for it that asks whether the owner still is the owner (reference/dependencies.md 1.3 b).
        database = self._dbos._sys_db  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return database.reenqueue_for_recovery(workflow_id, [owner], _queue_of(name))

    async def park(self, patience: float) -> None:
        """Begin no further step, and wait until none runs, or so many seconds."""
        self._gate.closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._gate.inside:
                    self._gate.changed.clear()
                    await self._gate.changed.wait()

    async def shutdown(self) -> None:
        """Stop; phases that are running stay pending in the database."""
        for task in [*self._retries, *self._running.values()]:
            task.cancel()
        await asyncio.gather(*self._retries, *self._running.values(), return_exceptions=True)
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        # DBOS made its own thread pool the loop's default one and has just closed it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="natsmedic"))

    async def start(self, phase: Phase, key: str) -> None:
        """Start a phase for a key, or find the one there is; see the rules above for one that has failed. Does not wait for its end.

        Also safe inside a phase: it then leaves no trace among that phase's steps.
        """
        outside = contextvars.Context()
        await asyncio.create_task(self._start(phase, key), context=outside)

    async def _start(self, phase: Phase, key: str) -> bool:
        """Return False where a failed run is not recorded as such yet: look again."""
        workflow_id = _workflow_id(phase, key)
        async with self._one_start:
            if workflow_id in self._running or time.monotonic() < self._not_before.get(workflow_id, 0.0):
                return True
            found = await DBOS.get_workflow_status_async(workflow_id)
            if found is None:
                with SetWorkflowID(workflow_id):
                    await DBOS.start_workflow_async(self._workflows[phase], key)
                return True
            match found.status:
                case WorkflowStatusString.PENDING.value:
                    return found.executor_id != self._executor_id
                case _ if not self._answers_for(found.executor_id or self._executor_id):
                    return True
                case WorkflowStatusString.ERROR.value:
                    first = await self._first_to_redo(workflow_id, found.error)
                    await DBOS.rewind_workflow_async(workflow_id, start_step=first, queue_name=_queue_of(found.name))
                case WorkflowStatusString.CANCELLED.value | WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value:
                    await DBOS.resume_workflow_async(workflow_id, queue_name=_queue_of(found.name))
                case _:
                    pass
            return True

    async def _first_to_redo(self, workflow_id: str, error: Exception | None) -> int:
        """Return the number of the step that failed, or of the one after the last where the phase failed between steps."""
        if isinstance(error, PortableWorkflowError) and error.name == dbos_error.DBOSUnexpectedStepError.__name__:
            return 1
        steps = await DBOS.list_workflow_steps_async(workflow_id)
        failed = [step["function_id"] for step in steps if step["error"] is not None]
        return min(failed, default=1 + max((step["function_id"] for step in steps), default=0))

    def _register(self, version: int, phase: Phase, handler: PhaseHandler) -> _Workflow:
        @DBOS.workflow(name=f"{APPLICATION}_{phase}_v{version}")
        async def run(key: str) -> None:
            await self._run(phase, key, handler)

        return run

    async def _run(self, phase: Phase, key: str, handler: PhaseHandler) -> None:
        workflow_id = _workflow_id(phase, key)
        task = asyncio.current_task()
        if task is None or workflow_id in self._running:
            raise RuntimeError(f"Phase {workflow_id} would run twice at once.")
        self._running[workflow_id] = task
        try:
            await handler(key, _Steps(self._gate, lambda: self._failures.pop(workflow_id, None)))
        except Exception as error:
            self._failed(phase, key, error)
            raise
        else:
            self._failures.pop(workflow_id, None)
            self._not_before.pop(workflow_id, None)
        finally:
            del self._running[workflow_id]

    def _failed(self, phase: Phase, key: str, error: Exception) -> None:
        workflow_id = _workflow_id(phase, key)
        failures = self._failures.get(workflow_id, 0) + 1
        delay = self._retry_delays[min(failures, len(self._retry_delays)) - 1]
        self._failures[workflow_id] = failures
        self._not_before[workflow_id] = time.monotonic() + delay
        retried = isinstance(error, NatsmedicError) and error.retry_helps
        log.error(
            "phase failed",
            workflow=workflow_id,
            failures=failures,
            error=repr(error),
            retry_in=delay if retried else None,
            exc_info=error,
        )
        if retried:
            retry = asyncio.create_task(self._retry(phase, key, delay), context=contextvars.Context())
            self._retries.add(retry)
            retry.add_done_callback(self._retry_ended)

    def _retry_ended(self, retry: asyncio.Task[None]) -> None:
        self._retries.discard(retry)
        if not retry.cancelled() and (error := retry.exception()) is not None:
            log.error("phase not restarted, the next start will", error=repr(error), exc_info=error)

    async def _retry(self, phase: Phase, key: str, delay: float) -> None:
        await asyncio.sleep(delay)
        while not await self._start(phase, key):  # noqa: ASYNC110 - DBOS tells nobody when an error is recorded
            await asyncio.sleep(_SETTLE_SECONDS)

    def _config(self) -> DBOSConfig:
        return {
            "name": APPLICATION,
            "system_database_url": self._url,
            "executor_id": self._executor_id,
            "application_version": APPLICATION_VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "ERROR",
            "enable_otlp": False,
        }


def _workflow_id(phase: Phase, key: str) -> str:
    return f"{phase}:{key}"


def _queue(version: int) -> str:
    return f"{APPLICATION}-v{version}"


def _queue_of(workflow: str) -> str:
    """Return the queue of a workflow by its name."""
    return _queue(int(workflow.rpartition("_v")[2]))


def _quiet() -> None:
    """Let DBOS log through the root logger; it adds a console handler of its own where its logger has none."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _use_wal(url: str) -> None:
    """Make an SQLite file write-ahead logged: DBOS leaves it as it finds it, and the default blocks readers (reference/dependencies.md 1.3 i)."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        connection = sqlite3.connect(parsed.database)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        finally:
            connection.close()
