"""What must be written to decide: a reason always, and the object's name for a destructive approval."""

from __future__ import annotations

import pytest

from bot.model import Choice, RiskClass, Subject
from bot.policy import Reason, check_form, typed_name
from tests.unit.policy.matters import proposal

SAY_WHY = "Say why; the reason is kept in the audit log."
WRONG = "That is not the name of the object this changes. Type it exactly."


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ({"stream": "ORDERS", "consumer": "worker", "server": "n1"}, "worker"),
        ({"stream": "ORDERS", "server": "n1"}, "ORDERS"),
        ({"server": "n1"}, "n1"),
        ({}, "prod"),
    ],
)
def test_the_narrowest_object_is_typed(named: dict[str, str], name: str) -> None:
    subject = Subject.model_validate({"cluster": "prod", "account": "APP"} | named)
    offered = proposal().model_copy(update={"subject": subject})
    assert typed_name(offered) == name
    assert check_form(offered, Choice.APPROVE, "why", f" {name} ") == {}
    assert check_form(offered, Choice.APPROVE, "why", "APP") == {"typed_name": (Reason.WRONG_NAME, WRONG)}


@pytest.mark.parametrize("risk", [RiskClass.LOW, RiskClass.MEDIUM])
def test_below_destructive_nothing_is_typed(risk: RiskClass) -> None:
    assert typed_name(proposal(risk)) is None
    assert check_form(proposal(risk), Choice.APPROVE, "why", "anything") == {}


@pytest.mark.parametrize("choice", list(Choice))
@pytest.mark.parametrize("reason", ["", "  \n"])
def test_without_a_reason_nothing_is_decided(choice: Choice, reason: str) -> None:
    assert check_form(proposal(), choice, reason, "worker") == {"reason": (Reason.NO_REASON, SAY_WHY)}


def test_a_denial_needs_no_name_and_an_empty_form_says_both() -> None:
    assert check_form(proposal(), Choice.DENY, "why", "") == {}
    both = check_form(proposal(), Choice.APPROVE, "", "")
    assert {field: reason.value for field, (reason, _) in both.items()} == {
        "reason": "no_reason",
        "typed_name": "wrong_typed_name",
    }
