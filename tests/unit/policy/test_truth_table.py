"""Thousands of situations, each decided by the policy and by an oracle that is written differently; every objection is compared, not the first one only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from bot.model import Person, ProposalState
from bot.policy import (
    Reason,
    asks_code,
    check_code,
    decide,
    explain,
    may_withdraw,
    standing,
    stands_in,
    still_valid,
)
from tests.exhaustive import EXHAUSTIVE
from tests.unit.policy import draws, oracle
from tests.unit.policy.matters import NOW, person

COUNT: Final = 30_000 if EXHAUSTIVE else 3_000
SEED: Final = 20261127
TRAITS: Final = list(oracle.TRAITS.values())
LEAST: Final = 10
"""So many cases at least must end with each reason, or the table does not show it."""
EACH: Final = 2_000
"""In so many cases at least the settings know second factors, somebody was called, and somebody may break the glass."""
OF_FORM: Final = {Reason.WRONG_NAME, Reason.NO_REASON}
OF_CODE: Final = {Reason.WRONG_CODE, Reason.USED_CODE, Reason.LOCKED}


@pytest.fixture(scope="module")
def table() -> list[oracle.Built]:
    return [oracle.build(case) for case in draws.cases(COUNT, SEED)]


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
    assert set(ends) == set(Reason) - OF_FORM - OF_CODE
    assert min(ends.values()) >= LEAST, ends


def test_the_table_is_about_second_factors_people_who_were_called_and_broken_glass(table: list[oracle.Built]) -> None:
    cases = [one.case for one in table]
    assert sum(case.factor != "absent" for case in cases) >= EACH
    assert sum(bool(case.called) for case in cases) >= EACH
    assert sum(case.breakers != "nobody" for case in cases) >= EACH
    together = [c for c in cases if oracle.code_is_asked(c) and c.called and c.breakers != "nobody" and c.alone]
    assert len(together) >= LEAST


def test_a_code_counts_exactly_where_the_oracle_says_and_what_is_remembered_is_what_came_of_it(
    table: list[oracle.Built],
) -> None:
    ends: Counter[str] = Counter()
    for one in table:
        case = one.case
        assert asks_code(one.proposal, one.choice, one.rules) is oracle.code_is_asked(case), case
        if not oracle.code_is_asked(case):
            continue
        left, decision = check_code(one.factor, one.code, one.rules, NOW)
        assert decision.reason == oracle.verdict_on_code(case), case
        off, recent = oracle.CODES[case.code], oracle.recent(case)
        match decision.reason:
            case Reason.ALLOWED:
                assert off is not None
                assert (left.step, left.wrong) == (one.factor.step - case.used + off, ()), case
            case Reason.NO_FACTOR:
                assert left == one.factor, case
            case Reason.WRONG_CODE:
                assert (left.step, left.wrong) == (one.factor.step, (*recent, NOW)), case
            case _:
                assert (left.step, left.wrong) == (one.factor.step, recent), case
        ends[decision.reason] += 1
    assert set(ends) == {Reason.ALLOWED, Reason.NO_FACTOR, *OF_CODE}
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


def test_an_approval_stands_in_for_the_groups_in_whose_place_the_oracle_sees_it(table: list[oracle.Built]) -> None:
    ends: Counter[bool] = Counter()
    for one in table:
        for vote, given in zip(one.case.given, one.given, strict=True):
            needed = set(oracle.required(one.case))
            places = () if needed & set(vote.groups) else needed & set(oracle.seats(one.case, vote.groups, vote.at))
            found = stands_in(given, one.proposal, one.rules)
            assert found == tuple(sorted(places)), one.case
            ends[bool(found)] += 1
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
        deciding = {*needed, *oracle.BREAKERS[case.breakers]} if needed else set[str]()
        acting = set(needed) & set(oracle.seats(case, case.groups))
        theirs = case.requester == "me" or bool(deciding & set(case.groups) or acting)
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
