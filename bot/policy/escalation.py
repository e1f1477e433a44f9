"""Who is called when nobody decides, when, and for which group they may then approve. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from bot.model import Escalation, Proposal
from bot.settings import PolicySettings
from bot.settings.policy import REMINDER_SHARE


def stood_for(proposal: Proposal, groups: Collection[str], at: datetime, rules: PolicySettings) -> frozenset[str]:
    """Return the required groups that somebody of `groups` stands in for at that time; a group that the settings no longer call stands for none."""
    called = rules.for_cluster(proposal.cluster).escalation.get(proposal.risk, ())
    return frozenset(
        one.stands_for for one in proposal.escalations if one.group in groups and one.group in called and one.at <= at
    )


def escalates_at(proposal: Proposal, needed: Sequence[str], rules: PolicySettings) -> datetime | None:
    """Return when the next group is to be called; None where the reminder comes first or nobody is left.

    What is left of the time after the configured share is divided evenly among the groups. A late call keeps its distance from the one before.
    """
    left = _left(proposal, needed, rules)
    if not left or proposal.reminded_at is None:
        return None
    lifetime, done = proposal.expires_at - proposal.created_at, len(proposal.escalations)
    share = rules.escalation_share
    each = lifetime * (1 - share) / (done + len(left))
    planned = proposal.created_at + lifetime * share + each * done
    before = proposal.escalations[-1].at if done else proposal.reminded_at
    return max(planned, before + min(each, lifetime * (share - REMINDER_SHARE)))


def next_call(
    proposal: Proposal, needed: Sequence[str], missing: Sequence[str], rules: PolicySettings, now: datetime
) -> Escalation | None:
    """Return the one call that is due now. It stands in for the missing group with the fewest stand-ins, and for that one alone."""
    due = escalates_at(proposal, needed, rules)
    if due is None or now < due or now >= proposal.expires_at or not missing:
        return None
    stood = Counter(one.stands_for for one in proposal.escalations)
    stands_for = min(missing, key=lambda group: stood[group])
    return Escalation(group=_left(proposal, needed, rules)[0], stands_for=stands_for, at=now)


def _left(proposal: Proposal, needed: Sequence[str], rules: PolicySettings) -> list[str]:
    """A group that is needed itself stands in for no other: two groups would become one."""
    if not proposal.approvable or not needed:
        return []
    done = {*needed, *(one.group for one in proposal.escalations)}
    return [name for name in rules.for_cluster(proposal.cluster).escalation.get(proposal.risk, ()) if name not in done]
