"""What the rules of approving say (design/safety.md, Approving 1 and 2), as words instead of code, and none of `bot.policy` in it.

A `Case` describes a situation by named choices. `judge` answers with every objection there is, by trying out who could stand for which group;
`build` makes the records of the same situation.
"""

from __future__ import annotations

import base64
import hmac
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from bot.model import Approval, Choice, Escalation, Factor, Person, Proposal, ProposalState, RiskClass
from bot.settings import PolicySettings
from tests.unit.policy.matters import NOW, approval, person, proposal

GROUPS: Final = ("a", "b", "c", "own", "glass", "up", "top")

SECRET: Final = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

TRAITS: Final[Mapping[str, tuple[dict[str, object], str | None]]] = {
    "member": ({}, None),
    "unread": ({"problem": "Slack is down"}, "lookup_failed"),
    "stranger": ({"home_workspace": False}, "foreign_workspace"),
    "robot": ({"human": False}, "not_human"),
    "gone": ({"active": False}, "inactive"),
    "guest": ({"guest": True}, "guest"),
    "unread stranger": ({"problem": "x", "home_workspace": False}, "lookup_failed"),
    "strange robot": ({"home_workspace": False, "human": False}, "foreign_workspace"),
    "gone guest": ({"active": False, "guest": True}, "inactive"),
}
"""Flags of a person, and what is said against them."""
APPROVERS: Final[Mapping[str, tuple[str, ...]]] = {"nobody": (), "one": ("a",), "two": ("a", "b"), "others": ("c", "b")}
WINDOWS: Final[Mapping[str, tuple[tuple[str, ...] | None, bool]]] = {
    "absent": (None, True),
    "any time": ((), True),
    "open": (("02:00-04:00",), True),
    "opens now": (("03:00-04:00",), True),
    "opens soon": (("03:01-04:00",), False),
    "closes now": (("02:00-03:00",), False),
    "one of two": (("12:00-13:00", "02:59-03:01"), True),
    "over midnight": (("22:00-03:30",), True),
}
"""Hours in UTC, and whether a change may start at 03:00."""
OWNERS: Final[Mapping[str, tuple[list[dict[str, object]] | None, bool]]] = {
    "absent": (None, False),
    "none": ([], False),
    "of everything": ([{"group": "own"}], True),
    "of the stream": ([{"group": "own", "streams": ["ORD*"]}], True),
    "of the account": ([{"group": "own", "account": "APP"}], True),
    "of another stream": ([{"group": "own", "streams": ["PAY*"]}], False),
    "of another account": ([{"group": "own", "account": "SHOP"}], False),
    "of something else first": ([{"group": "c", "streams": ["PAY"]}, {"group": "own"}], True),
}
"""Owners of data, and whether `own` owns APP/ORDERS."""
ALL_RISKS: Final = ("low", "medium", "destructive")
FACTORS: Final[Mapping[str, tuple[str, tuple[str, ...]] | None]] = {
    "absent": None,
    "mine": ("me", ALL_RISKS),
    "mine for the worst": ("me", ("destructive",)),
    "another's": ("cy", ALL_RISKS),
    "another's for the worst": ("cy", ("destructive",)),
    "of no risk": ("me", ()),
}
"""Whose authenticator the settings know, and which risk classes ask for its code."""
CODES: Final[Mapping[str, int | None]] = {
    "of now": 0,
    "of just before": -1,
    "of just after": 1,
    "too old": -2,
    "too early": 2,
    "no digits": None,
    "nothing": None,
}
"""What is typed: the code of the present half minute, or of so many after it."""
GUESSES: Final[Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "none": ((), ()),
    "four": ((1, 2, 3, 4), (1, 2, 3, 4)),
    "five": ((0, 1, 2, 3, 599.999), (0, 1, 2, 3, 599.999)),
    "five, one of them too old": ((1, 600, 2, 3, 4), (1, 2, 3, 4)),
    "five, one of them to come": ((-1, 1, 2, 3, 4), (1, 2, 3, 4)),
    "six": ((5, 5, 5, 5, 5, 5), (5, 5, 5, 5, 5, 5)),
}
"""How many seconds ago wrong codes were sent, and those of them that count; at five no further one is looked at."""
BREAKERS: Final[Mapping[str, tuple[str, ...]]] = {
    "nobody": (),
    "glass": ("glass",),
    "also b": ("glass", "b"),
    "called": ("up", "glass"),
}
"""Groups that may break the glass."""
EXPIRIES: Final = {
    "long": timedelta(minutes=5),
    "a moment": timedelta(microseconds=1),
    "now": timedelta(0),
    "over": -timedelta(1),
}


