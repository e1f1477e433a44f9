"""Carries runs out side by side: each lane has a lab of its own, and takes one run after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bot.errors import NatsmedicError
from bot.lab.process import LabError
from bot.model import ExecutionState
from tests.crash.databases import Databases, SqliteFiles
from tests.crash.oracle import Judged
from tests.crash.scene import Lab, Where
from tests.crash.trial import Host, NotBegunError, Run, Told

RUN_PATIENCE = 600.0
"""Seconds for one run, from the object that is made for it to the verdict; the longest are rollouts of three servers."""

MakeLab = Callable[[Path], Lab]


@dataclass(frozen=True)
class Lane:
    """A lab that is opened for this lane alone."""

    where: Where
    make: MakeLab


async def carried_out(
    runs: Iterable[Run],
    lanes: Sequence[Lane],
    folder: Path,
    heard: Callable[[Told], None],
    databases: Databases | None = None,
) -> list[Told]:
    """Carry all runs out and tell each as it ends.

    A run that the harness itself fails in counts as one with a violation. One that its lab can't begin is begun once more, in a new lab, and is told
    as not played where that fails, too. Without `databases` they are SQLite files in `folder`.
    """
    # Those of a small share take longest (tests/crash/scene.py): begun last, they would be what all wait for.
    longest_first = sorted(runs, key=lambda run: run.scene.share)
    waiting = {where: deque(run for run in longest_first if run.scene.where is where) for where in Where}
    host = Host(databases or SqliteFiles(folder / "databases"))
    told: list[Told] = []
    begun_again: set[int] = set()

    def settled(one: Told) -> bool:
        """Put a run that was not begun back, once; return whether the lab may take another one."""
        if one.unplayed and one.run.number not in begun_again:
            begun_again.add(one.run.number)
            waiting[one.run.scene.where].append(one.run)
            return False
        one.again = one.run.number in begun_again
        told.append(one)
        heard(one)
        # What is left behind must not disturb the next run.
        return not (one.judged.violations or one.unplayed or one.uncleared)

    async def serve(number: int, lane: Lane) -> None:
        life = 0
        while waiting[lane.where]:
            life += 1
            async with AsyncExitStack() as stack:
                try:
                    lab = await stack.enter_async_context(lane.make(folder / f"lab{number}-{life}"))
                except (LabError, NatsmedicError) as error:
                    # Lanes of one kind share their runs: by now others may have taken the last one.
                    if waiting[lane.where]:
                        settled(_unplayed(waiting[lane.where].popleft(), f"no lab: {error}"))
                    continue
                while waiting[lane.where]:
                    if not settled(await _carry(host, waiting[lane.where].popleft(), lab)) or lab.spent:
                        break

    async with asyncio.TaskGroup() as group:
        for number, lane in enumerate(lanes):
            group.create_task(serve(number, lane))
    return sorted(told, key=lambda one: one.run.number)


async def _carry(host: Host, run: Run, lab: Lab) -> Told:
    try:
        async with asyncio.timeout(RUN_PATIENCE):
            return await host.carry_out(run, lab)
    except NotBegunError as error:
        return _unplayed(run, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported as this run's failure
        failed = f"harness: {type(error).__name__}: {error}"
        return Told(run, Judged(ExecutionState.QUEUED, "It was not carried out.", (failed,)))


def _unplayed(run: Run, why: str) -> Told:
    return Told(run, Judged(ExecutionState.QUEUED, "It was not carried out.", ()), unplayed=why)
