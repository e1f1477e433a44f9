"""Situations for the policy's truth table, drawn by a seed: the same every time."""

from __future__ import annotations

import random
from collections.abc import Iterable

from bot.model import ProposalState
from tests.unit.policy.oracle import (
    ALL_RISKS,
    APPROVERS,
    BREAKERS,
    CODES,
    EXPIRIES,
    FACTORS,
    GROUPS,
    GUESSES,
    OWNERS,
    TRAITS,
    WINDOWS,
    Called,
    Case,
    Given,
)


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

    def calls() -> tuple[str, ...]:
        return dice.choice((("up",), ("up", "top"), ("up", "top"), ("top",), ()))

    risk = dice.choice(ALL_RISKS)
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
                dice.choice((-1, 0)),
                dice.random() > 0.2,
            )
            for who in whos
        ),
        breakers=dice.choice(list(BREAKERS)),
        alone=dice.random() < 0.25,
        called=tuple(
            Called(group, dice.choice(("a", "b", "own")), dice.choice((-2, -1, -1, 0, 0, 1)))
            for group in dice.choice(((), ("up",), ("up", "top"), ("top", "up"), ("up",)))
        ),
        calling=calls(),
        calling_here=calls() if dice.random() < 0.3 else None,
        factor=dice.choice(list(FACTORS)),
        code=mostly("of now", CODES, 0.5),
        used=dice.choice((-9, -9, -1, 0, 1)),
        guesses=mostly("none", GUESSES, 0.5),
    )
