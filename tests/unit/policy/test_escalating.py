"""Who is called when nobody decides, when, and what an approval of theirs is worth."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.model import Choice, Escalation, Proposal, RiskClass
from bot.policy import Reason, decide, escalates_at, explain, next_call, standing, still_valid
from bot.settings import PolicySettings
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal

MINUTE = timedelta(minutes=1)
BOTH = ("operators", "owners")
GROUPS = {name: {"users": ["U1"]} for name in (*BOTH, "leads", "heads")}


def calling(*names: str, share: float = 0.75) -> PolicySettings:
    return PolicySettings.model_validate(
        {
            "groups": GROUPS,
            "approvers": {"low": ["operators"], "destructive": BOTH},
            "escalation": {"low": names, "destructive": names},
            "escalation_share": share,
        }
    )


def reminded(risk: RiskClass = RiskClass.DESTRUCTIVE, *, after: timedelta = 5 * MINUTE) -> Proposal:
    return proposal(risk).model_copy(update={"reminded_at": NOW + after})


def called(of: Proposal, *calls: tuple[str, str], at: timedelta = 8 * MINUTE) -> Proposal:
    made = tuple(Escalation(group=group, stands_for=place, at=NOW + at) for group, place in calls)
    return of.model_copy(update={"escalations": made})


def test_the_next_group_is_called_exactly_at_its_share_of_the_time() -> None:
    due = NOW + 7.5 * MINUTE
    before = next_call(reminded(), BOTH, BOTH, calling("leads"), due - timedelta(microseconds=1))
    assert before is None
    call = next_call(reminded(), BOTH, BOTH, calling("leads"), due)
    assert call == Escalation(group="leads", stands_for="operators", at=due)


def test_a_call_keeps_its_distance_from_a_late_reminder_and_a_late_call() -> None:
    rules = calling("leads", "heads")
    assert escalates_at(reminded(after=9 * MINUTE), BOTH, rules) == NOW + 10.25 * MINUTE
    late = called(reminded(), ("leads", "operators"), at=9.5 * MINUTE)
    assert escalates_at(late, BOTH, rules) == NOW + 10.75 * MINUTE
    assert next_call(late, BOTH, BOTH, rules, NOW + 10.75 * MINUTE) is None  # it has expired


def test_a_call_waits_for_its_share_of_the_time_however_early_the_one_before_was() -> None:
    early = called(reminded(), ("leads", "operators"), at=6 * MINUTE)
    assert escalates_at(early, BOTH, calling("leads", "heads")) == NOW + 8.75 * MINUTE


def test_after_a_late_reminder_a_call_waits_as_long_as_between_the_two_shares_and_no_longer() -> None:
    assert escalates_at(reminded(after=8 * MINUTE), BOTH, calling("leads", share=0.6)) == NOW + 9 * MINUTE


def test_nobody_is_called_in_the_very_moment_of_the_end() -> None:
    late = reminded(after=7 * MINUTE)
    assert next_call(late, BOTH, BOTH, calling("leads"), late.expires_at - timedelta(microseconds=1)) is not None
    assert next_call(late, BOTH, BOTH, calling("leads"), late.expires_at) is None


def test_a_cluster_calls_its_own_groups() -> None:
    rules = PolicySettings.model_validate(
        calling("leads").model_dump() | {"clusters": {"prod": {"escalation": {"destructive": ["heads"]}}}}
    )
    call = next_call(reminded(), BOTH, BOTH, rules, NOW + 8 * MINUTE)
    assert call is not None
    assert call.group == "heads"


def test_nobody_is_called_before_the_reminder_without_settings_or_when_nobody_is_left() -> None:
    assert escalates_at(proposal(), BOTH, calling("leads")) is None
    assert escalates_at(reminded(), BOTH, RULES) is None
    assert escalates_at(called(reminded(), ("leads", "operators")), BOTH, calling("leads")) is None
    assert escalates_at(reminded(), ("leads", "owners"), calling("leads")) is None
    assert escalates_at(reminded().model_copy(update={"stages": ()}), BOTH, calling("leads")) is None


def test_the_second_group_stands_in_for_the_group_that_has_no_stand_in_yet() -> None:
    once = called(reminded(), ("leads", "operators"))
    call = next_call(once, BOTH, BOTH, calling("leads", "heads"), NOW + 9.5 * MINUTE)
    assert call is not None
    assert (call.group, call.stands_for) == ("heads", "owners")


def test_whoever_is_called_counts_from_then_on_and_the_reasons_say_for_whom() -> None:
    low, rules, lea = called(reminded(RiskClass.LOW), ("leads", "operators")), calling("leads"), person("lea", "leads")
    at = NOW + 8 * MINUTE
    assert decide(low, (), lea, Choice.APPROVE, rules, at - timedelta(microseconds=1)).reason is Reason.NOT_AN_APPROVER
    told = explain(low, (), lea, rules, at)
    assert told.decision.allowed
    assert any("stands in for operators" in one.decision.sentence for one in told.reasons)
    given = approval(low, lea).model_copy(update={"at": at})
    assert standing(low, [given], rules).satisfied
    assert still_valid(low, [given], [lea], rules, at).allowed


def test_who_is_called_in_place_of_two_hears_of_both() -> None:
    offered = called(reminded(), ("leads", "owners"), ("heads", "operators"))
    told = explain(offered, (), person("lea", "leads", "heads"), calling("leads", "heads"), NOW + 8 * MINUTE)
    said = "Called because nobody had decided, and stands in for operators, owners."
    assert said in [one.decision.sentence for one in told.reasons]


def test_whoever_has_left_the_group_or_is_called_no_more_by_the_settings_counts_no_more() -> None:
    low, lea = called(reminded(RiskClass.LOW), ("leads", "operators")), person("lea", "leads")
    at = NOW + 8 * MINUTE
    given = approval(low, lea).model_copy(update={"at": at})
    assert still_valid(low, [given], [person("lea")], calling("leads"), at).reason is Reason.NOT_AN_APPROVER
    assert still_valid(low, [given], [lea], calling(), at).reason is Reason.NOT_AN_APPROVER


def test_two_people_of_one_called_group_never_make_two_groups() -> None:
    offered, rules = called(reminded(), ("leads", "operators")), calling("leads")
    at = NOW + 8 * MINUTE
    given = [approval(offered, person(key, "leads")).model_copy(update={"at": at}) for key in ("lea", "leo")]
    found = standing(offered, given, rules)
    assert (found.satisfied, found.given, found.missing) == (False, 1, ("owners",))


@pytest.mark.parametrize(("share", "right"), [(0.5, False), (0.51, True), (0.99, True), (1.0, False)])
def test_the_share_lies_between_the_reminder_and_the_end(share: float, right: bool) -> None:
    if right:
        assert calling("leads", share=share).escalation_share == share
    else:
        with pytest.raises(ValueError, match="escalation_share"):
            calling("leads", share=share)
