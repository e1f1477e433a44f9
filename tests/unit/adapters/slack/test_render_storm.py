"""The message of a storm: a table within Slack's limits, inert whatever alerts are called, that says when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.adapters.slack.render import render
from bot.adapters.slack.wanted import OPTIONS, Case, Storm, WantedMessage
from bot.lab.slack.limits import BLOCKS_TEXT_SUM_MAX, block_text_length, check_message
from bot.model import STORM, IncidentId, IncidentState, StormLine, StormMember
from tests.unit.adapters.slack.slack_records import NOW, RULES, incident
from tests.unit.adapters.slack.test_render import CORPUS, assert_inert, buttons, flat, objects


def line(
    title: str = "Stuck", cluster: str = "prod", count: int = 7, *, firing: int = 5, page: bool = False
) -> StormLine:
    last = NOW + timedelta(seconds=30)
    return StormLine(cluster=cluster, title=title, count=count, firing=firing, page=page, first=NOW, last=last)


def member(number: int = 1, title: str = "Stuck", words: str = "stream=S1") -> StormMember:
    return StormMember(
        id=IncidentId(f"inc_m{number}"),
        storm=IncidentId("inc_1"),
        cluster="prod",
        title=title,
        words=words,
        page=False,
        own_thread=False,
        at=NOW,
    )


def shown(storm: Storm, state: IncidentState = IncidentState.OPEN) -> WantedMessage:
    stands = incident(state=state).model_copy(update={"source": STORM, "title": "Alert storm", "labels": {}})
    (only,) = render(Case(stands, storm=storm), RULES)
    return only


@pytest.mark.parametrize("words", CORPUS)
def test_a_storm_of_alerts_with_any_name_is_inert_and_within_slacks_limits(words: str) -> None:
    storm = Storm(
        tuple(line(f"{words}{n}", words, 10_000) for n in range(300)),
        tuple(member(n, words, words) for n in range(OPTIONS)),
    )
    wanted = shown(storm)
    check_message(list(wanted.blocks), [])
    assert block_text_length(list(wanted.blocks)) <= BLOCKS_TEXT_SUM_MAX
    assert_inert(wanted.blocks, wanted.text, set())


def test_the_table_has_one_line_for_each_kind_with_counts_and_times() -> None:
    words = flat(shown(Storm((line("Down", page=True), line("Slow", "", 1_234)))))
    head, down, slow = (row for row in words.split("\n") if row.strip())
    assert head.endswith("last")
    assert down.split() == ["‼", "prod", "Down", "7", "5", "03:00", "03:00"]
    assert slow.split()[:4] == ["(none)", "Slow", "1,234", "5"]
    assert "1,241 incidents of 2 kinds, 10 of them open now" in words


def test_one_cluster_needs_no_column_and_a_table_of_it_is_as_wide_as_a_phone() -> None:
    words = flat(shown(Storm((line("Down", page=True), line("ConsumerStuck", count=1_234)))))
    head, down, _ = (row for row in words.split("\n") if row.strip())
    assert "cluster" not in head.partition("UTC.")[2]
    assert down.split() == ["‼", "Down", "7", "5", "03:00", "03:00"]
    assert len(down) <= 45
    assert "2 kinds on cluster prod, 10 of them open now" in words


@pytest.mark.parametrize(("count", "told"), [(25, False), (26, True)])
def test_kinds_beyond_the_table_are_counted(count: int, told: bool) -> None:
    assert ("and 1 more kinds" in flat(shown(Storm(tuple(line(f"K{n}") for n in range(count)))))) is told


def test_each_incident_can_be_chosen_by_its_opaque_id() -> None:
    wanted = shown(Storm((line(),), (member(1), member(2, words=""))))
    (menu,) = [one for one in objects(list(wanted.blocks)) if one.get("type") == "static_select"]
    assert menu["action_id"] == "open_thread"
    assert [(one["value"], one["text"]["text"]) for one in menu["options"]] == [
        ("inc_m1", "Stuck · prod · stream=S1"),
        ("inc_m2", "Stuck · prod"),
    ]


def test_numbers_do_not_change_the_headline_so_that_they_may_wait() -> None:
    assert shown(Storm((line(count=1),))).text == shown(Storm((line(count=9),))).text


def test_a_storm_that_is_over_says_so_and_still_lets_incidents_be_opened() -> None:
    over = shown(Storm((line(),), (member(),)), IncidentState.CLOSED)
    assert over.text.startswith("⚫ Alert storm: The storm is over")
    assert buttons(over) == []
    assert "open_thread" in str(over.blocks)
    assert buttons(shown(Storm((line(),)))) == ["take"]
