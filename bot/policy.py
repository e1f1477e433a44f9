"""Who may approve what. Pure: facts in, a named decision out. An empty list means nobody (design/safety.md, Approving 1-3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from bot.model import Approval, Choice, Person, Proposal, ProposalState, Record, RiskClass
from bot.settings import PolicySettings

DESTRUCTIVE_GROUPS = 2
"""Destructive changes need two different people from two groups, whatever the settings say."""


class Reason(StrEnum):
    """Why a click is refused; `allowed` is the only yes."""

    ALLOWED = "allowed"
    LOOKUP_FAILED = "lookup_failed"
    NOT_HUMAN = "not_human"
    INACTIVE = "inactive"
    GUEST = "guest"
    FOREIGN_WORKSPACE = "foreign_workspace"
    NOBODY = "nobody_may_approve"
    NOT_AN_APPROVER = "not_an_approver"
    OWN_REQUEST = "own_request"
    ALREADY_DECIDED = "already_decided"
    NOT_NEEDED = "groups_already_covered"
    NOT_PENDING = "not_pending"
    EXPIRED = "expired"
    NOTHING_TO_RUN = "nothing_to_run"
    WRONG_NAME = "wrong_typed_name"
    NO_REASON = "no_reason"


class Decision(Record):
    """`sentence` is for the clicker alone."""

    reason: Reason
    sentence: str

    @property
    def allowed(self) -> bool:
        return self.reason is Reason.ALLOWED


class Standing(Record):
    """How far the approvals go."""

    satisfied: bool
    given: int
    needed: int
    missing: tuple[str, ...]
    """Groups from which nobody has approved yet."""


def required_groups(rules: PolicySettings, risk: RiskClass) -> tuple[str, ...]:
    """Return the groups that must each give one approval by a different person; empty means nobody may approve."""
    groups = rules.approvers.get(risk, ())
    if risk is RiskClass.DESTRUCTIVE and len(set(groups)) < DESTRUCTIVE_GROUPS:
        return ()
    return groups


def typed_name(proposal: Proposal) -> str | None:
    """Return the object name an approver must type, None below destructive."""
    if proposal.risk is not RiskClass.DESTRUCTIVE:
        return None
    subject = proposal.subject
    return subject.consumer or subject.stream or subject.server or subject.cluster


def decide(
    proposal: Proposal,
    approvals: Sequence[Approval],
    person: Person,
    choice: Choice,
    rules: PolicySettings,
    now: datetime,
) -> Decision:
    """Decide whether this person may record this choice on this proposal now. `approvals` are those recorded so far."""
    stranger = _identity(person)
    if stranger:
        return stranger
    needed = required_groups(rules, proposal.risk)
    if not needed:
        return _no(
            Reason.NOBODY,
            f"Nobody may approve {proposal.risk} changes: `policy.approvers.{proposal.risk}` names no groups.",
        )
    if not person.groups & set(needed):
        return _no(
            Reason.NOT_AN_APPROVER,
            f"You are in none of the groups that decide on {proposal.risk} changes: {', '.join(needed)}.",
        )
    if not proposal.approvable:
        return _no(Reason.NOTHING_TO_RUN, "This is guidance for people; there is nothing natsmedic would run.")
    if proposal.state is not ProposalState.PENDING:
        return _no(
            Reason.NOT_PENDING,
            f"This proposal is {proposal.state}: {proposal.state_reason or 'nothing can be decided any more'}",
        )
    if now >= proposal.expires_at:
        return _no(Reason.EXPIRED, f"This proposal expired at {proposal.expires_at:%H:%M:%S} UTC.")
    if any(a.person == person.key for a in approvals):
        return _no(Reason.ALREADY_DECIDED, "You have already decided on this proposal; one person, one decision.")
    if choice is Choice.APPROVE:
        if proposal.requested_by == person.key:
            return _no(Reason.OWN_REQUEST, "You asked for this change, so someone else must approve it.")
        covered = standing(proposal, approvals, rules)
        if not _assignable([*_groups_of(approvals), person.groups], needed, len(approvals) + 1):
            return _no(
                Reason.NOT_NEEDED, f"Your groups are covered already; still missing: {', '.join(covered.missing)}."
            )
    return Decision(reason=Reason.ALLOWED, sentence="")


def check_form(proposal: Proposal, choice: Choice, reason: str, typed: str) -> dict[str, tuple[Reason, str]]:
    """Return what is wrong with a submitted form, by field."""
    wrong: dict[str, tuple[Reason, str]] = {}
    if not reason.strip():
        wrong["reason"] = (Reason.NO_REASON, "Say why; the reason is kept in the audit log.")
    name = typed_name(proposal)
    if choice is Choice.APPROVE and name is not None and typed.strip() != name:
        wrong["typed_name"] = (Reason.WRONG_NAME, "That is not the name of the object this changes. Type it exactly.")
    return wrong


def standing(proposal: Proposal, approvals: Sequence[Approval], rules: PolicySettings) -> Standing:
    """Return how far the approvals of exactly this proposal digest satisfy the policy. Groups are those recorded in the approvals."""
    needed = required_groups(rules, proposal.risk)
    yes = [a for a in approvals if a.choice is Choice.APPROVE and a.proposal_digest == proposal.digest]
    best, missing = _cover(_groups_of(yes), needed)
    satisfied = bool(needed) and best == len(needed) and not any(a.choice is Choice.DENY for a in approvals)
    return Standing(satisfied=satisfied, given=best, needed=len(needed), missing=missing)


def still_valid(
    proposal: Proposal, approvals: Sequence[Approval], people: Sequence[Person], rules: PolicySettings, now: datetime
) -> Decision:
    """Decide right before the first write, with every approver looked up afresh (`people`, in the order of `approvals`)."""
    if now >= proposal.expires_at:
        return _no(
            Reason.EXPIRED, f"The approval expired at {proposal.expires_at:%H:%M:%S} UTC before anything was written."
        )
    live: list[Approval] = []
    for approval, person in zip(approvals, people, strict=True):
        if approval.choice is Choice.DENY:
            return _no(Reason.NOT_PENDING, f"{approval.person} denied it.")
        if _identity(person) is None and person.key == approval.person and person.key != proposal.requested_by:
            live.append(approval.model_copy(update={"groups": tuple(sorted(person.groups))}))
    now_standing = standing(proposal, live, rules)
    if not now_standing.satisfied:
        return _no(
            Reason.NOT_AN_APPROVER,
            f"{now_standing.given} of {now_standing.needed} approvals are still valid; missing: {', '.join(now_standing.missing) or 'all'}.",
        )
    return Decision(reason=Reason.ALLOWED, sentence="")


def may_run(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may look and ask for a diagnosis: every active human member of the home workspace may."""
    del rules  # looking needs no group
    return _identity(person) or Decision(reason=Reason.ALLOWED, sentence="")


