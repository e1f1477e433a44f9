"""Carries runs out side by side: each lane has a lab of its own, and takes one run after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.model import ExecutionState
from tests.crash.oracle import Judged
from tests.crash.scene import Lab, Where
from tests.crash.trial import Host, Run, Told

RUN_PATIENCE = 600.0
"""Seconds for one run, from the object that is made for it to the verdict; the longest are rollouts of three servers."""

MakeLab = Callable[[Path], Lab]


@dataclass(frozen=True)
class Lane:
    """A lab that is opened for this lane alone."""

    where: Where
    make: MakeLab


async def carried_out(
    runs: Iterable[Run], lanes: Sequence[Lane], folder: Path, heard: Callable[[Told], None]
) -> list[Told]:
    """Carry all runs out and tell each as it ends. A run that the harness itself fails in counts as one with a violation."""
    waiting = {where: deque(run for run in runs if run.scene.where is where) for where in Where}
    host = Host(folder / "databases")
    told: list[Told] = []

    async def serve(number: int, lane: Lane) -> None:
        life = 0
        while waiting[lane.where]:
            life += 1
            async with lane.make(folder / f"lab{number}-{life}") as lab:
                while waiting[lane.where]:
                    one = await _carry(host, waiting[lane.where].popleft(), lab)
                    told.append(one)
                    heard(one)
                    if one.judged.violations:
                        break  # what is left behind must not disturb the next run

    async with asyncio.TaskGroup() as group:
        for number, lane in enumerate(lanes):
            group.create_task(serve(number, lane))
    return sorted(told, key=lambda one: one.run.number)


async def _carry(host: Host, run: Run, lab: Lab) -> Told:
    try:
        async with asyncio.timeout(RUN_PATIENCE):
            return await host.carry_out(run, lab)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported as this run's failure
        failed = f"harness: {type(error).__name__}: {error}"
        return Told(run, Judged(ExecutionState.QUEUED, "It was not carried out.", (failed,)))
