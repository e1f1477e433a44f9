"""An explanation is the decision with all its reasons, in the order asked."""

from __future__ import annotations

from bot.model import Choice, RiskClass
from bot.policy import Reason, decide, explain
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal


def test_an_explanation_of_a_yes_has_a_sentence_for_every_question() -> None:
    p = proposal()
    found = explain(p, [], person("ada", "operators"), RULES, NOW)
    assert found.decision.allowed
    assert len(found.reasons) == 11
    assert all(one.decision.allowed and one.decision.sentence for one in found.reasons)
    assert (found.standing.given, found.standing.needed) == (0, 2)


def test_the_questions_are_asked_in_the_order_of_trust() -> None:
    assert [one.asks for one in explain(proposal(), [], person("ada"), RULES, NOW).reasons] == [
        "An active human member of the home workspace asks",
        "The risk class has approvers",
        "The person is in one of their groups",
        "There is something to run",
        "The proposal is pending",
        "It has not expired",
        "The person has not decided yet",
        "Nobody approves their own request",
        "The approval covers a group that is missing",
        "The person has a second factor where one is asked for",
        "A change window is open",
    ]


def test_the_first_no_is_the_decision_and_the_later_ones_are_told_as_well() -> None:
    p = proposal(RiskClass.LOW, requested_by="ada")
    ada = person("ada", "readers")
    found = explain(p, [], ada, RULES, p.expires_at)
    assert found.decision == decide(p, [], ada, Choice.APPROVE, RULES, p.expires_at)
    refused = [one.decision.reason for one in found.reasons if not one.decision.allowed]
    assert refused == [Reason.NOT_AN_APPROVER, Reason.EXPIRED, Reason.OWN_REQUEST, Reason.NOT_NEEDED]


def test_a_denial_is_explained_as_a_denial() -> None:
    p = proposal(RiskClass.LOW, requested_by="ada")
    ada = person("ada", "operators")
    assert explain(p, [], ada, RULES, NOW).decision.reason is Reason.OWN_REQUEST
    assert explain(p, [], ada, RULES, NOW, choice=Choice.DENY).decision.allowed


def test_the_standing_counts_what_is_recorded() -> None:
    p = proposal()
    ada, bo = person("ada", "operators"), person("bo", "owners")
    found = explain(p, [approval(p, ada)], bo, RULES, NOW)
    assert (found.standing.given, found.standing.missing) == (1, ("owners",))
