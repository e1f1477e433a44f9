"""Who may approve what, and how the bot talks to Slack."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from bot.model import RiskClass
from bot.settings.clusters import Name
from bot.settings.section import Problem, Secret, Section, Shape, mapping_of, problem, problems

EXPIRY_SECONDS: Final[Mapping[RiskClass, int]] = {RiskClass.LOW: 900, RiskClass.MEDIUM: 900, RiskClass.DESTRUCTIVE: 600}
"""design/safety.md, Approving 2: 15 minutes, destructive 10."""
LONGEST_EXPIRY: Final = 86_400
"""Seconds; an approval older than a day was not given for today's world."""
DECIDED_RISKS: Final = (RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE)
"""Reading needs no approval."""
DESTRUCTIVE_GROUPS: Final = 2
"""design/safety.md, Approving 2: two different people from two groups."""

_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/")

SlackUserId = Annotated[str, Shape(r"[UW][A-Z0-9]+", "a Slack user id such as U0123456789, not a name or e-mail")]
SlackGroupId = Annotated[str, Shape(r"S[A-Z0-9]+", "a Slack user-group id such as S0123456789, not a handle")]
SlackTeamId = Annotated[str, Shape(r"[TE][A-Z0-9]+", "a Slack workspace id such as T0123456789, not a name")]


class Transport(StrEnum):
    """How Slack reaches the bot."""

    SOCKET = "socket"
    HTTP = "http"


class SlackSettings(Section):
    bot_token: Secret
    app_token: Secret | None = None
    """For Socket Mode."""
    signing_secret: Secret | None = None
    """For HTTP mode: `POST /slack/events` on the webhooks' listen address."""
    api_url: str = "https://slack.com/api/"
    transport: Transport = Field(
        default=Transport.SOCKET, description="socket where app_token is given and http otherwise, if absent"
    )
    workspaces: tuple[SlackTeamId, ...] = ()
    """Ids of the home workspaces; members of others decide nothing."""

    @model_validator(mode="before")
    @classmethod
    def _derive_transport(cls, data: object) -> object:
        written = mapping_of(data)
        if written is None or "transport" in written:
            return data
        signed = "signing_secret" in written or "signing_secret_file" in written
        if signed and "app_token" not in written and "app_token_file" not in written:
            return written | {"transport": Transport.HTTP}
        return data

    @field_validator("api_url", mode="after")
    @classmethod
    def _safe_address(cls, value: str) -> str:
        address = value if value.endswith("/") else value + "/"
        if "@" in address or not (re.match(r"https://[^/\s]+/", address) or _LOOPBACK.match(address)):
            raise problem(
                "is not an https address",
                "https://…, or http:// on a loopback address",
                "tokens travel on it: use https",
            )
        return address

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.transport is Transport.SOCKET and self.app_token is None:
            raise problem(
                "has no app_token",
                "one for transport socket",
                "add app_token (xapp-…), or signing_secret for transport http",
            )
        if self.transport is Transport.HTTP and self.signing_secret is None:
            raise problem(
                "has no signing_secret",
                "one for transport http",
                "add signing_secret, or app_token for transport socket",
            )
        return self


class GroupSettings(Section):
    """People by Slack user id and by Slack user-group id; never by name or e-mail."""

    users: tuple[SlackUserId, ...] = ()
    usergroups: tuple[SlackGroupId, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.users and not self.usergroups


class PolicySettings(Section):
    groups: dict[Name, GroupSettings] = {}
    persons: dict[Name, tuple[SlackUserId, ...]] = {}
    """Person key to all Slack user ids of that one human."""
    approvers: dict[RiskClass, tuple[str, ...]] = {}
    """Groups that must each give one approval by a different person. An empty or absent list means nobody."""
    expiry_seconds: dict[RiskClass, Annotated[int, Field(ge=1, le=LONGEST_EXPIRY)]] = dict(EXPIRY_SECONDS)

    @field_validator("expiry_seconds", mode="after")
    @classmethod
    def _with_defaults(cls, value: dict[RiskClass, int]) -> dict[RiskClass, int]:
        return {**EXPIRY_SECONDS, **value}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [*self._group_mistakes(), *self._person_mistakes()]
        if found:
            raise problems(found)
        return self

    def _group_mistakes(self) -> Iterable[Problem]:
        for risk, names in self.approvers.items():
            where = f"has approvers.{risk}"
            if risk not in DECIDED_RISKS:
                yield Problem(f"{where}", f"only {', '.join(DECIDED_RISKS)}", "remove it: reading needs no approval")
            for name in sorted(set(names) - set(self.groups)):
                known = ", ".join(sorted(self.groups)) or "none"
                yield Problem(
                    f"{where} with the unknown group {name!r}",
                    f"names from policy.groups ({known})",
                    "define the group or correct the name",
                )
            for name in sorted(name for name, count in Counter(names).items() if count > 1):
                yield Problem(f"{where} with the group {name!r} twice", "different groups", "name each group once")
            if risk is RiskClass.DESTRUCTIVE and len(set(names)) == 1:
                yield Problem(
                    f"{where} with one group",
                    f"{DESTRUCTIVE_GROUPS} groups, or none at all",
                    "add a second group of other people",
                )

    def _person_mistakes(self) -> Iterable[Problem]:
        owners = Counter(user for users in self.persons.values() for user in set(users))
        for user in sorted(user for user, count in owners.items() if count > 1):
            yield Problem(f"has the user {user} below two persons", "one person per user", "remove it from one of them")

    def unapprovable(self) -> tuple[str, ...]:
        """Return why approving cannot work, one phrase per reason; empty where every decided risk class has people."""
        reasons: list[str] = []
        for risk in DECIDED_RISKS:
            names = self.approvers.get(risk, ())
            if not names:
                reasons.append(f"policy.approvers.{risk} names nobody")
            reasons += [
                f"group {name!r} of policy.approvers.{risk} is empty" for name in names if self.groups[name].empty
            ]
        return tuple(reasons)
