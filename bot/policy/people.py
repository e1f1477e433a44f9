"""Who somebody is, and what a person may do besides deciding on proposals."""

from __future__ import annotations

from datetime import datetime

from bot.model import Person, Proposal, ProposalState
from bot.policy.decision import ALLOWED, Decision, Reason, no
from bot.policy.escalation import stood_for
from bot.policy.groups import approver_groups, groups_for
from bot.settings import PolicySettings


def identity(person: Person) -> Decision:
    """Return whether this is an active human member of the home workspace, as known at the moment of use (design/safety.md, Approving 1)."""
    if person.problem is not None:
        return no(
            Reason.LOOKUP_FAILED, f"It could not be confirmed who you are ({person.problem}), so nothing was decided."
        )
    if not person.home_workspace:
        return no(Reason.FOREIGN_WORKSPACE, "Only members of this workspace decide here.")
    if not person.human:
        return no(Reason.NOT_HUMAN, "Only people decide here; this account is a bot.")
    if not person.active:
        return no(Reason.INACTIVE, "This account is deactivated.")
    if person.guest:
        return no(Reason.GUEST, "Guests do not decide here.")
    return ALLOWED


def may_run(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may ask for a diagnosis or run a runbook: every active human member of the home workspace may."""
    del rules  # looking needs no group
    return identity(person)


def may_freeze(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may stop changes: anyone of any approver group."""
    return _any_approver(person, rules, "stops changes")


def may_lift(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may be one of the two who let changes go on: anyone of any approver group."""
    return _any_approver(person, rules, "lets changes go on")


def may_withdraw(proposal: Proposal, person: Person, rules: PolicySettings, now: datetime) -> Decision:
    """Decide whether a person may take a pending proposal back: who asked for it, or anyone who may decide on it."""
    stranger = identity(person)
    if not stranger.allowed:
        return stranger
    needed = groups_for(proposal, rules)
    deciding = {*needed, *(rules.break_glass if needed else ())}
    acting = stood_for(proposal, person.groups, now, rules) & {*needed}
    if proposal.requested_by != person.key and not person.groups & deciding and not acting:
        groups = ", ".join(sorted(deciding)) or "no group"
        return no(
            Reason.NOT_AN_APPROVER, with_note(f"Only who asked for it or one of {groups} may withdraw this.", person)
        )
    if proposal.state not in {ProposalState.PROPOSED, ProposalState.PENDING}:
        return no(Reason.NOT_PENDING, f"This proposal is {proposal.state}; nothing is left to withdraw.")
    if now >= proposal.expires_at:
        return no(Reason.EXPIRED, f"This proposal expired at {proposal.expires_at:%H:%M:%S} UTC.")
    return ALLOWED


def with_note(sentence: str, person: Person) -> str:
    """Return a refusal for want of a group together with what of the groups could not be read."""
    return f"{sentence} {person.note}".strip()


def _any_approver(person: Person, rules: PolicySettings, does: str) -> Decision:
    stranger = identity(person)
    if not stranger.allowed:
        return stranger
    groups = approver_groups(rules)
    if not groups:
        return no(Reason.NOBODY, f"Nobody {does}: `policy.approvers` names no groups.")
    if not person.groups & groups:
        sentence = f"You are in none of the groups of which one {does}: {', '.join(sorted(groups))}."
        return no(Reason.NOT_AN_APPROVER, with_note(sentence, person))
    return ALLOWED
