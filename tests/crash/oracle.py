"""The oracle: what must be true of every run, whatever was killed when (design/safety.md, Invariants). It counts at the target and reads the store.

I1 is a matter of taking in, before there is an execution: `tests/e2e/test_crashes.py` has it, and I4's part that stands in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, groupby

from bot.adapters.database import SqlStore
from bot.flow.audit import verify
from bot.model import (
    AuditEntry,
    Execution,
    ExecutionId,
    ExecutionState,
    Proposal,
    ProposalState,
    StageState,
)
from bot.policy import still_valid
from tests.crash.people import RULES, TwoPeople
from tests.crash.scene import Situation

RESUMED_WITHIN = 60.0
"""Seconds from a restart until an interrupted repair goes on or is somebody's (I7)."""
ENDED_WITHIN = 300.0
"""Seconds from a restart until everything is final or a human's (I6)."""
UNSENT = frozenset({ExecutionState.FAILED, ExecutionState.REFUSED})
"""Ends that say: nothing was changed. A last stage that failed and stays, because it is whole in itself (`bot.errors.Stands`), is the exception."""


@dataclass(frozen=True)
class Evidence:
    """What the oracle judges, beside the store."""

    situation: Situation
    execution: ExecutionId
    restarted: datetime | None
    """When its last life began, None where it was never killed."""


@dataclass(frozen=True)
class Judged:
    """How a run ended, and each invariant that does not hold, with what was seen."""

    end: ExecutionState
    sentence: str
    violations: tuple[str, ...]


async def judge(store: SqlStore, evidence: Evidence) -> Judged:
    """Judge one run whose executor has come to its end."""
    execution = await store.get(Execution, evidence.execution)
    assert execution is not None, "the harness itself put it there"
    proposal = await store.get(Proposal, execution.proposal_id)
    assert proposal is not None
    entries = await _all_entries(store)
    effects = tuple(evidence.situation.effects())
    violations = [
        *_twice(evidence.situation, effects),
        *await _unapproved(store, proposal, entries, effects),
        *await _untrue(evidence.situation, execution, proposal, effects),
        *_unaudited(evidence.situation, entries, effects, execution),
        *_unfinished(evidence, execution, entries),
        *await _lock_left(store, execution),
    ]
    return Judged(execution.state, execution.sentence, tuple(violations))


async def _all_entries(store: SqlStore) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    while more := await store.audit_entries(after=entries[-1].seq if entries else 0):
        entries += more
    return entries


def _twice(situation: Situation, effects: Sequence[str]) -> list[str]:
    """I2: what took effect is what was approved, in order, each change once; after the way forward may come the way back of all that was done, once."""
    plans = [list(plan) for plan in possible(situation.expected, situation.back, situation.needless)]
    if any(plan[: len(effects)] == list(effects) for plan in plans):
        return []
    return [f"I2: the target saw {listed(effects)}, approved was {listed(plans[-1])}"]


def listed(effects: Sequence[str]) -> str:
    """Return effects in words; what repeats itself is counted."""
    return (
        ", ".join(what if (count := len(list(same))) == 1 else f"{count} x {what}" for what, same in groupby(effects))
        or "nothing"
    )


def possible(
    expected: Sequence[Sequence[str]], back: Sequence[Sequence[str]], needless: frozenset[str] = frozenset()
) -> Iterator[tuple[str, ...]]:
    """Everything that may take effect: so many stages, and then the whole way back from there, with or without what is needless; in the end all stages."""
    for done, way_back in enumerate(back):
        forward = tuple(chain.from_iterable(expected[: done + 1]))
        yield (*forward, *way_back)
        if needless & set(way_back):
            yield (*forward, *(effect for effect in way_back if effect not in needless))
    yield tuple(chain.from_iterable(expected))


async def _unapproved(
    store: SqlStore, proposal: Proposal, entries: Sequence[AuditEntry], effects: Sequence[str]
) -> list[str]:
    """I3: policy is satisfied for exactly this proposal, on record before the first intent."""
    if not effects:
        return []
    intents = [entry for entry in entries if entry.kind == "stage.intended"]
    if not intents:
        return [f"I3: the target saw {listed(effects)}, and no intent is on record"]
    approvals = await store.approvals(proposal.id)
    people = [await TwoPeople().look_up(approval.user) for approval in approvals]
    decision = still_valid(proposal, approvals, people, RULES, intents[0].at)
    if not decision.allowed:
        return [f"I3: {decision.sentence}"]
    recorded = [entry.seq for entry in entries if entry.kind == "approval.recorded"]
    late = len(recorded) != len(approvals) or max(recorded) > intents[0].seq
    return ["I3: an approval is not on record before the first intent"] if late else []


