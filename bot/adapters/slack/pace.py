"""How far a running repair is, and how long it usually takes: from the repairs that went before. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Final

from bot.model import Execution, ExecutionState, Proposal, StageRun, StageState

STEP: Final = 5
"""Seconds between two pictures of a running repair: chat.update takes about 50 a minute for all threads together (reference/chatops.md 5)."""
CELLS: Final = 12
REMEMBERED: Final = 50
"""Earlier repairs that are looked at for how long a kind of stage takes."""
NEVER_FULL: Final = 0.9
"""How much of a stage is shown as done, at most, while it is not verified."""
MINUTE: Final = 60
RUNNING: Final = frozenset({ExecutionState.QUEUED, ExecutionState.APPLYING, ExecutionState.VERIFYING})

Usual = dict[str, float]
"""Seconds that a verified stage of a kind has usually taken (the median)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`now` is the moment of drawing, in whole steps since the repair began."""

    now: datetime
    usual: Usual


def usual(earlier: Sequence[tuple[Execution, Proposal]]) -> Usual:
    """Return how long each kind of stage took, where it was verified."""
    took: defaultdict[str, list[float]] = defaultdict(list)
    for run, plan in earlier:
        for stage in run.stages:
            began, ended = stage.intended_at, stage.ended_at
            if stage.state is StageState.VERIFIED and began and ended and stage.index < len(plan.stages):
                took[plan.stages[stage.index].kind].append((ended - began).total_seconds())
    return {kind: median(seconds) for kind, seconds in took.items()}


def progress_bar(run: Execution, plan: Proposal, pace: Pace) -> str:
    """`▓▓▓▓░░░░░░░░ stage 2 of 3 · 00:40 of about 2 min`; without the end of it where a stage of a kind is the first of its kind."""
    done = sum(stage.state is StageState.VERIFIED for stage in run.stages)
    total = len(run.stages)
    current = next((stage for stage in run.stages if stage.state is not StageState.VERIFIED), None)
    part = _part(current, plan, pace) if current is not None else 0.0
    filled = int(CELLS * (done + part) / total) if total else 0
    elapsed = _steps((pace.now - run.started_at).total_seconds())
    words = f"stage {min(done + 1, total)} of {total} · {elapsed // MINUTE:02d}:{elapsed % MINUTE:02d}"
    return f"{'▓' * filled}{'░' * (CELLS - filled)} {words}{_of(elapsed, plan, pace.usual)}"


def _part(stage: StageRun, plan: Proposal, pace: Pace) -> float:
    """Which part of the current stage is over, by the clock."""
    seconds = pace.usual.get(plan.stages[stage.index].kind) if stage.index < len(plan.stages) else None
    if stage.intended_at is None or not seconds:
        return 0.0
    return min(NEVER_FULL, _steps((pace.now - stage.intended_at).total_seconds()) / seconds)


def _of(elapsed: int, plan: Proposal, usual_: Usual) -> str:
    kinds = [stage.kind for stage in plan.stages]
    if not kinds or any(kind not in usual_ for kind in kinds):
        return ""
    whole = sum(usual_[kind] for kind in kinds)
    told = f"about {_rounded(whole)}"
    return f" of {told}" if elapsed <= whole else f", usually {told}"


def _rounded(seconds: float) -> str:
    return f"{max(STEP, round(seconds / STEP) * STEP)} s" if seconds < MINUTE else f"{round(seconds / MINUTE)} min"


def _steps(seconds: float) -> int:
    return int(max(0.0, seconds) // STEP) * STEP