@dataclass(frozen=True)
class Given:
    """An approval or a denial that is there already."""

    who: str
    groups: tuple[str, ...]
    choice: str = "approve"
    for_this: bool = True
    alone: bool = False
    """Given by breaking the glass."""
    at: int = 0
    """Seconds after now."""
    coded: bool = True
    """Given with a code of a second factor."""


@dataclass(frozen=True)
class Called:
    """A group that was called because nobody had decided."""

    group: str
    place: str
    """The group it stands in for."""
    at: int
    """Seconds after now."""


@dataclass(frozen=True)
class Case:
    risk: str
    approvers: str
    override: str | None
    """Approvers that the cluster itself has."""
    elsewhere: bool
    """The override is another cluster's."""
    owner: str
    owner_here: str
    window: str
    window_here: str
    trait: str
    groups: tuple[str, ...]
    choice: str
    state: str
    expiry: str
    guidance: bool
    requester: str | None
    given: tuple[Given, ...]
    breakers: str
    alone: bool
    """The person wants to break the glass."""
    called: tuple[Called, ...]
    calling: tuple[str, ...]
    """Groups that the settings still call."""
    calling_here: tuple[str, ...] | None
    """Those that the cluster itself calls."""
    factor: str
    code: str
    used: int
    """The last code that was used, in half minutes after the present one."""
    guesses: str


def required(case: Case) -> tuple[str, ...]:
    """The groups that must each send one person."""
    names = APPROVERS[case.approvers if case.override is None or case.elsewhere else case.override]
    if case.risk == "destructive" and len(names) < 2:
        return ()
    owner = case.owner if case.elsewhere or case.owner_here == "absent" else case.owner_here
    owned = OWNERS[owner][1] and case.risk == "medium"
    return (*names, "own") if names and owned else names


def most(people: Sequence[Iterable[str]], groups: Sequence[str]) -> int:
    """How many groups can be stood for at once, by trying every order of people."""
    seats = [frozenset(one) for one in people] + [frozenset[str]()] * len(groups)
    orders = itertools.permutations(seats, len(groups))
    return max((sum(group in seat for group, seat in zip(groups, order, strict=True)) for order in orders), default=0)


def seats(case: Case, groups: tuple[str, ...], at: int = 0) -> tuple[str, ...]:
    """The groups somebody can stand for at that time, those in whose place they were called included."""
    calling = case.calling if case.elsewhere or case.calling_here is None else case.calling_here
    heard = [one for one in case.called if one.group in groups and one.group in calling and one.at <= at]
    return (*groups, *(one.place for one in heard))


def stands(case: Case, one: Given) -> bool:
    """Whether it is a decision still: an approval is none without a code where policy asks for one by now."""
    factor = FACTORS[case.factor]
    return one.coded or one.choice == "deny" or factor is None or case.risk not in factor[1]


def counting(case: Case) -> list[tuple[str, ...]]:
    """The groups of everybody who has approved exactly this, as is asked for now."""
    yes = [one for one in case.given if one.choice == "approve" and one.for_this and stands(case, one)]
    return [seats(case, one.groups, one.at) for one in yes]


def satisfied(case: Case) -> bool:
    needed = required(case)
    denied = any(one.choice == "deny" for one in case.given)
    return bool(needed) and not denied and (most(counting(case), needed) == len(needed) or broken(case))


def broken(case: Case) -> bool:
    """Whether somebody who may has approved exactly this alone."""
    yes = [one for one in case.given if one.choice == "approve" and one.for_this and stands(case, one)]
    return any(one.alone and set(BREAKERS[case.breakers]) & set(one.groups) for one in yes)


def code_is_asked(case: Case) -> bool:
    """Whether a code is asked for."""
    factor = FACTORS[case.factor]
    return case.choice == "approve" and factor is not None and case.risk in factor[1]


def has_none(case: Case) -> bool:
    """Whether a code is asked for of somebody who has no authenticator."""
    factor = FACTORS[case.factor]
    return code_is_asked(case) and (factor is None or factor[0] != "me")


def verdict_on_code(case: Case) -> str:
    """What is said to the code that was typed, where one is asked for."""
    if has_none(case):
        return "no_second_factor"
    if len(recent(case)) >= 5:
        return "locked_out"
    off = CODES[case.code]
    if off is None or abs(off) > 1:
        return "wrong_code"
    return "allowed" if off > case.used else "used_code"


def recent(case: Case) -> tuple[datetime, ...]:
    """When the wrong codes were sent that still count."""
    return tuple(after(-ago) for ago in GUESSES[case.guesses][1])


def code_of(half_minutes: int) -> str:
    """The code of the half minute that begins so many after now (RFC 6238 upon RFC 4226, 5.3)."""
    step = int(NOW.timestamp()) // 30 + half_minutes
    hashed = hmac.digest(base64.b32decode(SECRET), step.to_bytes(8, "big"), "sha1")
    start = hashed[-1] & 15
    return f"{(int.from_bytes(hashed[start : start + 4], 'big') & (2**31 - 1)) % 1_000_000:06d}"


