"""Which groups a change needs, and how far approvals cover them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from bot.model import Approval, Choice, Proposal, Record, RiskClass, Subject
from bot.policy.escalation import stood_for
from bot.policy.factor import lacks_code
from bot.settings import OwnerSettings, PolicySettings

DESTRUCTIVE_GROUPS = 2
"""Destructive changes need two different people from two groups, whatever the settings say."""


class Standing(Record):
    """How far the approvals go."""

    satisfied: bool
    given: int
    needed: int
    missing: tuple[str, ...]
    """Groups from which nobody has approved yet."""
    broken_by: str | None
    """Who broke the glass, where it is satisfied for that reason alone."""


def required_groups(rules: PolicySettings, risk: RiskClass) -> tuple[str, ...]:
    """Return the groups of a risk class that must each give one approval by a different person; empty means nobody may approve."""
    groups = rules.approvers.get(risk, ())
    if risk is RiskClass.DESTRUCTIVE and len(set(groups)) < DESTRUCTIVE_GROUPS:
        return ()
    return groups


def groups_for(proposal: Proposal, rules: PolicySettings) -> tuple[str, ...]:
    """Return the groups that this proposal needs on its cluster: those of its risk class and, for a medium one, the data's owner."""
    here = rules.for_cluster(proposal.cluster)
    groups = required_groups(here, proposal.risk)
    owner = owner_of(proposal.subject, here)
    if not groups or owner is None or proposal.risk is not RiskClass.MEDIUM or owner in groups:
        return groups
    return (*groups, owner)


def owner_of(subject: Subject, rules: PolicySettings) -> str | None:
    """Return the group that owns the data of `subject`; None where none is configured."""
    return next((owner.group for owner in rules.data_owners if _owns(owner, subject)), None)


def _owns(owner: OwnerSettings, subject: Subject) -> bool:
    if owner.account is not None and owner.account != subject.account:
        return False
    return not owner.streams or any(fnmatchcase(subject.stream or "", pattern) for pattern in owner.streams)


def stands_in(approval: Approval, proposal: Proposal, rules: PolicySettings) -> tuple[str, ...]:
    """Return the needed groups in whose place this approval was given; none where the person is in one of the needed groups."""
    needed = frozenset(groups_for(proposal, rules))
    if needed & set(approval.groups):
        return ()
    return tuple(sorted(needed & stood_for(proposal, approval.groups, approval.at, rules)))


def approver_groups(rules: PolicySettings) -> frozenset[str]:
    """Return every group that approves something somewhere, by breaking the glass too."""
    lists = [*rules.approvers.values(), rules.break_glass, tuple(owner.group for owner in rules.data_owners)]
    for cluster in rules.clusters.values():
        lists += [*cluster.approvers.values(), tuple(owner.group for owner in cluster.data_owners or ())]
    return frozenset(name for names in lists for name in names)


def standing(proposal: Proposal, approvals: Sequence[Approval], rules: PolicySettings) -> Standing:
    """Return how far the approvals of exactly this proposal digest satisfy the policy. Groups are those recorded in the approvals."""
    needed = groups_for(proposal, rules)
    yes = counted(proposal, approvals, rules)
    best, missing = cover(groups_of(proposal, yes, rules), needed)
    whole = best == len(needed)
    denied = any(a.choice is Choice.DENY for a in approvals)
    breakers = [a.person for a in yes if a.break_glass and set(a.groups) & set(rules.break_glass)]
    alone = breakers[0] if breakers and needed and not denied and not whole else None
    return Standing(
        satisfied=bool(needed) and not denied and (whole or alone is not None),
        given=best,
        needed=len(needed),
        missing=missing,
        broken_by=alone,
    )


def holds(approval: Approval, proposal: Proposal, rules: PolicySettings) -> bool:
    """Return whether a decision still is one: it was not voided, and has the code that policy asks for now."""
    return not approval.void and not lacks_code(approval, proposal, rules)


def counted(proposal: Proposal, approvals: Sequence[Approval], rules: PolicySettings) -> list[Approval]:
    """Return the approvals that count: those that hold and were given for exactly this proposal digest."""
    yes = [a for a in approvals if a.choice is Choice.APPROVE and holds(a, proposal, rules)]
    digest = proposal.digest if yes else ""
    return [a for a in yes if a.proposal_digest == digest]


def groups_of(proposal: Proposal, approvals: Sequence[Approval], rules: PolicySettings) -> list[frozenset[str]]:
    """Return one set of groups per distinct person, so that a person with two accounts counts once; groups they stood in for included."""
    people: dict[str, frozenset[str]] = {}
    for approval in approvals:
        acting = stood_for(proposal, approval.groups, approval.at, rules)
        people.setdefault(approval.person, frozenset(approval.groups) | acting)
    return list(people.values())


def cover(people: Sequence[frozenset[str]], needed: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Return the most groups that can each be given a person of their own, and the groups left over (Kuhn's matching)."""
    holder: dict[int, int] = {}

    def place(person: int, tried: set[int]) -> bool:
        for slot, group in enumerate(needed):
            if group in people[person] and slot not in tried:
                tried.add(slot)
                if slot not in holder or place(holder[slot], tried):
                    holder[slot] = person
                    return True
        return False

    best = sum(place(person, set()) for person in range(len(people)))
    return best, tuple(group for slot, group in enumerate(needed) if slot not in holder)
