"""The same questions as a decision asks, each with its answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.model import Approval, Choice, Person, Proposal, Record
from bot.policy.decision import ALLOWED, Decision
from bot.policy.groups import Standing, standing
from bot.policy.rules import RULES, Matter
from bot.settings import PolicySettings


class Answered(Record):
    """A question and what came of it."""

    asks: str
    decision: Decision


class Explanation(Record):
    """`decision` is the one that would be taken now; `reasons` are all questions in the order asked, those after the first no included."""

    decision: Decision
    reasons: tuple[Answered, ...]
    standing: Standing


def explain(
    proposal: Proposal,
    approvals: Sequence[Approval],
    person: Person,
    rules: PolicySettings,
    now: datetime,
    *,
    choice: Choice = Choice.APPROVE,
    break_glass: bool = False,
) -> Explanation:
    """Return what `decide` would say, and why."""
    matter = Matter(proposal, approvals, person, choice, rules.for_cluster(proposal.cluster), now, break_glass)
    reasons = tuple(Answered(asks=rule.asks, decision=rule.judge(matter)) for rule in RULES)
    refused = next((one.decision for one in reasons if not one.decision.allowed), ALLOWED)
    return Explanation(decision=refused, reasons=reasons, standing=standing(proposal, approvals, rules))