def may_freeze(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may stop changes: anyone of any approver group."""
    return _any_approver(person, rules, "stops changes")


def may_lift(person: Person, rules: PolicySettings) -> Decision:
    """Decide whether a person may be one of the two who let changes go on: anyone of any approver group."""
    return _any_approver(person, rules, "lets changes go on")


def _any_approver(person: Person, rules: PolicySettings, does: str) -> Decision:
    stranger = _identity(person)
    if stranger:
        return stranger
    names = sorted({name for groups in rules.approvers.values() for name in groups})
    if not person.groups & set(names):
        return _no(
            Reason.NOT_AN_APPROVER,
            f"You are in none of the groups of which anyone {does}: {', '.join(names) or 'there are none'}.",
        )
    return Decision(reason=Reason.ALLOWED, sentence="")


def _identity(person: Person) -> Decision | None:
    if person.problem is not None:
        return _no(
            Reason.LOOKUP_FAILED,
            f"Slack could not confirm who you are ({person.problem}), so nothing was decided. Try again.",
        )
    if not person.home_workspace:
        return _no(Reason.FOREIGN_WORKSPACE, "Only members of this workspace decide here.")
    if not person.human:
        return _no(Reason.NOT_HUMAN, "Only people decide here; this account is a bot.")
    if not person.active:
        return _no(Reason.INACTIVE, "This account is deactivated.")
    if person.guest:
        return _no(Reason.GUEST, "Guests do not decide here.")
    return None


def _no(reason: Reason, sentence: str) -> Decision:
    return Decision(reason=reason, sentence=sentence)


def _groups_of(approvals: Sequence[Approval]) -> list[frozenset[str]]:
    """One set of groups per distinct person, so that a person with two accounts counts once."""
    people: dict[str, frozenset[str]] = {}
    for approval in approvals:
        people.setdefault(approval.person, frozenset(approval.groups))
    return list(people.values())


def _cover(people: Sequence[frozenset[str]], needed: Sequence[str]) -> tuple[int, tuple[str, ...]]:
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


def _assignable(people: Sequence[frozenset[str]], needed: Sequence[str], count: int) -> bool:
    return _cover(people, needed)[0] == count
