"""What the rules of approving say (design/safety.md, Approving 1 and 2), as words instead of code, and none of `bot.policy` in it.

A `Case` describes a situation by named choices. `judge` answers with every objection there is, by trying out who could stand for which group;
`build` makes the records of the same situation.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Final

from bot.model import Approval, Choice, Escalation, Person, Proposal, ProposalState, RiskClass
from bot.settings import PolicySettings
from tests.unit.policy.matters import NOW, approval, person, proposal

GROUPS: Final = ("a", "b", "c", "own", "glass", "up")

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
FACTORS: Final[Mapping[str, tuple[dict[str, object] | None, bool]]] = {
    "absent": (None, True),
    "mine": ({"secrets": {"me": SECRET}, "risks": ["low", "medium", "destructive"]}, True),
    "another's": ({"secrets": {"cy": SECRET}, "risks": ["low", "medium", "destructive"]}, False),
    "of no risk": ({"secrets": {}, "risks": []}, True),
}
"""What the settings know of second factors, and whether somebody called `me` may approve with that."""
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
    early: bool = False
    """Given before anybody was called."""
    coded: bool = True
    """Given with a code of a second factor."""


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
    breakers: bool
    """The settings have a group that may break the glass."""
    alone: bool
    """The person wants to break it."""
    factor: str
    called: str
    """The group in whose place `up` was called; empty where it was not."""
    calling: bool
    """The settings still call it."""


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


def seats(case: Case, groups: tuple[str, ...], early: bool = False) -> tuple[str, ...]:
    """The groups somebody can stand for, the one in whose place they were called included."""
    acts = case.called and case.calling and "up" in groups and not early
    return (*groups, case.called) if acts else groups


def stands(case: Case, one: Given) -> bool:
    """Whether it is a decision still: policy asks for a code for every risk that a case has, or for none."""
    asks = case.factor in {"mine", "another's"}
    return one.coded or one.choice == "deny" or not asks


def counting(case: Case) -> list[tuple[str, ...]]:
    """The groups of everybody who has approved exactly this, as is asked for now."""
    yes = [one for one in case.given if one.choice == "approve" and one.for_this and stands(case, one)]
    return [seats(case, one.groups, one.early) for one in yes]


def satisfied(case: Case) -> bool:
    needed = required(case)
    denied = any(one.choice == "deny" for one in case.given)
    return bool(needed) and not denied and (most(counting(case), needed) == len(needed) or broken(case))


def broken(case: Case) -> bool:
    """Whether somebody who may has approved exactly this alone."""
    yes = [one for one in case.given if one.choice == "approve" and one.for_this and stands(case, one)]
    return case.breakers and any(one.alone and "glass" in one.groups for one in yes)


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
        authority = case.breakers and "glass" in case.groups
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
        ("no_second_factor", approves and not FACTORS[case.factor][1]),
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
    }
    return PolicySettings.model_validate(
        {
            "groups": {name: {"users": ["U1"]} for name in GROUPS},
            "escalation": {case.risk: ["up"]} if case.calling else {},
            "persons": {"me": [], "cy": []},
            "second_factor": FACTORS[case.factor][0],
            "break_glass": ["glass"] if case.breakers else [],
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


def build(case: Case) -> Built:
    asked = proposal(RiskClass(case.risk), ProposalState(case.state), case.requester, case.guidance)
    offered = asked.model_copy(update={"expires_at": NOW + EXPIRIES[case.expiry]})
    if case.called:
        call = Escalation(group="up", stands_for=case.called, at=NOW)
        offered = offered.model_copy(update={"escalations": (call,)})
    given: list[Approval] = []
    for one in case.given:
        made = approval(offered, person(one.who, *one.groups), Choice(one.choice))
        at = NOW - timedelta(seconds=one.early)
        made = made.model_copy(update={"break_glass": one.alone, "at": at, "factor": one.coded})
        given.append(made if one.for_this else made.model_copy(update={"proposal_digest": "0" * 64}))
    bare = replace(
        case, trait="", groups=(), choice="", state="", expiry="", guidance=False, requester=None, given=(), alone=False
    )
    who = person("me", *case.groups, **TRAITS[case.trait][0])
    return Built(case, offered, given, who, Choice(case.choice), rules(bare))


def cases(count: int, seed: int) -> list[Case]:
    """Draw different cases. Each question is answered badly in a part of them only, so that every later one is reached as well."""
    dice = random.Random(seed)
    found: dict[Case, None] = {}
    while len(found) < count:
        found[_draw(dice)] = None
    return list(found)


def _draw(dice: random.Random) -> Case:
    def mostly(usual: str, others: Iterable[str], rare: float = 0.2) -> str:
        return dice.choice(list(others)) if dice.random() < rare else usual

    def some(most_of_all: int = 3) -> tuple[str, ...]:
        return tuple(sorted(dice.sample(GROUPS, dice.randint(0, most_of_all))))

    risk = dice.choice(("low", "medium", "destructive"))
    lists = [name for name, groups in APPROVERS.items() if risk != "destructive" or len(groups) != 1]
    whos = dice.sample(("bo", "cy", "di", "me"), dice.randint(0, 3))
    return Case(
        risk=risk,
        approvers=dice.choice(lists),
        override=dice.choice([None, *lists]),
        elsewhere=dice.random() < 0.3,
        owner=mostly("absent", OWNERS, 0.5),
        owner_here=mostly("absent", OWNERS, 0.5),
        window=mostly("absent", WINDOWS, 0.5),
        window_here=mostly("absent", WINDOWS, 0.5),
        trait=mostly("member", TRAITS),
        groups=some(),
        choice=mostly("approve", ("deny",), 0.3),
        state=mostly("pending", ProposalState),
        expiry=mostly("long", EXPIRIES),
        guidance=dice.random() < 0.05,
        requester=dice.choice((None, None, "me", "bo")),
        given=tuple(
            Given(
                who,
                some(),
                mostly("approve", ("deny",), 0.1),
                dice.random() > 0.1,
                dice.random() < 0.2,
                dice.random() < 0.2,
                dice.random() > 0.2,
            )
            for who in whos
        ),
        breakers=dice.random() < 0.7,
        alone=dice.random() < 0.25,
        called=dice.choice(("", "a", "b", "own")),
        calling=dice.random() < 0.8,
        factor=mostly("absent", FACTORS, 0.6),
    )
