"""Who somebody in the terminal is: the person that the settings name for the OS user, with what Slack says of their accounts."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field

import pytest

from bot.adapters.terminal import TerminalDirectory, operator
from bot.model import TERMINAL, Person, SlackUser
from bot.policy import Reason, identity
from bot.settings import GroupSettings, PolicySettings
from tests.unit.policy.matters import NOW, person

RULES = PolicySettings(
    groups={
        "paid": GroupSettings(usergroups=("S1",)),
        "listed": GroupSettings(users=("U1", "U2")),
        "keyed": GroupSettings(persons=("ada",)),
    },
    persons={"ada": ("U1", "U2"), "bo": ()},
    terminal={"adal": "ada", "1000": "bo"},
)


class Clock:
    def now(self) -> object:
        return NOW


@dataclass
class Slack:
    """Answers with these persons; about everybody else it does not answer."""

    known: dict[str, Person] = field(default_factory=dict[str, Person])
    asked: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        self.asked.append((user.user_id, fresh))
        lost = person(user.user_id, problem="Slack is down", human=False, user=user)
        return self.known.get(user.user_id, lost).model_copy(update={"user": user})


def directory(slack: Slack, rules: PolicySettings = RULES) -> TerminalDirectory:
    return TerminalDirectory(rules, Clock(), slack)  # pyright: ignore[reportArgumentType]


def at(user: str) -> SlackUser:
    return SlackUser(team_id=TERMINAL, user_id=user)


def gone() -> Person:
    return person("ada", "paid", active=False)


async def test_an_os_user_that_no_one_has_named_is_nobody_and_slack_is_not_asked() -> None:
    slack = Slack()
    found = await directory(slack).look_up(at("root"))
    assert (found.key, found.groups, slack.asked) == ("terminal/root", frozenset(), [])
    decision = identity(found)
    assert decision.reason is Reason.LOOKUP_FAILED
    assert "`policy.terminal` names no person for the OS user root" in decision.sentence


async def test_groups_that_slack_tells_count_together_with_those_of_the_settings() -> None:
    slack = Slack({"U1": person("ada", "paid"), "U2": person("ada")})
    found = await directory(slack).look_up(at("adal"), fresh=True)
    assert (found.key, found.user, found.groups) == ("ada", at("adal"), {"paid", "listed", "keyed"})
    assert (found.note, slack.asked) == ("", [("U1", True), ("U2", True)])
    assert identity(found).allowed


async def test_while_slack_is_down_only_what_the_settings_say_counts_and_the_person_is_told() -> None:
    found = await directory(Slack()).look_up(at("adal"))
    assert identity(found).allowed
    assert found.groups == {"listed", "keyed"}
    assert found.note == (
        "Slack user groups could not be read (Slack is down), so of the groups only explicit ids, persons and rotas count here."
    )


async def test_a_person_without_a_slack_account_is_told_that_user_groups_do_not_count() -> None:
    found = await directory(Slack()).look_up(at("1000"))
    assert (found.key, found.groups) == ("bo", frozenset())
    assert "has no Slack user of this person" in found.note


async def test_where_no_group_comes_from_slack_there_is_nothing_to_tell() -> None:
    rules = RULES.model_copy(update={"groups": {"keyed": GroupSettings(persons=("ada",))}})
    assert (await directory(Slack(), rules).look_up(at("adal"))).note == ""


@pytest.mark.parametrize("second", [gone(), None], ids=["gone as well", "not answered"])
async def test_whoever_has_left_slack_decides_nothing_in_the_terminal(second: Person | None) -> None:
    known = {"U1": gone()} if second is None else {"U1": gone(), "U2": second}
    found = await directory(Slack(known)).look_up(at("adal"))
    assert identity(found).reason is Reason.INACTIVE


async def test_an_account_that_has_left_brings_no_group_while_another_one_may_decide() -> None:
    rules = RULES.model_copy(update={"groups": {**RULES.groups, "listed": GroupSettings(users=("U1",))}})
    slack = Slack({"U1": gone(), "U2": person("ada", "other")})
    found = await directory(slack, rules).look_up(at("adal"))
    assert (identity(found).allowed, found.groups) == (True, {"other", "keyed"})


async def test_people_of_slack_are_passed_on_as_they_are() -> None:
    slack = Slack({"U9": person("cy", "paid")})
    user = SlackUser(team_id="T1", user_id="U9")
    found = await directory(slack).look_up(user, fresh=True)
    assert (found.key, found.user, slack.asked) == ("cy", user, [("U9", True)])


@pytest.mark.parametrize(("name", "key"), [("ada", "ada"), ("U9", "cy"), ("adal", None), ("nobody", None)])
async def test_a_person_is_named_by_key_or_slack_id_and_never_by_os_user(name: str, key: str | None) -> None:
    found = await directory(Slack({"U9": person("cy", "paid")})).named(name)
    assert (found.key if found else None) == key


def test_the_operator_is_whoever_runs_the_process_whatever_its_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("USER", "ada")
    assert operator() == at(pwd.getpwuid(os.getuid()).pw_name)


def test_a_user_without_a_name_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert operator() == at("4000000000")
