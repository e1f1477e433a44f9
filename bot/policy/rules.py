"""The questions that are asked of a person who decides on a proposal, in the order of trust; the first no decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from bot.model import Approval, Choice, Person, Proposal, ProposalState
from bot.policy.decision import ALLOWED, Decision, Reason, no, yes
from bot.policy.escalation import stood_for
from bot.policy.factor import asks_code, has_factor
from bot.policy.groups import counted, cover, groups_for, groups_of, holds, standing
from bot.policy.people import identity, with_note
from bot.policy.windows import opens_at
from bot.settings import PolicySettings


@dataclass(frozen=True)
class Matter:
    """What is decided: this person, this choice, this proposal, now. `approvals` are those recorded so far."""

    proposal: Proposal
    approvals: Sequence[Approval]
    person: Person
    choice: Choice
    rules: PolicySettings
    """Those of the proposal's cluster."""
    now: datetime
    break_glass: bool
    """The person approves alone, for want of a second one."""

    @cached_property
    def needed(self) -> tuple[str, ...]:
        return groups_for(self.proposal, self.rules)

    @cached_property
    def acting(self) -> frozenset[str]:
        """The required groups that the person stands in for."""
        return stood_for(self.proposal, self.person.groups, self.now, self.rules) & {*self.needed}

    @property
    def approving(self) -> bool:
        return self.choice is Choice.APPROVE

    @property
    def breaking(self) -> bool:
        return self.approving and self.break_glass


class Rule(NamedTuple):
    """One question. `asks` states what must be true."""

    asks: str
    judge: Callable[[Matter], Decision]


def _who(m: Matter) -> Decision:
    found = identity(m.person)
    return yes(f"{m.person.key} is an active member.") if found.allowed else found


def _somebody(m: Matter) -> Decision:
    if not m.needed:
        return no(
            Reason.NOBODY,
            f"Nobody may approve {m.proposal.risk} changes: `policy.approvers.{m.proposal.risk}` names no groups.",
        )
    return yes(f"{m.proposal.risk} changes need one approval each of {', '.join(m.needed)}.")


def _authority(m: Matter) -> Decision:
    wanted = m.rules.break_glass if m.breaking else m.needed
    found = sorted(m.person.groups & set(wanted))
    if found:
        return yes(f"In {', '.join(found)}.")
    if not m.breaking and m.acting:
        return yes(f"Called because nobody had decided, and stands in for {', '.join(sorted(m.acting))}.")
    if m.breaking:
        groups = f"only people of {', '.join(wanted)} may" if wanted else "`policy.break_glass` names no groups"
        return no(Reason.NO_BREAK_GLASS, with_note(f"You may not break the glass: {groups}.", m.person))
    sentence = f"You are in none of the groups that decide on {m.proposal.risk} changes: {', '.join(wanted) or 'none'}."
    return no(Reason.NOT_AN_APPROVER, with_note(sentence, m.person))


def _runnable(m: Matter) -> Decision:
    if not m.proposal.approvable:
        return no(Reason.NOTHING_TO_RUN, "This is guidance for people; there is nothing natsmedic would run.")
    return yes(f"It would run {len(m.proposal.stages)} stages.")


def _pending(m: Matter) -> Decision:
    if m.proposal.state is not ProposalState.PENDING:
        return no(
            Reason.NOT_PENDING,
            f"This proposal is {m.proposal.state}: {m.proposal.state_reason or 'nothing can be decided any more'}",
        )
    return yes("It waits for a decision.")


def _in_time(m: Matter) -> Decision:
    if m.now >= m.proposal.expires_at:
        return no(Reason.EXPIRED, f"This proposal expired at {m.proposal.expires_at:%H:%M:%S} UTC.")
    return yes(f"It expires at {m.proposal.expires_at:%H:%M:%S} UTC.")


