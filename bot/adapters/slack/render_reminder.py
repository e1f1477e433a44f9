"""What mentions people: the one reminder of a proposal that still waits at half of its time, the call of a further group, an approval given alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.adapters.slack.blocks import Leaf, moment, paragraph, rich, text, user, usergroup
from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import ProposalCase, WantedMessage
from bot.model import Escalation, Proposal
from bot.policy import standing
from bot.settings import PolicySettings


def reminder(entry: ProposalCase, at: datetime, rules: PolicySettings) -> WantedMessage:
    """Say who is still missing, as things stood at the reminder: later approvals do not edit it."""
    offered = entry.proposal
    then = [a for a in entry.approvals if a.at <= at]
    missing = standing(offered, then, rules).missing
    words = f"Still waiting for {' and '.join(missing) or 'an approval'}: {offered.title}"
    leaves: list[Leaf] = [
        text("⏳ "),
        *_people(missing, rules, at),
        text(f"{words}. Expires "),
        moment(offered.expires_at),
        text("."),
    ]
    return WantedMessage(key=f"reminder:{offered.id}", blocks=(rich(paragraph(*leaves)),), text=fallback(words))


def escalation(offered: Proposal, call: Escalation, rules: PolicySettings) -> WantedMessage:
    """Mention the group that is called, once."""
    words = f"Nobody of {call.stands_for} has decided; {call.group} may now approve in its place: {offered.title}"
    leaves: list[Leaf] = [
        text("📣 "),
        *_people((call.group,), rules, call.at),
        text(f"{words}. Expires "),
        moment(offered.expires_at),
        text("."),
    ]
    key = f"escalation:{offered.id}:{call.group}"
    return WantedMessage(key=key, blocks=(rich(paragraph(*leaves)),), text=fallback(words))


def broken_glass(entry: ProposalCase, person: str, rules: PolicySettings) -> WantedMessage:
    """Announce to those who were passed over, once, that `person` has approved alone."""
    offered = entry.proposal
    missing = standing(offered, entry.approvals, rules).missing
    given = next(a for a in entry.approvals if a.break_glass and a.person == person)
    words = f"{person} broke the glass and approved alone: {offered.title}. Reason: {given.reason}"
    leaves: list[Leaf] = [text("🔨 "), *_people(missing, rules, given.at), text(words, 1_000)]
    return WantedMessage(key=f"glass:{offered.id}", blocks=(rich(paragraph(*leaves)),), text=fallback(words))


def _people(groups: Sequence[str], rules: PolicySettings, at: datetime) -> list[Leaf]:
    """Mention the missing groups, by the ids of the settings."""
    leaves: list[Leaf] = []
    for name in groups:
        group = rules.groups.get(name)
        if group is not None:
            persons = [one for key in sorted(group.persons_at(at)) for one in rules.persons.get(key, ())]
            for one in (*map(usergroup, group.usergroups), *map(user, dict.fromkeys([*group.users, *persons]))):
                leaves += [one, text(" ")]
    return leaves
