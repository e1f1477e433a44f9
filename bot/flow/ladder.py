"""The repair ladder: what one diagnosis proposes for one problem stands in order, the least destructive first. What was tried and failed is not
offered again while there is a next one; nothing is ever started by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.model import Proposal, ProposalState, Subject

_FAILED = frozenset({ProposalState.FAILED, ProposalState.ROLLED_BACK, ProposalState.NEEDS_HUMAN})


def climb(proposals: Sequence[Proposal], before: Sequence[Proposal]) -> list[Proposal]:
    """Return the proposals of a diagnosis as they are to be offered; `before` are the earlier ones of the incident, in the order of their runbook.

    One that has failed before is only shown, where another comes after it. The others say what less destructive repair there is, or was tried.
    """
    failed = [p for p in before if p.state in _FAILED]
    climbed: list[Proposal] = []
    for index, proposal in enumerate(proposals):
        below = [p for p in proposals[:index] if _same_problem(p, proposal)]
        above = [p for p in proposals[index + 1 :] if p.stages and _same_problem(p, proposal)]
        if (again := _latest(failed, proposal)) is not None and above and proposal.state is ProposalState.PENDING:
            reason = f"It was tried and did not succeed: {again.state_reason} The next repair is offered instead."
            climbed.append(proposal.model_copy(update={"state": ProposalState.PROPOSED, "state_reason": reason}))
            continue
        told = [_told(p, _latest(failed, p)) for p in below]
        climbed.append(proposal.model_copy(update={"cautions": (*proposal.cautions, *told)}))
    return climbed


def _same_problem(lower: Proposal, higher: Proposal) -> bool:
    """Whether both stand on the ladder of one problem: of the same thing, or one of them of what that thing lives on."""
    if lower.rung is None or not (lower.stages or higher.stages):
        return False
    if lower.rung.problem != (higher.rung.problem if higher.rung else ""):
        return False
    return lower.subject == higher.subject or _wide(lower.subject) or _wide(higher.subject)


def _wide(subject: Subject) -> bool:
    return subject.account is None


def _latest(proposals: Iterable[Proposal], like: Proposal) -> Proposal | None:
    """The last of them that ran the same kinds of stages on the same thing; how many there are changes with what there is to do."""
    kinds = {stage.kind for stage in like.stages}
    same = (p for p in proposals if kinds and p.subject == like.subject and {s.kind for s in p.stages} == kinds)
    return max(same, key=lambda p: p.created_at, default=None)


def _told(lower: Proposal, failed: Proposal | None) -> str:
    if failed is not None:
        return f"“{lower.title}” was tried and did not succeed: {failed.state_reason}"
    return f"“{lower.title}” is less destructive, and was not tried yet."
