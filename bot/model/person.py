"""Who clicked, as Slack knows them at the moment of use. Names and e-mails are deliberately absent (T10)."""

from __future__ import annotations

from bot.model.base import Moment, Record


class SlackUser(Record):
    """The identity of a click: workspace and user id from the payload's user object."""

    team_id: str
    user_id: str


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
    problem: str | None = None
    """Set where Slack could not answer: nobody is authorised on such a look-up."""