async def _untrue(situation: Situation, execution: Execution, proposal: Proposal, effects: Sequence[str]) -> list[str]:
    """I4: what the store says, and every thread shows, is what the target is."""
    wrong: list[str] = []
    drifted = execution.state in UNSENT and proposal.state is ProposalState.SUPERSEDED
    refused = execution.state is ExecutionState.REFUSED and proposal.state.terminal
    if not (drifted or refused) and proposal.state.value != execution.state.value:
        wrong.append(f"I4: the execution is {execution.state}, its proposal {proposal.state}")
    wanted = [effect for stage in situation.expected for effect in stage]
    if execution.state is ExecutionState.DONE:
        if list(effects) != wanted and not situation.by_itself:
            wrong.append(f"I4: it says done, and the target saw {listed(effects)} of {listed(wanted)}")
        if problem := await situation.problem():
            wrong.append(f"I4: it says done, but {problem}")
    kept = execution.state is ExecutionState.FAILED and execution.stages[-1].state is StageState.FAILED
    if kept and list(effects) != wanted:
        wrong.append(f"I4: it says that what was done stays, and the target saw {listed(effects)} of {listed(wanted)}")
    if execution.state in UNSENT and effects and not kept:
        wrong.append(f"I4: it says that nothing was changed, and the target saw {listed(effects)}")
    if (
        execution.state in {*UNSENT, ExecutionState.ROLLED_BACK}
        and not kept
        and (problem := await situation.untouched())
    ):
        wrong.append(f"I4: it says that everything is as before, but {problem}")
    return wrong


def _unaudited(
    situation: Situation, entries: Sequence[AuditEntry], effects: Sequence[str], execution: Execution
) -> list[str]:
    """I5: the chain verifies, and no more was changed than was announced before it was sent."""
    wrong: list[str] = []
    report = verify(entries)
    if not report.intact:
        wrong.append(f"I5: audit row {report.first_bad_seq}: {report.reason}")
    intended = [entry.data["stage"] for entry in entries if entry.kind == "stage.intended"]
    if len(intended) != len(set(intended)):
        wrong.append(f"I5: stages were intended more than once: {intended}")
    for run in execution.stages:
        counted = [entry for entry in entries if entry.kind == "stage.sending" and entry.data["stage"] == run.index]
        if len(counted) != run.sent:
            wrong.append(f"I5: stage {run.index + 1} was sent {run.sent} times, {len(counted)} are on record")
    if effects and not any(entry.kind == "stage.sending" for entry in entries):
        wrong.append(f"I5: the target saw {listed(effects)}, and no sending is on record")
    forward = sum(len(stage) for stage in situation.expected[: len(intended)])
    if len(effects) > forward and not any(entry.kind == "stage.undoing" for entry in entries):
        wrong.append(f"I5: the target saw {listed(effects)}, and no way back is on record")
    return wrong


def _unfinished(evidence: Evidence, execution: Execution, entries: Sequence[AuditEntry]) -> list[str]:
    """I6 and I7: it ended, in time; and after a restart it went on, or was somebody's, in time."""
    wrong: list[str] = []
    if not execution.state.terminal:
        wrong.append(f"I6: it is still {execution.state}")
    if evidence.restarted is None:
        return wrong
    if execution.ended_at is not None:
        took = (execution.ended_at - evidence.restarted).total_seconds()
        if took > ENDED_WITHIN:
            wrong.append(f"I6: it ended {took:.0f} s after the restart")
    since = [entry.at for entry in entries if entry.at >= evidence.restarted]
    ended_before = execution.ended_at is not None and execution.ended_at < evidence.restarted
    if not ended_before and (not since or (min(since) - evidence.restarted).total_seconds() > RESUMED_WITHIN):
        wrong.append("I7: it was not taken up within 60 s of the restart")
    return wrong


async def _lock_left(store: SqlStore, execution: Execution) -> list[str]:
    """An outcome that is unknown keeps the cluster locked, and nothing else does."""
    holder, _ = await store.fence(execution.cluster)
    unknown = any(run.state is StageState.UNKNOWN for run in execution.stages)
    if unknown != (holder == execution.id):
        return [f"Lock: held by {holder}, although an outcome is {'unknown' if unknown else 'known'}"]
    if unknown and execution.state is not ExecutionState.NEEDS_HUMAN:
        return [f"I7: an outcome is unknown, and it is {execution.state}, nobody's"]
    return []
