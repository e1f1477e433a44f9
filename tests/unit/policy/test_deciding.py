"""The approval policy against an oracle that is written differently: it tries every assignment of people to groups."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.model import Choice, ProposalState, RiskClass, SlackUser
from bot.policy import Reason, check_form, decide, standing, still_valid
from bot.settings import PolicySettings
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal


def test_two_people_of_two_groups_satisfy_a_destructive_proposal() -> None:
    p = proposal()
    ada, bo = person("ada", "operators"), person("bo", "owners")
    assert decide(p, [], ada, Choice.APPROVE, RULES, NOW).allowed
    assert decide(p, [approval(p, ada)], bo, Choice.APPROVE, RULES, NOW).allowed
    assert standing(p, [approval(p, ada), approval(p, bo)], RULES).satisfied


def test_one_approval_does_not_satisfy_a_destructive_proposal_and_the_missing_group_is_named() -> None:
    p = proposal()
    found = standing(p, [approval(p, person("ada", "operators", "owners"))], RULES)
    assert (found.satisfied, found.given, found.needed) == (False, 1, 2)
    assert len(found.missing) == 1


def test_a_person_in_both_groups_gives_way_to_the_group_that_only_she_can_cover() -> None:
    p = proposal()
    both, operator = person("both", "operators", "owners"), person("op", "operators")
    assert standing(p, [approval(p, both), approval(p, operator)], RULES).satisfied
    assert standing(p, [approval(p, operator), approval(p, both)], RULES).satisfied


def test_two_people_of_one_group_do_not_satisfy_a_destructive_proposal() -> None:
    p = proposal()
    ada, eve = person("ada", "operators"), person("eve", "operators")
    assert decide(p, [approval(p, ada)], eve, Choice.APPROVE, RULES, NOW).reason is Reason.NOT_NEEDED
    assert not standing(p, [approval(p, ada), approval(p, eve)], RULES).satisfied


def test_one_human_with_two_accounts_is_one_person() -> None:
    p = proposal()
    first = person("ada", "operators")
    second = first.model_copy(update={"user": SlackUser(team_id="T1", user_id="U2"), "groups": frozenset({"owners"})})
    assert decide(p, [approval(p, first)], second, Choice.APPROVE, RULES, NOW).reason is Reason.ALREADY_DECIDED
    assert not standing(p, [approval(p, first), approval(p, second)], RULES).satisfied


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"problem": "users.info timed out"}, Reason.LOOKUP_FAILED),
        ({"home_workspace": False}, Reason.FOREIGN_WORKSPACE),
        ({"human": False}, Reason.NOT_HUMAN),
        ({"active": False}, Reason.INACTIVE),
        ({"guest": True}, Reason.GUEST),
    ],
)
def test_a_clicker_who_is_not_an_active_human_member_is_refused(flags: dict[str, object], reason: Reason) -> None:
    who = person("x", "operators", "owners", **flags)
    for choice in Choice:
        assert decide(proposal(), [], who, choice, RULES, NOW).reason is reason


def test_somebody_in_no_approver_group_may_neither_approve_nor_deny() -> None:
    for choice in Choice:
        assert decide(proposal(), [], person("x", "readers"), choice, RULES, NOW).reason is Reason.NOT_AN_APPROVER


@pytest.mark.parametrize("risk", [RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE])
def test_an_empty_list_means_nobody(risk: RiskClass) -> None:
    everyone = person("x", "operators", "owners")
    assert decide(proposal(risk), [], everyone, Choice.APPROVE, PolicySettings(), NOW).reason is Reason.NOBODY


def test_destructive_with_one_group_means_nobody_even_if_settings_let_it_through() -> None:
    rules = RULES.model_copy(update={"approvers": {RiskClass.DESTRUCTIVE: ("operators",)}})
    assert decide(proposal(), [], person("x", "operators"), Choice.APPROVE, rules, NOW).reason is Reason.NOBODY


def test_nobody_approves_what_they_asked_for_but_may_deny_it() -> None:
    p = proposal(RiskClass.LOW, requested_by="ada")
    ada = person("ada", "operators")
    assert decide(p, [], ada, Choice.APPROVE, RULES, NOW).reason is Reason.OWN_REQUEST
    assert decide(p, [], ada, Choice.DENY, RULES, NOW).allowed


@pytest.mark.parametrize("state", [s for s in ProposalState if s is not ProposalState.PENDING])
def test_only_a_pending_proposal_can_be_decided(state: ProposalState) -> None:
    assert (
        decide(proposal(state=state), [], person("a", "operators"), Choice.APPROVE, RULES, NOW).reason
        is Reason.NOT_PENDING
    )


def test_expiry_counts_from_the_very_second() -> None:
    p, ada = proposal(), person("ada", "operators")
    assert decide(p, [], ada, Choice.APPROVE, RULES, p.expires_at - timedelta(seconds=1)).allowed
    assert decide(p, [], ada, Choice.APPROVE, RULES, p.expires_at).reason is Reason.EXPIRED


def test_guidance_cannot_be_approved() -> None:
    p = proposal(RiskClass.LOW, guidance_only=True)
    assert decide(p, [], person("a", "operators"), Choice.APPROVE, RULES, NOW).reason is Reason.NOTHING_TO_RUN


def test_one_deny_ends_it() -> None:
    p = proposal()
    ada, bo, eve = person("ada", "operators"), person("bo", "owners"), person("eve", "owners")
    assert not standing(p, [approval(p, ada), approval(p, bo), approval(p, eve, Choice.DENY)], RULES).satisfied


def test_an_approval_of_another_digest_counts_for_nothing() -> None:
    p = proposal()
    ada, bo = person("ada", "operators"), person("bo", "owners")
    moved = p.model_copy(update={"world": {"consumer.leader": "n2"}})
    assert moved.digest != p.digest
    assert not standing(moved, [approval(p, ada), approval(moved, bo)], RULES).satisfied


def test_a_form_needs_a_reason_and_the_exact_name() -> None:
    p = proposal()
    assert set(check_form(p, Choice.APPROVE, "  ", "Worker")) == {"reason", "typed_name"}
    assert check_form(p, Choice.APPROVE, "it is stuck", "worker") == {}
    assert check_form(p, Choice.DENY, "not now", "") == {}
    assert check_form(proposal(RiskClass.LOW), Choice.APPROVE, "it is stuck", "") == {}


def test_an_approver_who_left_the_group_before_the_first_write_voids_the_approval() -> None:
    p = proposal()
    ada, bo = person("ada", "operators"), person("bo", "owners")
    given_now = [approval(p, ada), approval(p, bo)]
    assert still_valid(p, given_now, [ada, bo], RULES, NOW).allowed
    assert not still_valid(p, given_now, [ada, person("bo", "readers")], RULES, NOW).allowed
    assert not still_valid(p, given_now, [ada, person("bo", "owners", problem="Slack is down")], RULES, NOW).allowed
    assert still_valid(p, given_now, [ada, bo], RULES, p.expires_at).reason is Reason.EXPIRED


GROUPS = ("operators", "owners", "security")
People = st.lists(st.tuples(st.sampled_from("abcdef"), st.frozensets(st.sampled_from(GROUPS))), max_size=5)


@settings(deadline=None)
@given(people=People, needed=st.permutations(GROUPS).flatmap(lambda g: st.integers(2, 3).map(lambda n: tuple(g[:n]))))
def test_the_standing_agrees_with_trying_every_assignment(
    people: list[tuple[str, frozenset[str]]], needed: tuple[str, ...]
) -> None:
    rules = RULES.model_copy(update={"approvers": {RiskClass.DESTRUCTIVE: needed}})
    p = proposal()
    given_now = [approval(p, person(key, *groups)) for key, groups in people]
    distinct: dict[str, frozenset[str]] = {}
    for key, groups in people:
        distinct.setdefault(key, groups)
    oracle = any(
        all(group in distinct[who] for who, group in zip(chosen, needed, strict=True))
        for chosen in itertools.permutations(distinct, len(needed))
    )
    assert standing(p, given_now, rules).satisfied == oracle
