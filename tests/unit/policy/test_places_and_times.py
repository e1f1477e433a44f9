"""What differs by cluster, by the owner of the data and by the time of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.model import Choice, Proposal, RiskClass
from bot.policy import Reason, decide, explicit_groups, groups_for, opens_at, still_valid
from bot.settings import ClusterPolicy, Day, GroupSettings, OwnerSettings, PolicySettings, RotaSettings, WindowSettings
from tests.unit.policy.matters import NOW, RULES, approval, person, proposal

NIGHT = WindowSettings(days=(Day.SAT,), hours="22:00-02:00", zone="Europe/Berlin")
"""In November from 21:00 to 01:00 UTC; NOW is a Saturday, 03:00 UTC."""


def on_prod(change: ClusterPolicy) -> PolicySettings:
    return RULES.model_copy(update={"clusters": {"prod": change}})


def elsewhere(one: Proposal) -> Proposal:
    return one.model_copy(update={"cluster": "stage"})


def test_a_clusters_approvers_replace_those_of_one_risk_class_there_and_nowhere_else() -> None:
    rules = on_prod(ClusterPolicy(approvers={RiskClass.LOW: ("owners",)}))
    low, medium = proposal(RiskClass.LOW), proposal(RiskClass.MEDIUM)
    assert groups_for(low, rules) == ("owners",)
    assert groups_for(elsewhere(low), rules) == ("operators",)
    assert groups_for(medium, rules) == ("operators",)


def test_a_clusters_empty_list_means_nobody_there() -> None:
    rules = on_prod(ClusterPolicy(approvers={RiskClass.LOW: ()}))
    found = decide(proposal(RiskClass.LOW), [], person("o", "operators"), Choice.APPROVE, rules, NOW)
    assert found.reason is Reason.NOBODY


def test_a_clusters_expiry_replaces_that_of_one_risk_class() -> None:
    rules = on_prod(ClusterPolicy(expiry_seconds={RiskClass.LOW: 60}))
    assert rules.for_cluster("prod").expiry_seconds == {
        RiskClass.LOW: 60,
        RiskClass.MEDIUM: 900,
        RiskClass.DESTRUCTIVE: 600,
    }
    assert rules.for_cluster("stage").expiry_seconds[RiskClass.LOW] == 900


@pytest.mark.parametrize(
    ("owner", "needed"),
    [
        (OwnerSettings(group="owners"), ("operators", "owners")),
        (OwnerSettings(group="owners", account="APP", streams=("ORD*",)), ("operators", "owners")),
        (OwnerSettings(group="owners", account="OTHER"), ("operators",)),
        (OwnerSettings(group="owners", streams=("ord*", "X")), ("operators",)),
        (OwnerSettings(group="operators"), ("operators",)),
    ],
)
def test_a_medium_change_needs_the_owner_of_its_data_as_well(owner: OwnerSettings, needed: tuple[str, ...]) -> None:
    rules = RULES.model_copy(update={"data_owners": (owner,)})
    assert groups_for(proposal(RiskClass.MEDIUM), rules) == needed
    assert groups_for(proposal(RiskClass.LOW), rules) == ("operators",)


def test_an_owner_gives_no_authority_where_nobody_may_approve() -> None:
    rules = PolicySettings(groups=RULES.groups, data_owners=(OwnerSettings(group="owners"),))
    assert groups_for(proposal(RiskClass.MEDIUM), rules) == ()


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (datetime(2026, 11, 21, 20, 59, 59, tzinfo=UTC), datetime(2026, 11, 21, 21, tzinfo=UTC)),
        (datetime(2026, 11, 21, 21, tzinfo=UTC), None),
        (datetime(2026, 11, 22, 0, 59, 59, tzinfo=UTC), None),
        (datetime(2026, 11, 22, 1, tzinfo=UTC), datetime(2026, 11, 28, 21, tzinfo=UTC)),
        (datetime(2026, 6, 20, 20, tzinfo=UTC), None),
    ],
)
def test_a_window_is_the_wall_clock_of_its_zone_and_goes_on_after_midnight(now: datetime, opens: datetime) -> None:
    assert opens_at((NIGHT,), now) == opens


def test_the_day_is_that_of_the_zone() -> None:
    """Friday evening on the island is Saturday in UTC; the window began there on Thursday."""
    island = WindowSettings(days=(Day.THU,), hours="20:00-19:00", zone="Pacific/Pago_Pago")
    assert opens_at((island,), datetime(2026, 11, 21, 5, tzinfo=UTC)) is None


def test_outside_of_the_window_an_approval_is_refused_with_when_the_next_opens_and_a_denial_is_not() -> None:
    rules = on_prod(ClusterPolicy(change_windows=(NIGHT,)))
    low, who = proposal(RiskClass.LOW), person("o", "operators")
    found = decide(low, [], who, Choice.APPROVE, rules, NOW)
    assert found.reason is Reason.OUTSIDE_WINDOW
    assert "opens Sat 2026-11-21 21:00 UTC" in found.sentence
    assert decide(low, [], who, Choice.DENY, rules, NOW).allowed
    assert decide(elsewhere(low), [], who, Choice.APPROVE, rules, NOW).allowed


def test_nothing_starts_after_the_window_has_closed() -> None:
    rules = RULES.model_copy(update={"change_windows": (NIGHT,)})
    closes = datetime(2026, 11, 22, 1, tzinfo=UTC)
    low = proposal(RiskClass.LOW).model_copy(update={"expires_at": closes + timedelta(hours=1)})
    who = person("o", "operators")
    given = [approval(low, who)]
    assert still_valid(low, given, [who], rules, closes - timedelta(seconds=1)).allowed
    assert still_valid(low, given, [who], rules, closes).reason is Reason.OUTSIDE_WINDOW


def test_a_group_has_the_people_it_names_by_key_by_user_and_by_rota() -> None:
    rota = RotaSettings.model_validate(
        {"persons": ("ada", "bo"), "first": "2026-11-20 09:00", "days": 1, "zone": "UTC"}
    )
    rules = PolicySettings(
        persons={"ada": ("U1",), "bo": ("U2",), "eve": ("U3",)},
        groups={
            "key": GroupSettings(persons=("ada",)),
            "user": GroupSettings(users=("U1",)),
            "call": GroupSettings(on_call=rota),
        },
    )
    change = datetime(2026, 11, 21, 9, tzinfo=UTC)
    before = change - timedelta(seconds=1)
    assert explicit_groups(rules, "ada", frozenset({"U1"}), before) == {"key", "user", "call"}
    assert explicit_groups(rules, "ada", frozenset({"U1"}), change) == {"key", "user"}
    assert explicit_groups(rules, "bo", frozenset({"U2"}), change) == {"call"}
    assert explicit_groups(rules, "eve", frozenset({"U3"}), change) == frozenset()
    assert explicit_groups(rules, "ada", frozenset({"U1"}), datetime(2026, 11, 20, 8, 59, tzinfo=UTC)) == {
        "key",
        "user",
    }