def objections(case: Case) -> list[str]:
    """Everything that speaks against it, the weightiest first."""
    needed, approves = required(case), case.choice == "approve"
    here = case.window if case.elsewhere or case.window_here == "absent" else case.window_here
    alone = approves and case.alone
    my = seats(case, case.groups)
    mine = [one for one in case.given if one.who == "me" and stands(case, one)]
    others = counting(replace(case, given=tuple(one for one in case.given if one.who != "me")))
    if alone:
        useful = most([*others, my], needed) < len(needed)
        decided = any(one.choice == "deny" or one.alone for one in mine)
        authority = bool(set(BREAKERS[case.breakers]) & set(case.groups))
    else:
        useful = most([*counting(case), my], needed) > most(counting(case), needed)
        decided = bool(mine)
        authority = bool(set(needed) & set(my))
    said: list[tuple[str | None, bool]] = [
        (TRAITS[case.trait][1], TRAITS[case.trait][1] is not None),
        ("nobody_may_approve", not needed),
        ("may_not_break_the_glass" if alone else "not_an_approver", not authority),
        ("nothing_to_run", case.guidance),
        ("not_pending", case.state != "pending"),
        ("expired", case.expiry in {"now", "over"}),
        ("already_decided", decided),
        ("own_request", approves and case.requester == "me"),
        ("groups_already_covered", approves and not useful),
        ("no_second_factor", has_none(case)),
        ("outside_change_window", approves and not WINDOWS[here][1]),
    ]
    return [str(name) for name, holds in said if holds]


@cache
def rules(case: Case) -> PolicySettings:
    """The settings of a case of which nothing else is left."""

    def hours(name: str) -> list[dict[str, str]] | None:
        given = WINDOWS[name][0]
        return None if given is None else [{"hours": one, "zone": "UTC"} for one in given]

    here = {
        "approvers": {} if case.override is None else {case.risk: APPROVERS[case.override]},
        "change_windows": hours(case.window_here),
        "data_owners": OWNERS[case.owner_here][0],
        "escalation": {} if case.calling_here is None else {case.risk: case.calling_here},
    }
    factor = FACTORS[case.factor]
    return PolicySettings.model_validate(
        {
            "groups": {name: {"users": ["U1"]} for name in GROUPS},
            "escalation": {case.risk: case.calling},
            "persons": {"me": [], "cy": []},
            "second_factor": None if factor is None else {"secrets": {factor[0]: SECRET}, "risks": factor[1]},
            "break_glass": BREAKERS[case.breakers],
            "approvers": {case.risk: APPROVERS[case.approvers]},
            "change_windows": hours(case.window) or [],
            "data_owners": OWNERS[case.owner][0] or [],
            "clusters": {"stage" if case.elsewhere else "prod": here},
        }
    )


@dataclass(frozen=True)
class Built:
    """The records of a case."""

    case: Case
    proposal: Proposal
    given: list[Approval]
    who: Person
    choice: Choice
    rules: PolicySettings
    factor: Factor
    """What is remembered of the person's codes."""
    code: str


def build(case: Case) -> Built:
    asked = proposal(RiskClass(case.risk), ProposalState(case.state), case.requester, case.guidance)
    offered = asked.model_copy(update={"expires_at": NOW + EXPIRIES[case.expiry]})
    calls = (Escalation(group=one.group, stands_for=one.place, at=after(one.at)) for one in case.called)
    offered = offered.model_copy(update={"escalations": tuple(calls)})
    given: list[Approval] = []
    for one in case.given:
        made = approval(offered, person(one.who, *one.groups), Choice(one.choice))
        made = made.model_copy(update={"break_glass": one.alone, "at": after(one.at), "factor": one.coded})
        given.append(made if one.for_this else made.model_copy(update={"proposal_digest": "0" * 64}))
    who = person("me", *case.groups, **TRAITS[case.trait][0])
    step = int(NOW.timestamp()) // 30 + case.used
    factor = Factor(id="me", step=step, wrong=tuple(after(-ago) for ago in GUESSES[case.guesses][0]))
    off = CODES[case.code]
    code = code_of(off) if off is not None else "" if case.code == "nothing" else "abcdef"
    return Built(case, offered, given, who, Choice(case.choice), rules(_settings_of(case)), factor, code)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def _settings_of(case: Case) -> Case:
    """The same settings in a case of which nothing else is left."""
    bare = replace(case, trait="", groups=(), choice="", state="", expiry="", guidance=False, requester=None, given=())
    return replace(bare, alone=False, called=(), code="", used=0, guesses="")
