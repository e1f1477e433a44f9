"""Which groups somebody is in by the settings alone, without asking Slack."""

from __future__ import annotations

from datetime import datetime

from bot.settings import PolicySettings


def explicit_groups(rules: PolicySettings, person: str, users: frozenset[str], now: datetime) -> frozenset[str]:
    """Return the groups that name the person's key, one of these Slack user ids, or whose rota has the person on call now."""
    return frozenset(
        name
        for name, group in rules.groups.items()
        if person in group.persons_at(now) or not users.isdisjoint(group.users)
    )
