"""The run of an approved proposal: a progress list, the numbers before and after, and the outcome."""

from __future__ import annotations

from typing import Final

from bot.adapters.slack.blocks import Block, bold, fit, moment, paragraph, preformatted, rich, small, text
from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import WantedMessage
from bot.model import Execution, ExecutionState, Proposal, StageRun, StageState

_STATES: Final = {
    ExecutionState.QUEUED: ("🔵", "Approved, starting"),
    ExecutionState.APPLYING: ("🔵", "Applying"),
    ExecutionState.VERIFYING: ("🔵", "Applied, verifying"),
    ExecutionState.DONE: ("🟢", "Done and verified"),
    ExecutionState.FAILED: ("🔴", "Failed"),
    ExecutionState.ROLLED_BACK: ("🟡", "Rolled back"),
    ExecutionState.UNKNOWN: ("🟣", "Outcome unknown, reading what really happened"),
    ExecutionState.NEEDS_HUMAN: ("🔴", "A person must look"),
    ExecutionState.REFUSED: ("⛔", "Refused, nothing was written"),
}
_STAGES: Final = {
    StageState.WAITING: ("▫️", "waiting"),
    StageState.INTENDED: ("⏳", "being sent"),
    StageState.APPLIED: ("🔧", "applied, not yet verified"),
    StageState.VERIFIED: ("✅", "verified"),
    StageState.NOT_APPLIED: ("⛔", "not applied"),
    StageState.UNKNOWN: ("❓", "outcome unknown"),
    StageState.FAILED: ("❌", "failed"),
    StageState.SKIPPED: ("⏭️", "skipped"),
    StageState.ROLLED_BACK: ("↩️", "rolled back"),
}
Numbers = dict[str, str | int | None]

_STAGES_SHOWN: Final = 12
_NUMBERS_SHOWN: Final = 15


def execution(run: Execution, proposal: Proposal) -> WantedMessage:
    """Progress while it runs, the outcome afterwards."""
    sign, word = _STATES[run.state]
    ended = sum(stage.state is StageState.VERIFIED for stage in run.stages)
    head = f"{sign} {word}: {ended} of {len(run.stages)} stages verified"
    blocks: list[Block] = [rich(paragraph(bold(head)))]
    done = run.state is ExecutionState.DONE
    blocks += [_stage(stage, proposal, numbers=not done) for stage in run.stages[:_STAGES_SHOWN]]
    if len(run.stages) > _STAGES_SHOWN:
        blocks.append(small(f"and {len(run.stages) - _STAGES_SHOWN} more stages"))
    if done and (table := _numbers(*_ends(run))):
        blocks.append(rich(paragraph(bold("Before → after")), preformatted(table, 1_500)))
    if run.sentence and all(run.sentence != stage.sentence for stage in run.stages[:_STAGES_SHOWN]):
        blocks.append(rich(paragraph(text(run.sentence, 1_500))))
    shown, _ = fit(blocks)
    return WantedMessage(key=f"execution:{run.id}", blocks=shown, text=fallback(f"{head}. {run.sentence}"))


def _ends(run: Execution) -> tuple[Numbers, Numbers]:
    """The numbers before the first stage that knew them, and after the last one: what the repair as a whole has changed."""
    before: Numbers = {}
    after: Numbers = {}
    for stage in run.stages:
        before = stage.before | before
        after |= stage.after
    return before, after


def _stage(stage: StageRun, proposal: Proposal, *, numbers: bool) -> Block:
    sign, word = _STAGES[stage.state]
    planned = proposal.stages[stage.index].preview.summary if stage.index < len(proposal.stages) else "stage"
    line = [text(f"{sign} "), bold(f"{stage.index + 1}. {planned}", 300), text(f" — {word}")]
    at = stage.ended_at or stage.applied_at or stage.intended_at
    if at is not None:
        line += [text(", "), moment(at)]
    if stage.sent > 1:
        line.append(text(f", sent {stage.sent} times"))
    parts = [paragraph(*line)]
    if stage.sentence:
        parts.append(paragraph(text(stage.sentence, 800)))
    if numbers and (table := _numbers(stage.before, stage.after)):
        parts.append(preformatted(table, 1_500))
    return rich(*parts)


def _numbers(before: Numbers, after: Numbers) -> str:
    """`name  before → after`, one per line; empty where nothing is known of *after*."""
    if not after:
        return ""
    names = list(dict.fromkeys([*before, *after]))[:_NUMBERS_SHOWN]
    width = min(max(len(name) for name in names), 24)
    return "\n".join(f"{name:<{width}}  {_value(before, name)} → {_value(after, name)}" for name in names)


def _value(numbers: Numbers, name: str) -> str:
    value = numbers.get(name)
    if value is None:
        return "unknown" if name in numbers else "—"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
