"""Whether approvals still hold right before the first write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.model import Approval, Choice, Person, Proposal
from bot.policy.decision import ALLOWED, Decision, Reason, no
from bot.policy.factor import WITHOUT_CODE
from bot.policy.groups import holds, standing
from bot.policy.people import identity
from bot.policy.rules import window
from bot.settings import PolicySettings


def still_valid(
    proposal: Proposal, approvals: Sequence[Approval], people: Sequence[Person], rules: PolicySettings, now: datetime
) -> Decision:
    """Decide right before the first write, with every approver looked up afresh (`people`, in the order of `approvals`)."""
    if now >= proposal.expires_at:
        return no(
            Reason.EXPIRED, f"The approval expired at {proposal.expires_at:%H:%M:%S} UTC before anything was written."
        )
    live: list[Approval] = []
    for approval, person in zip(approvals, people, strict=True):
        if approval.choice is Choice.DENY:
            return no(Reason.NOT_PENDING, f"{approval.person} denied it.")
        if identity(person).allowed and person.key == approval.person and person.key != proposal.requested_by:
            live.append(approval.model_copy(update={"groups": tuple(sorted(person.groups))}))
    found = standing(proposal, live, rules)
    if not found.satisfied:
        void = [f" That of {a.person} was {a.void or WITHOUT_CODE}." for a in live if not holds(a, proposal, rules)]
        missing = ", ".join(found.missing) or "all"
        return no(
            Reason.NOT_AN_APPROVER,
            f"{found.given} of {found.needed} approvals are still valid; missing: {missing}.{''.join(void)}",
        )
    shut = window(rules.for_cluster(proposal.cluster), now)
    return ALLOWED if shut.allowed else shut
