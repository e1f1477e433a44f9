"""Who may approve what, and when. An empty or absent list means nobody (design/safety.md, Approving)."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from bot.model import RiskClass
from bot.settings.clusters import Name
from bot.settings.people import SlackGroupId, SlackUserId
from bot.settings.section import Problem, Secret, Section, Shape, problem, problems
from bot.settings.windows import RotaSettings, WindowSettings

EXPIRY_SECONDS: Final[Mapping[RiskClass, int]] = {RiskClass.LOW: 900, RiskClass.MEDIUM: 900, RiskClass.DESTRUCTIVE: 600}
"""design/safety.md, Approving 2: 15 minutes, destructive 10."""
LONGEST_EXPIRY: Final = 86_400
"""Seconds; an approval older than a day was not given for today's world."""
DECIDED_RISKS: Final = (RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE)
"""Reading needs no approval."""
DESTRUCTIVE_GROUPS: Final = 2
"""design/safety.md, Approving 2: two different people from two groups."""
REMINDER_SHARE: Final = 0.5
"""Share of a proposal's time after which its thread is reminded of it once."""
FEWEST_BYTES: Final = 16
"""Of a second factor's secret (RFC 4226, 4 R6)."""
RESERVED_PERSON: Final = "bot"
"""Who the audit log names where natsmedic itself acts."""


def _base32(value: SecretStr) -> SecretStr:
    try:
        secret = base64.b32decode(value.get_secret_value(), casefold=True)
    except ValueError:
        secret = b""
    if len(secret) < FEWEST_BYTES:
        raise problem(
            "is no secret of an authenticator",
            f"at least {FEWEST_BYTES} bytes in base32",
            "make one with `natsmedic policy enrol --person KEY`",
        )
    return value


OsUser = Annotated[str, Shape(r"[^\s:/]{1,64}", "a user of the operating system")]
Expiry = Annotated[int, Field(ge=1, le=LONGEST_EXPIRY)]
Approvers = dict[RiskClass, tuple[str, ...]]


class GroupSettings(Section):
    """People by Slack user id, by Slack user-group id and by the keys of policy.persons; never by display name or e-mail."""

    users: tuple[SlackUserId, ...] = ()
    usergroups: tuple[SlackGroupId, ...] = ()
    """Slack user groups need a paid plan; on a free one only the others count."""
    persons: tuple[Name, ...] = ()
    on_call: RotaSettings | None = None
    """Who else belongs to it, in turn."""

    @property
    def empty(self) -> bool:
        return not (self.users or self.usergroups or self.persons or self.on_call)

    @property
    def explicit(self) -> bool:
        """Whether it has people whom nobody must be asked about."""
        return bool(self.users or self.persons or self.on_call)

    def persons_at(self, now: datetime) -> frozenset[str]:
        """Return the persons it names by key at that moment."""
        turn = self.on_call.on_call(now) if self.on_call is not None else None
        return frozenset(self.persons) if turn is None else frozenset({*self.persons, turn})


class OwnerSettings(Section):
    """The group that owns data: a medium change of it needs one of them as well (design/safety.md, Approving 2)."""

    group: str
    account: Name | None = None
    """Only in this NATS account."""
    streams: tuple[str, ...] = ()
    """Only these streams: names, or patterns with `*` and `?`."""


class ClusterPolicy(Section):
    """What is different on one cluster; what is absent is as everywhere."""

    approvers: Approvers = {}
    expiry_seconds: dict[RiskClass, Expiry] = {}
    change_windows: tuple[WindowSettings, ...] | None = None
    data_owners: tuple[OwnerSettings, ...] | None = None
    escalation: Approvers = {}


Base32 = Annotated[Secret, AfterValidator(_base32)]


class FactorSettings(Section):
    """A code from an authenticator (TOTP), asked for beside the reason."""

    risks: tuple[RiskClass, ...] = (RiskClass.DESTRUCTIVE,)
    """Risk classes whose approval asks for it."""
    secrets: dict[Name, Base32]
    """Person key to secret, in base32; `natsmedic policy enrol` makes one. Whoever has none approves nothing that asks for a code."""


