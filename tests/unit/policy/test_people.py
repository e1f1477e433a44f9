"""What a person may do besides deciding: run, freeze, lift, withdraw."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.model import Person, ProposalState, RiskClass
from bot.policy import Reason, approver_groups, may_freeze, may_lift, may_run, may_withdraw
from bot.settings import ClusterPolicy, GroupSettings, OwnerSettings, PolicySettings
from tests.unit.policy.matters import NOW, RULES, person, proposal

STRANGERS = (
    ({"problem": "Slack did not answer"}, Reason.LOOKUP_FAILED),
    ({"home_workspace": False}, Reason.FOREIGN_WORKSPACE),
    ({"human": False}, Reason.NOT_HUMAN),
    ({"active": False}, Reason.INACTIVE),
    ({"guest": True}, Reason.GUEST),
)


@pytest.mark.parametrize(("flags", "reason"), STRANGERS)
def test_who_is_no_active_human_member_may_do_nothing(flags: dict[str, object], reason: Reason) -> None:
    who = person("x", "operators", "owners", **flags)
    pending = proposal(RiskClass.LOW, requested_by="x")
    assert may_run(who, RULES).reason is reason
    assert may_freeze(who, RULES).reason is reason
    assert may_lift(who, RULES).reason is reason
    assert may_withdraw(pending, who, RULES, NOW).reason is reason


def test_every_member_may_run_and_only_an_approver_may_freeze_and_lift() -> None:
    member, owner = person("m"), person("o", "owners")
    assert may_run(member, RULES).allowed
    for may in (may_freeze, may_lift):
        assert may(member, RULES).reason is Reason.NOT_AN_APPROVER
        assert "operators, owners" in may(member, RULES).sentence
        assert may(owner, RULES).allowed


def test_without_any_approver_group_nobody_may_freeze() -> None:
    everyone = person("x", "operators", "owners")
    assert may_freeze(everyone, PolicySettings()).reason is Reason.NOBODY
    assert may_lift(everyone, PolicySettings()).reason is Reason.NOBODY


def test_the_groups_of_a_cluster_and_of_owners_are_approver_groups() -> None:
    groups = {name: GroupSettings(users=("U1",)) for name in ("a", "c", "d", "idle")}
    rules = PolicySettings(
        groups=groups,
        approvers={RiskClass.LOW: ("a",)},
        data_owners=(OwnerSettings(group="c"),),
        clusters={"prod": ClusterPolicy(approvers={RiskClass.LOW: ("d",)})},
    )
    assert approver_groups(rules) == {"a", "c", "d"}


@pytest.mark.parametrize(
    ("who", "allowed"),
    [(person("asker"), True), (person("o", "operators"), True), (person("d", "owners"), False), (person("x"), False)],
)
def test_who_asked_and_any_approver_may_withdraw_a_low_proposal(who: Person, *, allowed: bool) -> None:
    found = may_withdraw(proposal(RiskClass.LOW, requested_by="asker"), who, RULES, NOW)
    assert found.allowed is allowed
    assert allowed or found.reason is Reason.NOT_AN_APPROVER


@pytest.mark.parametrize("state", list(ProposalState))
def test_only_what_still_waits_can_be_withdrawn(state: ProposalState) -> None:
    found = may_withdraw(proposal(RiskClass.LOW, state=state), person("o", "operators"), RULES, NOW)
    waits = state in {ProposalState.PROPOSED, ProposalState.PENDING}
    assert found.reason is (Reason.ALLOWED if waits else Reason.NOT_PENDING)


def test_an_expired_proposal_is_not_withdrawn() -> None:
    p, who = proposal(RiskClass.LOW), person("o", "operators")
    assert may_withdraw(p, who, RULES, p.expires_at - timedelta(seconds=1)).allowed
    assert may_withdraw(p, who, RULES, p.expires_at).reason is Reason.EXPIRED
