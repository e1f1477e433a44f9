"""Who clicked, as Slack knows them at the moment of use. Names and e-mails are deliberately absent (T10)."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Self

from bot.model.base import Moment, Record

TERMINAL: Final = "terminal"
"""Workspace of whoever decides in a terminal. Slack's own ids begin with a capital letter, and its directory knows no such home."""


class SlackUser(Record):
    """The identity of a click: workspace and user id from the payload's user object, or the terminal and its OS user."""

    team_id: str
    user_id: str

    @property
    def in_terminal(self) -> bool:
        return self.team_id == TERMINAL


class Person(Record):
    """What a look-up said about a Slack user, joined with the configured persons and groups."""

    user: SlackUser
    key: str
    """The human: configured person name, or `team/user` where none is configured. Two accounts of one human share it."""
    human: bool
    active: bool
    guest: bool
    home_workspace: bool
    """The user belongs to one of the configured workspaces."""
    groups: frozenset[str]
    """Names of the policy groups the user is in right now."""
    looked_up_at: Moment
    note: str = ""
    """What of the groups could not be read and so does not count; empty where everything was."""
    problem: str | None = None
    """Set where Slack could not answer: nobody is authorised on such a look-up."""

    @classmethod
    def unknown(cls, user: SlackUser, key: str, now: datetime, problem: str) -> Self:
        """Return somebody of whom nothing is known for that reason, and who so may do nothing."""
        return cls(
            user=user,
            key=key,
            human=False,
            active=False,
            guest=False,
            home_workspace=False,
            groups=frozenset(),
            looked_up_at=now,
            problem=problem,
        )
