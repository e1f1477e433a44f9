"""What a person may approve per cluster and risk class, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.flow.rights import Rights, rights, standing_of
from bot.model import Freeze, FreezeId, Person, RiskClass, SlackUser
from bot.settings import PolicySettings

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
"""A Friday."""
LOW, MEDIUM, DESTRUCTIVE = RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE
EVERYWHERE = {"low": ["operators"], "medium": ["operators"], "destructive": ["operators", "owners"]}


def policy(**more: object) -> PolicySettings:
    groups = {name: {"users": ["U0ADA"]} for name in ("operators", "owners", "billing")}
    return PolicySettings.model_validate({"groups": groups, "approvers": EVERYWHERE} | more)


def person(*groups: str, **more: object) -> Person:
    known: dict[str, object] = {
        "user": SlackUser(team_id="T0LAB", user_id="U0ADA"),
        "key": "ada",
        "human": True,
        "active": True,
        "guest": False,
        "home_workspace": True,
        "groups": frozenset(groups),
        "looked_up_at": NOW,
    }
    return Person.model_validate(known | more)


def on_prod(who: Person, rules: PolicySettings, *freezes: Freeze) -> Rights:
    (found,) = rights(who, rules, ["prod"], freezes, NOW)
    return found


def said(held: Rights, risk: RiskClass) -> str:
    return next(one.sentence for one in held.rights if one.risk is risk)


def test_a_member_of_one_group_may_approve_what_it_decides_on_and_hears_who_else_must() -> None:
    held = on_prod(person("operators"), policy())
    assert held.allowed == (LOW, MEDIUM, DESTRUCTIVE)
    assert said(held, LOW) == "yes, as one of operators."
    assert "one approval each of operators, owners, by different people" in said(held, DESTRUCTIVE)


def test_a_member_of_another_group_hears_which_groups_decide() -> None:
    held = on_prod(person("owners"), policy())
    assert held.allowed == (DESTRUCTIVE,)
    assert "none of the groups that decide on low changes: operators" in said(held, LOW)
    assert held.summary == "On prod you may approve: destructive."


@pytest.mark.parametrize("cleared", ["low", "medium", "destructive"])
def test_a_risk_class_without_groups_is_nobodys(cleared: str) -> None:
    held = on_prod(person("operators", "owners"), policy(approvers=EVERYWHERE | {cleared: list[str]()}))
    assert RiskClass(cleared) not in held.allowed
    assert f"Nobody may approve {cleared} changes" in said(held, RiskClass(cleared))


@pytest.mark.parametrize(
    "flaw", [{"guest": True}, {"active": False}, {"human": False}, {"home_workspace": False}, {"problem": "no answer"}]
)
def test_who_is_no_active_member_may_approve_nothing_whatever_groups_say(flaw: dict[str, object]) -> None:
    who = person("operators", "owners", **flaw)
    assert on_prod(who, policy()).allowed == ()
    assert not standing_of(who, policy(), NOW).startswith("In ")


def test_an_override_of_a_cluster_counts_there_alone_and_equal_clusters_are_told_together() -> None:
    rules = policy(clusters={"prod": {"approvers": {"low": ["owners"]}}})
    held = rights(person("operators"), rules, ["prod", "test", "stage"], (), NOW)
    assert [(one.clusters, one.allowed) for one in held] == [
        (("prod",), (MEDIUM, DESTRUCTIVE)),
        (("test", "stage"), (LOW, MEDIUM, DESTRUCTIVE)),
    ]


@pytest.mark.parametrize(("hours", "open_"), [("11:00-12:00", False), ("12:00-13:00", True), ("11:00-12:01", True)])
def test_outside_of_the_change_windows_nothing_may_be_approved_and_the_next_one_is_named(
    hours: str, open_: bool
) -> None:
    held = on_prod(person("operators"), policy(change_windows=[{"hours": hours, "zone": "UTC"}]))
    assert (held.allowed != ()) is open_
    assert ("the next window opens Sat 2026-11-28 11:00 UTC" in said(held, LOW)) is not open_


def test_owners_of_data_are_named_and_told_that_they_are() -> None:
    rules = policy(data_owners=[{"group": "billing", "account": "APP", "streams": ["ORDERS*"]}])
    note = "A medium change of streams ORDERS* of account APP takes an approval of billing as well."
    assert on_prod(person("operators"), rules).notes == (note,)
    assert on_prod(person("billing"), rules).notes == (f"{note} You are one of them.",)


def test_an_owner_of_all_data_is_needed_for_every_medium_change() -> None:
    held = on_prod(person("billing"), policy(data_owners=[{"group": "billing"}]))
    assert held.allowed == (MEDIUM,)
    assert "one approval each of operators, billing" in said(held, MEDIUM)


def test_who_may_be_called_when_nobody_decides_is_told_so_and_nobody_else() -> None:
    rules = policy(escalation={"medium": ["billing"]})
    note = "When nobody decides on a medium change in time, billing is called and may approve in place of one group."
    assert on_prod(person("billing"), rules).notes == (note,)
    assert on_prod(person("operators"), rules).notes == ()


def test_who_lacks_the_second_factor_is_told_that_it_takes_one() -> None:
    secrets = {"grace": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}
    rules = policy(persons={"grace": list[str]()}, second_factor={"secrets": secrets})
    held = on_prod(person("operators"), rules)
    assert held.allowed == (LOW, MEDIUM)
    assert "`policy.second_factor.secrets` has none for ada" in said(held, DESTRUCTIVE)
    assert on_prod(person("operators", key="grace"), rules).allowed == (LOW, MEDIUM, DESTRUCTIVE)


@pytest.mark.parametrize(("where", "told"), [(None, True), ("prod", True), ("test", False)])
def test_a_freeze_is_told_where_it_holds(where: str | None, told: bool) -> None:
    freeze = Freeze(id=FreezeId("frz_1"), cluster=where, reason="release", person="grace", at=NOW)
    assert bool(on_prod(person("operators"), policy(), freeze).notes) is told


@pytest.mark.parametrize(("until", "told"), [(timedelta(seconds=1), True), (timedelta(), False)])
def test_a_freeze_that_is_over_is_not_told(until: timedelta, told: bool) -> None:
    freeze = Freeze(id=FreezeId("frz_1"), reason="release", person="grace", at=NOW, until=NOW + until)
    assert bool(on_prod(person("operators"), policy(), freeze).notes) is told


def rota(first: str) -> PolicySettings:
    turn = {"persons": ["ada", "grace"], "first": first, "days": 7, "zone": "UTC"}
    return PolicySettings.model_validate(
        {
            "groups": {"operators": {"on_call": turn}, "owners": {"users": ["U0X"]}},
            "persons": {"ada": ["U0ADA"], "grace": ["U0GRACE"]},
            "approvers": {"low": ["operators"]},
        }
    )


def test_who_is_on_call_hears_that_the_group_is_theirs_by_turn_and_who_is_not_that_it_is_not() -> None:
    assert standing_of(person("operators"), rota("2026-11-27 12:00"), NOW) == "In operators (on call)."
    off = standing_of(person(), rota("2026-11-20 12:00"), NOW)
    assert off == "In no policy group. Your turn in operators is not now."
