"""The `Directory` port with the terminal in it: an OS user is the person that `policy.terminal` names, and nobody else.

Authority by Slack user groups counts where Slack answers; where it does not, only explicit ids, persons and rotas do, and the person's note says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import TERMINAL, Person, SlackUser
from bot.policy import explicit_groups, identity
from bot.ports import Clock, Directory
from bot.settings import PolicySettings


class TerminalDirectory:
    """Looks up people of the terminal, and passes all others on to `slack`."""

    def __init__(self, rules: PolicySettings, clock: Clock, slack: Directory) -> None:
        self._rules = rules
        self._clock = clock
        self._slack = slack

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        """Return what is true now; somebody in the terminal whom the settings do not name has a `problem`."""
        if not user.in_terminal:
            return await self._slack.look_up(user, fresh=fresh)
        key = self._rules.terminal.get(user.user_id)
        if key is None:
            return self._nobody(user)
        return await self._person(user, key, fresh=fresh)

    async def named(self, name: str) -> Person | None:
        """Return a configured person, or one by Slack user id, as they would be looked up now; None where there is no such."""
        if name in self._rules.persons:
            return await self._person(SlackUser(team_id=TERMINAL, user_id=""), name, fresh=False)
        if name.startswith(("U", "W")):
            return await self._slack.look_up(SlackUser(team_id="", user_id=name))
        return None

    async def _person(self, user: SlackUser, key: str, *, fresh: bool) -> Person:
        ids = self._rules.persons[key]
        seen = [await self._slack.look_up(SlackUser(team_id="", user_id=one), fresh=fresh) for one in ids]
        answered = [one for one in seen if one.problem is None]
        members = [one for one in answered if identity(one).allowed]
        lost = {one.user.user_id for one in answered} - {one.user.user_id for one in members}
        now = self._clock.now()
        explicit = explicit_groups(self._rules, key, frozenset(ids) - lost, now)
        return Person(
            user=user,
            key=key,
            human=True,
            # Slack says that none of the accounts may decide: whoever has left does not decide in a terminal either.
            active=bool(members) or not answered,
            guest=False,
            home_workspace=True,
            groups=explicit.union(*(one.groups for one in members)),
            looked_up_at=now,
            note=self._note(ids, seen),
        )

    def _note(self, ids: Sequence[str], seen: Sequence[Person]) -> str:
        if not any(group.usergroups for group in self._rules.groups.values()):
            return ""
        left = "so of the groups only explicit ids, persons and rotas count here."
        if not ids:
            return f"`policy.persons` has no Slack user of this person, {left}"
        problem = next((one.problem for one in seen if one.problem is not None), None)
        return f"Slack user groups could not be read ({problem}), {left}" if problem is not None else ""

    def _nobody(self, user: SlackUser) -> Person:
        problem = f"`policy.terminal` names no person for the OS user {user.user_id}"
        return Person.unknown(user, f"{user.team_id}/{user.user_id}", self._clock.now(), problem)
