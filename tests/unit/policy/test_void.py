"""Approvals given before policy asked for a code: they count for nothing, and whoever gave one may decide again."""

from __future__ import annotations

import pytest

from bot.model import Approval, Choice, RiskClass
from bot.policy import WITHOUT_CODE, Reason, decide, explain, lacks_code, standing, still_valid
from bot.settings import PolicySettings
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def asking(*risks: RiskClass, break_glass: tuple[str, ...] = ()) -> PolicySettings:
    factor = {"risks": risks, "secrets": {"ada": SECRET, "bo": SECRET}}
    settings = RULES.model_dump(mode="json") | {
        "persons": {"ada": [], "bo": []},
        "second_factor": factor,
        "break_glass": break_glass,
    }
    return PolicySettings.model_validate(settings)


ASKING = asking(RiskClass.DESTRUCTIVE)
OFFERED = proposal(RiskClass.DESTRUCTIVE)
ADA, BO = person("ada", "operators"), person("bo", "owners")


def given(**changed: object) -> Approval:
    return approval(OFFERED, ADA).model_copy(update=changed)


def test_an_approval_without_a_code_counts_for_nothing_once_policy_asks_for_one() -> None:
    both = [given(), approval(OFFERED, BO).model_copy(update={"factor": True})]
    assert standing(OFFERED, both, RULES).satisfied
    found = standing(OFFERED, both, ASKING)
    assert (found.satisfied, found.given, found.missing) == (False, 1, ("operators",))
    assert standing(OFFERED, [given(factor=True), both[1]], ASKING).satisfied


@pytest.mark.parametrize(
    ("rules", "choice", "factor", "lacking"),
    [
        (ASKING, Choice.APPROVE, False, True),
        (ASKING, Choice.APPROVE, True, False),
        (ASKING, Choice.DENY, False, False),
        (asking(RiskClass.MEDIUM), Choice.APPROVE, False, False),
        (RULES, Choice.APPROVE, False, False),
    ],
)
def test_only_an_approval_of_a_risk_that_asks_for_a_code_can_lack_one(
    rules: PolicySettings, choice: Choice, factor: bool, lacking: bool
) -> None:
    assert lacks_code(given(choice=choice, factor=factor), OFFERED, rules) is lacking


def test_what_was_voided_once_stays_void_when_no_code_is_asked_for_any_more() -> None:
    both = [given(void=WITHOUT_CODE), approval(OFFERED, BO)]
    assert standing(OFFERED, both, RULES).given == 1


def test_whoever_gave_a_void_approval_may_decide_again_and_nobody_else_may_twice() -> None:
    for earlier, rules in ((given(), ASKING), (given(void=WITHOUT_CODE), RULES)):
        for choice in Choice:
            assert decide(OFFERED, [earlier], ADA, choice, rules, NOW).allowed
    for earlier, rules in ((given(factor=True), ASKING), (given(), RULES), (given(choice=Choice.DENY), ASKING)):
        assert decide(OFFERED, [earlier], ADA, Choice.APPROVE, rules, NOW).reason is Reason.ALREADY_DECIDED


def test_a_glass_that_was_broken_without_a_code_is_whole_again() -> None:
    rules = asking(RiskClass.DESTRUCTIVE, break_glass=("operators",))
    assert standing(OFFERED, [given(break_glass=True, factor=True)], rules).broken_by == "ada"
    found = standing(OFFERED, [given(break_glass=True)], rules)
    assert (found.satisfied, found.broken_by, found.given) == (False, None, 0)
    assert decide(OFFERED, [given(break_glass=True)], ADA, Choice.APPROVE, rules, NOW, break_glass=True).allowed


def test_the_last_of_those_that_hold_is_needed_so_its_approver_is_not_told_that_it_is_covered() -> None:
    told = explain(OFFERED, [given()], person("ada", "operators"), ASKING, NOW)
    assert told.decision.allowed
    other = person("cy", "operators")
    assert decide(OFFERED, [given(factor=True)], other, Choice.APPROVE, ASKING, NOW).reason is Reason.NOT_NEEDED
    without = decide(OFFERED, [given()], other, Choice.APPROVE, ASKING, NOW)
    assert without.reason is Reason.NO_FACTOR, (
        "the group is missing again, and it is only the secret that this one lacks"
    )


def test_right_before_the_write_it_is_said_whose_approval_does_not_count_and_why() -> None:
    both = [given(), approval(OFFERED, BO).model_copy(update={"factor": True})]
    assert still_valid(OFFERED, both, [ADA, BO], RULES, NOW).allowed
    found = still_valid(OFFERED, both, [ADA, BO], ASKING, NOW)
    assert found.reason is Reason.NOT_AN_APPROVER
    ada, bo = (
        f"That of {one} was given without a code of a second factor, which policy asks for now."
        for one in ("ada", "bo")
    )
    assert found.sentence == f"1 of 2 approvals are still valid; missing: operators. {ada}"
    neither = still_valid(OFFERED, [given(), approval(OFFERED, BO)], [ADA, BO], ASKING, NOW)
    assert neither.sentence == f"0 of 2 approvals are still valid; missing: operators, owners. {ada} {bo}"
