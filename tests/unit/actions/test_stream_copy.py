"""What of a stream's copy reality no longer shows, at the exact number that makes it a loss."""

from typing import Any

import pytest

from bot.actions._stream_copy import keeps_everything, lost_messages, vanished, went_back
from tests.unit.actions.scaling_scene import (
    config,
    consumer,
    copied,
    facts,
    grown,
    members,
    placed,
    state,
    without,
)
from tests.unit.snapshots import Raw


@pytest.mark.parametrize(("last_seq", "lost"), [(40, False), (41, False), (39, True)])
def test_a_last_sequence_that_went_back_is_a_loss(last_seq: int, lost: bool) -> None:
    told = lost_messages(copied(), facts(grown(state(last_seq=last_seq))).state)
    assert told == ([f"Its last sequence went back from 40 to {last_seq}, its messages from 40 to 40."] if lost else [])


def test_a_first_sequence_that_went_back_is_a_loss() -> None:
    told = lost_messages(copied(state(first_seq=5)), facts(grown(state(first_seq=4))).state)
    assert told == ["Its first sequence went back from 5 to 4."]


def test_another_first_message_is_another_history_however_long_it_is() -> None:
    changed = facts(grown(state(first_ts="2026-11-27T00:00:00Z", last_seq=500, messages=500))).state
    (why,) = lost_messages(copied(), changed)
    assert why.endswith("this is another history.")


@pytest.mark.parametrize(("messages", "lost"), [(40, False), (39, True)])
def test_messages_that_no_limit_removes_may_not_get_fewer(messages: int, lost: bool) -> None:
    now = state(messages=messages, first_seq=2)
    assert bool(lost_messages(copied(), facts(grown(now)).state)) is lost
    assert lost_messages(copied(config(max_age=1)), facts(grown(config(max_age=1), now)).state) == []


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({}, True),
        ({"max_msgs": -1, "max_bytes": 0, "max_age": 0}, True),
        ({"max_msgs": 1}, False),
        ({"max_bytes": 1}, False),
        ({"max_age": 1}, False),
        ({"max_msgs_per_subject": 1}, False),
        ({"retention": "interest"}, False),
        ({"retention": "workqueue"}, False),
        ({"allow_msg_ttl": True}, False),
        ({"allow_rollup_hdrs": True}, False),
        ({"mirror": {"name": "X"}}, False),
    ],
)
def test_only_a_stream_without_any_limit_keeps_everything(fields: dict[str, Any], keeps: bool) -> None:
    assert keeps_everything({"retention": "limits"} | fields) is keeps


def test_a_durable_that_is_not_there_any_more_has_vanished() -> None:
    assert vanished(copied(), facts(grown(without("only", "alone")))) == ["alone", "only"]
    assert vanished(copied(), facts(grown())) == []


@pytest.mark.parametrize("fields", [{"durable_name": None}, {"inactive_threshold": 5}])
def test_a_consumer_that_goes_by_itself_has_not_vanished(fields: dict[str, Any]) -> None:
    assert vanished(copied(consumer(**fields)), facts(grown(without("only")))) == []


def test_another_consumer_of_the_same_name_is_no_consolation() -> None:
    def anew(raw: Raw) -> None:
        for one in members(raw, "SINGLE", "only"):
            one["created"] = "2026-11-27T11:00:00Z"

    assert vanished(copied(), facts(grown(anew))) == ["only"]
    assert went_back(copied(), facts(grown(anew))) == {}


@pytest.mark.parametrize(("floor", "delivered", "back"), [(40, 40, False), (39, 40, True), (40, 39, True)])
def test_a_position_that_went_back_is_named(floor: int, delivered: int, back: bool) -> None:
    told = went_back(copied(), facts(grown(placed(floor, delivered))))
    assert told == (
        {
            "only": f"only went back from ack floor 40, delivered 40 to ack floor {floor}, delivered {delivered}",
        }
        if back
        else {}
    )