class PolicySettings(Section):
    groups: dict[Name, GroupSettings] = {}
    persons: dict[Name, tuple[SlackUserId, ...]] = {}
    """Person key to all Slack user ids of that one human; none for somebody who decides in the terminal only."""
    terminal: dict[OsUser, Name] = {}
    """User of the operating system to person key, for `natsmedic proposals`, `natsmedic freeze` and their like."""
    approvers: Approvers = {}
    """Groups that must each give one approval by a different person. An empty or absent list means nobody."""
    data_owners: tuple[OwnerSettings, ...] = ()
    """The first that matches counts."""
    expiry_seconds: dict[RiskClass, Expiry] = dict(EXPIRY_SECONDS)
    change_windows: tuple[WindowSettings, ...] = ()
    """Nothing can be approved or started outside of all of them; none means always."""
    escalation: Approvers = {}
    """Groups that are called one after the other when nobody has decided, and may then approve in place of one required group each."""
    escalation_share: Annotated[float, Field(gt=REMINDER_SHARE, lt=1)] = 0.75
    """Share of a proposal's time after which the first of them is called; before it comes the reminder."""
    break_glass: tuple[str, ...] = ()
    """Groups whose people may approve alone, with a reason, announced: for when nobody else, or no Slack, answers. It waives nothing else."""
    second_factor: FactorSettings | None = None
    clusters: dict[Name, ClusterPolicy] = {}

    @field_validator("expiry_seconds", mode="after")
    @classmethod
    def _with_defaults(cls, value: dict[RiskClass, int]) -> dict[RiskClass, int]:
        return {**EXPIRY_SECONDS, **value}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [
            *self._approver_mistakes("", self.approvers),
            *self._escalation_mistakes("", self),
            *self._group_mistakes(),
            *self._person_mistakes(),
        ]
        for name, cluster in self.clusters.items():
            found += self._approver_mistakes(f"clusters.{name}.", cluster.approvers)
            found += self._escalation_mistakes(f"clusters.{name}.", self.for_cluster(name))
        if found:
            raise problems(found)
        return self

    def for_cluster(self, cluster: str) -> PolicySettings:
        """Return the policy that holds on this cluster."""
        override = self.clusters.get(cluster)
        if override is None:
            return self
        update: dict[str, object] = {
            "approvers": {**self.approvers, **override.approvers},
            "expiry_seconds": {**self.expiry_seconds, **override.expiry_seconds},
            "escalation": {**self.escalation, **override.escalation},
        }
        for name in ("change_windows", "data_owners"):
            if (given := getattr(override, name)) is not None:
                update[name] = given
        return self.model_copy(update=update)

    def person_of(self, user_id: str) -> str | None:
        """Return the person key of a Slack user id, None where none is configured."""
        return next((key for key, users in self.persons.items() if user_id in users), None)

    def _approver_mistakes(self, path: str, approvers: Approvers) -> Iterable[Problem]:
        for risk, names in approvers.items():
            where = f"has {path}approvers.{risk}"
            if risk not in DECIDED_RISKS:
                yield Problem(f"{where}", f"only {', '.join(DECIDED_RISKS)}", "remove it: reading needs no approval")
            yield from self._unknown(where, names)
            for name in sorted(name for name, count in Counter(names).items() if count > 1):
                yield Problem(f"{where} with the group {name!r} twice", "different groups", "name each group once")
            if risk is RiskClass.DESTRUCTIVE and len(set(names)) == 1:
                yield Problem(
                    f"{where} with one group",
                    f"{DESTRUCTIVE_GROUPS} groups, or none at all",
                    "add a second group of other people",
                )

    def _escalation_mistakes(self, path: str, here: PolicySettings) -> Iterable[Problem]:
        for risk, names in here.escalation.items():
            where = f"has {path}escalation.{risk}"
            if risk not in DECIDED_RISKS:
                yield Problem(where, f"only {', '.join(DECIDED_RISKS)}", "remove it: reading needs no approval")
            yield from self._unknown(where, names)
            approving = here.approvers.get(risk, ())
            for name, count in sorted(Counter(names).items()):
                if count > 1 or name in approving:
                    yield Problem(
                        f"{where} with the group {name!r}, which {'approves already' if name in approving else 'is in it twice'}",
                        "other groups than the approvers, each once",
                        "remove it: one group can't stand for two",
                    )

    def _group_mistakes(self) -> Iterable[Problem]:
        overrides = self.clusters.values()
        yield from self._unknown("has break_glass", self.break_glass)
        for name in self.break_glass:
            if name in self.groups and not self.groups[name].explicit:
                yield Problem(
                    f"has break_glass with the group {name!r}, whose people only Slack knows",
                    "users, persons or a rota: it is for when Slack is down",
                    "name them",
                )
        for owners in (self.data_owners, *(c.data_owners or () for c in overrides)):
            yield from self._unknown("has data_owners", [owner.group for owner in owners])

    def _unknown(self, where: str, names: Iterable[str]) -> Iterable[Problem]:
        for name in sorted(set(names) - set(self.groups)):
            known = ", ".join(sorted(self.groups)) or "none"
            yield Problem(
                f"{where} with the unknown group {name!r}",
                f"names from policy.groups ({known})",
                "define the group or correct the name",
            )

    def _person_mistakes(self) -> Iterable[Problem]:
        owners = Counter(user for users in self.persons.values() for user in set(users))
        for user in sorted(user for user, count in owners.items() if count > 1):
            yield Problem(f"has the user {user} below two persons", "one person per user", "remove it from one of them")
        if RESERVED_PERSON in self.persons:
            yield Problem(
                f"has a person {RESERVED_PERSON!r}", "another name", "natsmedic itself is called so in the audit log"
            )
        named = {"terminal": set(self.terminal.values())}
        if self.second_factor is not None:
            named["second_factor.secrets"] = set(self.second_factor.secrets)
        for name, group in self.groups.items():
            named[f"groups.{name}"] = {*group.persons, *(group.on_call.persons if group.on_call else ())}
        for where, keys in named.items():
            for key in sorted(keys - set(self.persons)):
                yield Problem(
                    f"has {where} with the unknown person {key!r}",
                    f"names from policy.persons ({', '.join(sorted(self.persons)) or 'none'})",
                    "define the person or correct the name",
                )

    def unapprovable(self) -> tuple[str, ...]:
        """Return why approving cannot work, one phrase per reason; empty where every decided risk class has people."""
        reasons: list[str] = []
        places = [("policy", self.approvers)]
        places += [(f"policy.clusters.{name}", cluster.approvers) for name, cluster in self.clusters.items()]
        for where, approvers in places:
            for risk in DECIDED_RISKS:
                names = approvers.get(risk, ())
                if not names and (where == "policy" or risk in approvers):
                    reasons.append(f"{where}.approvers.{risk} names nobody")
                reasons += [
                    f"group {name!r} of {where}.approvers.{risk} is empty" for name in names if self.groups[name].empty
                ]
        return tuple(reasons)