def _first(m: Matter) -> Decision:
    earlier = [a for a in m.approvals if a.person == m.person.key and holds(a, m.proposal, m.rules)]
    # An approval that was not enough may be given once more, alone: the same decision of the same person.
    if m.breaking and all(a.choice is Choice.APPROVE and not a.break_glass for a in earlier):
        return yes("Not decided yet by this person, or only approved.")
    if earlier:
        return no(Reason.ALREADY_DECIDED, "You have already decided on this proposal; one person, one decision.")
    return yes("Not decided yet by this person.")


def _another(m: Matter) -> Decision:
    if m.approving and m.proposal.requested_by == m.person.key:
        return no(Reason.OWN_REQUEST, "You asked for this change, so someone else must approve it.")
    return yes(f"Asked for by {m.proposal.requested_by or 'natsmedic'}.")


def _useful(m: Matter) -> Decision:
    if not m.approving:
        return yes("A denial needs no group that is missing.")
    if m.breaking:
        return _alone(m)
    people = groups_of(m.proposal, counted(m.proposal, m.approvals, m.rules), m.rules)
    if cover([*people, m.person.groups | m.acting], m.needed)[0] == cover(people, m.needed)[0]:
        missing = ", ".join(standing(m.proposal, m.approvals, m.rules).missing)
        return no(Reason.NOT_NEEDED, f"Your groups are covered already; still missing: {missing}.")
    return yes("A group is still missing that this person is in.")


def _alone(m: Matter) -> Decision:
    """Breaking the glass waives the second person: where the rest is there already, there is nothing to waive."""
    others = [a for a in counted(m.proposal, m.approvals, m.rules) if a.person != m.person.key]
    if cover([*groups_of(m.proposal, others, m.rules), m.person.groups | m.acting], m.needed)[0] == len(m.needed):
        return no(Reason.NOT_NEEDED, "Your approval is the last that is needed, so there is no glass to break.")
    return yes("Breaking the glass stands for the approvals that are missing.")


def _factor(m: Matter) -> Decision:
    if not asks_code(m.proposal, m.choice, m.rules):
        return yes("No code is asked for.")
    return has_factor(m.person.key, m.rules)


def _window(m: Matter) -> Decision:
    return window(m.rules, m.now, waived=not m.approving)


RULES = (
    Rule("An active human member of the home workspace asks", _who),
    Rule("The risk class has approvers", _somebody),
    Rule("The person is in one of their groups", _authority),
    Rule("There is something to run", _runnable),
    Rule("The proposal is pending", _pending),
    Rule("It has not expired", _in_time),
    Rule("The person has not decided yet", _first),
    Rule("Nobody approves their own request", _another),
    Rule("The approval covers a group that is missing", _useful),
    Rule("The person has a second factor where one is asked for", _factor),
    Rule("A change window is open", _window),
)


def window(rules: PolicySettings, now: datetime, *, waived: bool = False) -> Decision:
    """Decide whether a change may start at this time. `rules` are those of the cluster."""
    opens = opens_at(rules.change_windows, now)
    if opens is None:
        return yes("It is open." if rules.change_windows else "Changes are allowed at any time.")
    if waived:
        return yes(f"None is open before {opens:%a %Y-%m-%d %H:%M} UTC, and none is needed for this.")
    windows = "; ".join(map(str, rules.change_windows))
    return no(
        Reason.OUTSIDE_WINDOW,
        f"Changes are allowed only {windows}: the next window opens {opens:%a %Y-%m-%d %H:%M} UTC.",
    )


def decide(
    proposal: Proposal,
    approvals: Sequence[Approval],
    person: Person,
    choice: Choice,
    rules: PolicySettings,
    now: datetime,
    *,
    break_glass: bool = False,
) -> Decision:
    """Decide whether this person may record this choice on this proposal now. `approvals` are those recorded so far.

    With `break_glass` the person wants to approve alone; that waives the second person and nothing else.
    """
    matter = Matter(proposal, approvals, person, choice, rules.for_cluster(proposal.cluster), now, break_glass)
    judged = (rule.judge(matter) for rule in RULES)
    return next((found for found in judged if not found.allowed), ALLOWED)
