"""What a repair lost, proposed again by every diagnosis of its incident for as long as it is lost: the copy from before stands in the execution."""

from __future__ import annotations

from typing import Any, cast

from bot.action import Draft, Rescuing
from bot.errors import Unreadable
from bot.flow.stages import Stages
from bot.model import Execution, IncidentId, Proposal, StageRun, StageState, Subject
from bot.ports import Readers, Store
from bot.runbook import Proposed

_DOUBTFUL = frozenset({StageState.FAILED, StageState.UNKNOWN})
"""States of a stage after which something may be lost: it was sent, and reality did not show what was promised."""


async def rescues(store: Store, stages: Stages, readers: Readers, incident: IncidentId) -> list[Proposed]:
    """Return what brings back what this incident's repairs lost, once per thing: the latest copy counts."""
    found: dict[str, Proposed] = {}
    for proposal in sorted(await store.proposals(incident), key=lambda p: p.created_at):
        execution = await store.execution_of(proposal.id)
        if execution is None or not execution.state.terminal:
            continue
        for run in execution.stages:
            if run.state in _DOUBTFUL and run.before_image:
                found |= {str(p.subject): p for p in await _of_stage(stages, readers, proposal, execution, run)}
    return list(found.values())


async def _of_stage(
    stages: Stages, readers: Readers, proposal: Proposal, execution: Execution, run: StageRun
) -> list[Proposed]:
    action, params = stages.begun(proposal.stages[run.index], run)
    if not isinstance(action, Rescuing):
        return []
    rescuer = cast("Rescuing[Any]", action)
    try:
        return [Proposed(subject, draft) for subject, draft in await rescuer.rescue(readers, params)]
    except Unreadable as error:
        draft = Draft(
            title=f"Look whether stage {run.index + 1} of an earlier repair lost something",
            why=f"It did not end well, and what is there now could not be read: {error}",
            guidance=(f"The copy from before is in execution {execution.id}, stage {run.index + 1}.",),
        )
        return [Proposed(Subject(cluster=proposal.cluster), draft)]
