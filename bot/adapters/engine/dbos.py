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
"""The suffix of the workflow names; a phase that must change incompatibly is registered under the next one, beside this one."""
RETRY_DELAYS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds from a phase's nth failure in a row to its next run; the last one repeats. Below the 60 s in which I7 wants an interrupted repair resumed."""
_SETTLE_SECONDS = 0.05
"""Pause between looks at a workflow whose error DBOS is about to record."""

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

    def __init__(self, gate: _Gate) -> None:
        self._gate = gate
        self._failure: BaseException | None = None

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Run `work` as a checkpointed step; after a step that raised, every further one raises the same."""
        if self._failure is not None:
            raise self._failure

        async def step() -> str:
            return await work()

        if self._gate.closed:
            await asyncio.Event().wait()  # until `shutdown` cancels the phase, which stays pending
        self._gate.enter()
        try:
            return await DBOS.run_step_async({"name": name}, step)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._gate.leave()


class DbosEngine:
    """Runs phases. `executor_id` names this replica: only the executor that began a phase resumes it, so it must be the same after a restart."""

    def __init__(
        self,
        database_url: str,
        executor_id: str,
        handlers: Mapping[Phase, PhaseHandler],
        *,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._url = database_url
        self._executor_id = executor_id
        self._handlers = handlers
        self._retry_delays = retry_delays
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
        DBOS(config=self._config())
        self._workflows = {phase: self._register(phase, handler) for phase, handler in self._handlers.items()}
        DBOS.launch()

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
                case WorkflowStatusString.ERROR.value:
                    first = await self._first_to_redo(workflow_id, found.error)
                    await DBOS.rewind_workflow_async(workflow_id, start_step=first)
                case WorkflowStatusString.CANCELLED.value | WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value:
                    await DBOS.resume_workflow_async(workflow_id)
                case status:
                    return status != WorkflowStatusString.PENDING.value
            return True

    async def _first_to_redo(self, workflow_id: str, error: Exception | None) -> int:
        """Return the number of the step that failed, or of the one after the last where the phase failed between steps."""
        if isinstance(error, PortableWorkflowError) and error.name == dbos_error.DBOSUnexpectedStepError.__name__:
            return 1
        steps = await DBOS.list_workflow_steps_async(workflow_id)
        failed = [step["function_id"] for step in steps if step["error"] is not None]
        return min(failed, default=1 + max((step["function_id"] for step in steps), default=0))

    def _register(self, phase: Phase, handler: PhaseHandler) -> _Workflow:
        @DBOS.workflow(name=f"{APPLICATION}_{phase}_v{WORKFLOW_VERSION}")
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
            await handler(key, _Steps(self._gate))
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
