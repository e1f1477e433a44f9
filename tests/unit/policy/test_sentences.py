"""What people are told, word for word: a refusal names what was observed and whom to ask."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.model import Choice, Person, Proposal, ProposalState, RiskClass, Subject
from bot.policy import Decision, Reason, explain, may_freeze, may_lift, may_withdraw, still_valid
from bot.settings import PolicySettings, WindowSettings
from bot.settings.policy import FactorSettings
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal

SHUT = RULES.model_copy(update={"change_windows": (WindowSettings(hours="09:00-17:00", zone="UTC"),)})
KEPT = RULES.model_copy(update={"break_glass": ("owners",)})
NOTE = "Slack is down, so only explicit ids count."


def said(offered: Proposal, who: Person, rules: PolicySettings, **more: object) -> list[str]:
    found = explain(offered, [], who, rules, NOW, **more)  # pyright: ignore[reportArgumentType]
    return [one.decision.sentence for one in found.reasons]


def test_a_yes_says_why_to_every_question() -> None:
    assert said(proposal(requested_by="cy"), person("ada", "operators", "owners"), RULES) == [
        "ada is an active member.",
        "destructive changes need one approval each of operators, owners.",
        "In operators, owners.",
        "It would run 1 stages.",
        "It waits for a decision.",
        "It expires at 03:10:00 UTC.",
        "Not decided yet by this person.",
        "Asked for by cy.",
        "A group is still missing that this person is in.",
        "No code is asked for.",
        "Changes are allowed at any time.",
    ]


def test_a_no_says_what_is_wrong_and_whom_to_ask() -> None:
    offered = proposal(state=ProposalState.DENIED, requested_by="ada", guidance_only=True)
    late = offered.model_copy(update={"expires_at": NOW, "state_reason": "Denied by bo: no"})
    who = person("ada", note=NOTE)
    found = explain(late, [approval(late, who)], who, SHUT, NOW)
    assert [one.decision.sentence for one in found.reasons] == [
        "ada is an active member.",
        "destructive changes need one approval each of operators, owners.",
        f"You are in none of the groups that decide on destructive changes: operators, owners. {NOTE}",
        "This is guidance for people; there is nothing natsmedic would run.",
        "This proposal is denied: Denied by bo: no",
        "This proposal expired at 03:00:00 UTC.",
        "You have already decided on this proposal; one person, one decision.",
        "You asked for this change, so someone else must approve it.",
        "Your groups are covered already; still missing: operators, owners.",
        "No code is asked for.",
        "Changes are allowed only every day 09:00-17:00 UTC: the next window opens Sat 2026-11-21 09:00 UTC.",
    ]


def test_where_nobody_may_approve_the_setting_is_named() -> None:
    told = said(proposal(RiskClass.LOW, ProposalState.EXPIRED), person("ada"), PolicySettings())
    assert told[1] == "Nobody may approve low changes: `policy.approvers.low` names no groups."
    assert told[2] == "You are in none of the groups that decide on low changes: none."
    assert told[4] == "This proposal is expired: nothing can be decided any more"


def test_who_has_no_second_factor_hears_how_to_get_one_and_may_still_deny() -> None:
    secrets = {"ada": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}
    asking = RULES.model_copy(update={"second_factor": FactorSettings.model_validate({"secrets": secrets})})
    assert (
        said(proposal(), person("ada", "operators"), asking)[9]
        == "The settings have a secret for the person's authenticator."
    )
    cy = person("cy", "operators")
    refused = explain(proposal(), [], cy, asking, NOW).decision
    assert refused.reason is Reason.NO_FACTOR
    assert refused.sentence == (
        "`policy.second_factor.secrets` has none for cy, so nothing that asks for a code can be approved. "
        "`natsmedic policy enrol` makes one."
    )
    assert explain(proposal(), [], cy, asking, NOW, choice=Choice.DENY).decision.allowed
    assert explain(proposal(RiskClass.LOW), [], cy, asking, NOW).decision.allowed


def test_a_denial_needs_no_window_and_no_group_that_is_missing() -> None:
    told = said(proposal(), person("ada", "operators"), SHUT, choice=Choice.DENY)
    assert told[7:] == [
        "Asked for by natsmedic.",
        "A denial needs no group that is missing.",
        "No code is asked for.",
        "None is open before Sat 2026-11-21 09:00 UTC, and none is needed for this.",
    ]
    always = RULES.model_copy(update={"change_windows": (WindowSettings(zone="UTC"),)})
    assert said(proposal(), person("ada", "operators"), always)[-1] == "It is open."
    twice = RULES.model_copy(update={"change_windows": SHUT.change_windows * 2})
    assert (
        "only every day 09:00-17:00 UTC; every day 09:00-17:00 UTC: the" in said(proposal(), person("ada"), twice)[-1]
    )


@pytest.mark.parametrize(
    ("rules", "groups", "refusal"),
    [
        (KEPT, "operators", "You may not break the glass: only people of owners may."),
        (
            KEPT.model_copy(update={"break_glass": ("owners", "x")}),
            "operators",
            "You may not break the glass: only people of owners, x may.",
        ),
        (RULES, "owners", "You may not break the glass: `policy.break_glass` names no groups."),
    ],
)
def test_who_may_break_the_glass_is_named(rules: PolicySettings, groups: str, refusal: str) -> None:
    told = said(proposal(), person("ada", groups, note=NOTE), rules, break_glass=True)
    assert told[2] == f"{refusal} {NOTE}"


def test_breaking_the_glass_says_what_it_stands_for() -> None:
    told = said(proposal(), person("ada", "owners"), KEPT, break_glass=True)
    assert (told[2], told[6], told[8]) == (
        "In owners.",
        "Not decided yet by this person, or only approved.",
        "Breaking the glass stands for the approvals that are missing.",
    )
    offered = proposal()
    found = explain(
        offered, [approval(offered, person("bo", "operators"))], person("ada", "owners"), KEPT, NOW, break_glass=True
    )
    assert found.decision.sentence == "Your approval is the last that is needed, so there is no glass to break."


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"problem": "x"}, "It could not be confirmed who you are (x), so nothing was decided."),
        ({"home_workspace": False}, "Only members of this workspace decide here."),
        ({"human": False}, "Only people decide here; this account is a bot."),
        ({"active": False}, "This account is deactivated."),
        ({"guest": True}, "Guests do not decide here."),
    ],
)
def test_a_stranger_is_told_what_is_missing(flags: dict[str, object], sentence: str) -> None:
    assert may_freeze(person("ada", "owners", **flags), RULES).sentence == sentence


def test_who_may_not_freeze_or_lift_is_told_who_may() -> None:
    who = person("ada", note=NOTE)
    none = "You are in none of the groups of which one"
    assert may_freeze(who, RULES).sentence == f"{none} stops changes: operators, owners. {NOTE}"
    assert may_lift(who, RULES).sentence == f"{none} lets changes go on: operators, owners. {NOTE}"
    assert may_freeze(who, PolicySettings()).sentence == "Nobody stops changes: `policy.approvers` names no groups."


def told_on_withdrawal(offered: Proposal, who: Person, rules: PolicySettings) -> Decision:
    return may_withdraw(offered, who, rules, NOW)


def test_who_may_not_withdraw_is_told_who_may() -> None:
    who = person("ada", note=NOTE)
    only = "Only who asked for it or one of"
    assert told_on_withdrawal(proposal(), who, RULES).sentence == f"{only} operators, owners may withdraw this. {NOTE}"
    assert (
        told_on_withdrawal(proposal(), who, PolicySettings()).sentence == f"{only} no group may withdraw this. {NOTE}"
    )
    operator = person("bo", "operators")
    done = told_on_withdrawal(proposal(state=ProposalState.DONE), operator, RULES)
    assert done.sentence == "This proposal is done; nothing is left to withdraw."
    late = proposal().model_copy(update={"expires_at": NOW})
    assert told_on_withdrawal(late, operator, RULES).sentence == "This proposal expired at 03:00:00 UTC."


def test_what_no_longer_holds_right_before_the_write_is_told() -> None:
    offered = proposal(RiskClass.DESTRUCTIVE)
    ada, bo = person("ada", "operators"), person("bo", "owners")
    both = [approval(offered, ada), approval(offered, bo)]

    def now(people: list[Person], rules: PolicySettings = RULES, after: timedelta = timedelta(0)) -> str:
        return still_valid(offered, both, people, rules, NOW + after).sentence

    assert now([ada, bo]) == ""
    assert now([ada, person("bo")]) == "1 of 2 approvals are still valid; missing: owners."
    assert now([ada, person("bo", "owners", active=False)]) == "1 of 2 approvals are still valid; missing: owners."
    assert now([ada, bo], PolicySettings()) == "0 of 0 approvals are still valid; missing: all."
    assert (
        now([ada, bo], RULES, timedelta(minutes=10))
        == "The approval expired at 03:10:00 UTC before anything was written."
    )
    assert now([person("ada"), person("bo")]) == "0 of 2 approvals are still valid; missing: operators, owners."
    denied = still_valid(offered, [approval(offered, ada, Choice.DENY)], [ada], RULES, NOW)
    assert denied.sentence == "ada denied it."
    with pytest.raises(ValueError, match="zip"):
        still_valid(offered, both, [ada], RULES, NOW)


def test_another_stream_has_another_owner() -> None:
    subject = Subject(cluster="prod", account="APP", server="n1")
    rules = PolicySettings.model_validate(
        {
            "groups": {"a": {"users": ["U1"]}, "own": {"users": ["U2"]}},
            "approvers": {"medium": ["a"]},
            "data_owners": [{"group": "own", "streams": ["XXXX"]}],
        }
    )
    offered = proposal(RiskClass.MEDIUM).model_copy(update={"subject": subject})
    assert said(offered, person("ada", "a"), rules)[1] == "medium changes need one approval each of a."
