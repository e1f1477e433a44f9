"""The `Directory` port: who a Slack user is right now, and in which policy groups. Names and e-mails are never read (T10).

Any failure gives a Person with `problem` set and no groups: nobody is authorised on a look-up that did not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from bot.adapters.slack.api import Limited, SlackApi, SlackCallFailed
from bot.adapters.slack.client import make_client, make_hooks
from bot.model import JsonObject, Person, SlackUser
from bot.policy import explicit_groups
from bot.ports import Clock
from bot.settings import PolicySettings, SlackSettings

CACHE_SECONDS: Final = 30
"""How old a look-up at a click may be; half of the 60 s that design/safety.md allows. At apply nothing is cached."""
LOOK_UP_TIMEOUT: Final = 8.0
"""Seconds for one whole look-up."""
PATIENCE: Final = 5.0
"""Seconds of Retry-After that a look-up waits for; beyond that it is a problem."""
SLACKBOT: Final = "USLACKBOT"

T = TypeVar("T")


@dataclass(slots=True)
class _Cached(Generic[T]):
    """One remembered answer; the lock makes simultaneous askers share one call."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    answer: T | None = None
    at: datetime | None = None


def directory_of(settings: SlackSettings, rules: PolicySettings, clock: Clock) -> SlackDirectory:
    """Return the directory alone, for a command that draws and hears nothing."""
    client = make_client(settings.bot_token.get_secret_value(), settings.api_url)
    api = SlackApi(client, clock, make_hooks(settings.api_url))
    return SlackDirectory(api, settings.workspaces, rules, clock)


class SlackDirectory:
    """Looks people up with users.info and usergroups.users.list."""

    def __init__(self, api: SlackApi, workspaces: tuple[str, ...], rules: PolicySettings, clock: Clock) -> None:
        self._api = api
        self._workspaces = frozenset(workspaces)
        self._rules = rules
        self._clock = clock
        self._persons = {user: key for key, users in rules.persons.items() for user in users}
        self._users: dict[str, _Cached[JsonObject]] = {}
        self._members: dict[str, _Cached[frozenset[str]]] = {}

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        """Return what is true now; `fresh` asks Slack for everything again."""
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT):
                return await self._ask(user, fresh=fresh)
        except (SlackCallFailed, TimeoutError) as error:
            return self._unknown(user, str(error) or "Slack did not answer in time.")
        except (KeyError, TypeError, ValueError) as error:
            return self._unknown(user, f"Slack's answer could not be understood ({type(error).__name__}).")

    async def _ask(self, user: SlackUser, *, fresh: bool) -> Person:
        me = await self._patiently(self._api.identity)
        raw = await self._through(self._users, user.user_id, lambda: self._api.user(user.user_id), fresh=fresh)
        if raw.get("id") != user.user_id:
            return self._unknown(user, "Slack answered about somebody else.")
        groups = set(explicit_groups(self._rules, self._key(user), frozenset({user.user_id}), self._clock.now()))
        for name, group in self._rules.groups.items():
            for usergroup in group.usergroups:
                if user.user_id in await self._group(usergroup, fresh=fresh):
                    groups.add(name)
        home = str(raw.get("team_id") or "")
        teams = {team for team in (user.team_id, home) if team}
        stranger = _flag(raw, "is_stranger")
        machine = _flag(raw, "is_bot") or _flag(raw, "is_workflow_bot") or _flag(raw, "is_connector_bot")
        seen = SlackUser(team_id=user.team_id or home, user_id=user.user_id)
        return Person(
            user=seen,
            key=self._key(seen),
            human=not machine and user.user_id not in {SLACKBOT, me.user_id},
            active=not _flag(raw, "deleted"),
            guest=_flag(raw, "is_restricted") or _flag(raw, "is_ultra_restricted"),
            home_workspace=bool(home) and teams <= self._workspaces and not stranger,
            groups=frozenset(groups),
            looked_up_at=self._clock.now(),
        )

    async def _group(self, usergroup: str, *, fresh: bool) -> frozenset[str]:
        return await self._through(self._members, usergroup, lambda: self._api.group_members(usergroup), fresh=fresh)

    async def _through(
        self, cache: dict[str, _Cached[T]], key: str, ask: Callable[[], Awaitable[T]], *, fresh: bool
    ) -> T:
        entry = cache.setdefault(key, _Cached[T]())
        if fresh:
            return self._remember(entry, await self._patiently(ask))
        async with entry.lock:
            young = entry.at is not None and self._clock.now() - entry.at <= timedelta(seconds=CACHE_SECONDS)
            if young and entry.answer is not None:
                return entry.answer
            return self._remember(entry, await self._patiently(ask))

    def _remember(self, entry: _Cached[T], answer: T) -> T:
        entry.answer = answer
        entry.at = self._clock.now()
        return answer

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask once, and once more after a short Retry-After."""
        try:
            return await ask()
        except Limited as error:
            wait = (error.until - self._clock.now()).total_seconds()
            if wait > PATIENCE:
                raise
            await self._clock.sleep(max(wait, 0.0))
            return await ask()

    def _key(self, user: SlackUser) -> str:
        return self._persons.get(user.user_id) or f"{user.team_id}/{user.user_id}"

    def _unknown(self, user: SlackUser, problem: str) -> Person:
        return Person.unknown(user, self._key(user), self._clock.now(), problem)


def _flag(raw: JsonObject, name: str) -> bool:
    """A flag of the user object; anything but a plain false or nothing counts as set."""
    value = raw.get(name)
    return value is not None and value is not False
