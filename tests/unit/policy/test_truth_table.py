"""Thousands of situations, each decided by the policy and by an oracle that is written differently; every objection is compared, not the first one only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from bot.model import Person, ProposalState
from bot.policy import CODE_FAULTS, Reason, decide, explain, may_withdraw, standing, still_valid
from tests.exhaustive import EXHAUSTIVE
from tests.unit.policy import oracle
from tests.unit.policy.matters import NOW, person

COUNT: Final = 30_000 if EXHAUSTIVE else 2_400
SEED: Final = 20261127
TRAITS: Final = list(oracle.TRAITS.values())
LEAST: Final = 10
"""So many cases at least must end with each reason, or the table does not show it."""
OUTSIDE: Final = {Reason.WRONG_NAME, Reason.NO_REASON, *CODE_FAULTS} - {Reason.NO_FACTOR}
"""Reasons of the form, which is no part of the decision."""


@pytest.fixture(scope="module")
def table() -> list[oracle.Built]:
    return [oracle.build(case) for case in oracle.cases(COUNT, SEED)]


def test_the_decision_and_every_objection_are_those_of_the_oracle(table: list[oracle.Built]) -> None:
    ends: Counter[str] = Counter()
    for one in table:
        case = one.case
        expected = oracle.objections(case)
        decision = decide(one.proposal, one.given, one.who, one.choice, one.rules, NOW, break_glass=case.alone)
        told = explain(one.proposal, one.given, one.who, one.rules, NOW, choice=one.choice, break_glass=case.alone)
        assert [it.decision.reason.value for it in told.reasons if not it.decision.allowed] == expected, case
        assert decision.reason == (expected[0] if expected else Reason.ALLOWED), case
        assert told.decision == decision, case
        assert all(it.decision.sentence for it in told.reasons), case
        ends[decision.reason] += 1
    assert set(ends) == set(Reason) - OUTSIDE
    assert min(ends.values()) >= LEAST, ends


def test_approvals_satisfy_the_policy_exactly_where_every_group_can_send_a_person_of_its_own(
    table: list[oracle.Built],
) -> None:
    ends: Counter[bool] = Counter()
    for one in table:
        case = one.case
        found = standing(one.proposal, one.given, one.rules)
        needed = oracle.required(case)
        assert found.satisfied is oracle.satisfied(case), case
        assert (found.given, found.needed) == (oracle.most(oracle.counting(case), needed), len(needed)), case
        whole = found.given == found.needed
        assert (found.broken_by is not None) is (found.satisfied and not whole), case
        assert len(found.missing) == found.needed - found.given, case
        assert set(found.missing) <= set(needed), case
        ends[found.satisfied] += 1
    assert min(ends[True], ends[False]) >= LEAST, ends


def test_right_before_the_first_write_only_what_still_holds_counts(table: list[oracle.Built]) -> None:
    """Everybody is looked up again, some with other groups or none at all; the requester's own approval is worth nothing."""
    ends: Counter[str] = Counter()
    for number, one in enumerate(table):
        case = one.case
        again: list[Person] = []
        holds: list[oracle.Given] = []
        for place, vote in enumerate(case.given):
            turn = number + place
            flags, problem = TRAITS[turn % len(TRAITS)] if turn % 4 == 0 else TRAITS[0]
            groups = vote.groups if turn % 5 else ()
            again.append(person(vote.who, *groups, **flags))
            if problem is None and case.requester != vote.who:
                holds.append(replace(vote, groups=groups))
        here = case.window if case.elsewhere or case.window_here == "absent" else case.window_here
        live = replace(case, given=tuple(holds))
        if case.expiry in {"now", "over"}:
            expected = "expired"
        elif any(vote.choice == "deny" for vote in case.given):
            expected = "not_pending"
        elif not oracle.satisfied(live):
            expected = "not_an_approver"
        else:
            expected = "allowed" if oracle.WINDOWS[here][1] else "outside_change_window"
        found = still_valid(one.proposal, one.given, again, one.rules, NOW)
        assert found.reason == expected, (case, again)
        ends[found.reason] += 1
    assert min(ends.values()) >= LEAST, ends
    assert len(ends) == 5


def test_whoever_asked_or_may_decide_may_withdraw_what_waits(table: list[oracle.Built]) -> None:
    ends: Counter[str] = Counter()
    waits = {ProposalState.PENDING, ProposalState.PROPOSED}
    for one in table:
        case = one.case
        found = may_withdraw(one.proposal, one.who, one.rules, NOW)
        trait = oracle.TRAITS[case.trait][1]
        needed = oracle.required(case)
        deciding = {*needed, "glass"} if needed and case.breakers else set(needed)
        theirs = case.requester == "me" or bool(deciding & set(oracle.seats(case, case.groups)))
        late = case.expiry in {"now", "over"}
        expected = trait or (
            "not_an_approver"
            if not theirs
            else "not_pending"
            if case.state not in waits
            else "expired"
            if late
            else "allowed"
        )
        assert found.reason == expected, case
        ends[found.reason] += 1
    assert min(ends.values()) >= LEAST, ends
