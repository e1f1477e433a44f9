"""Consumers that a change of replicas lost: what brings them back out of the copy, and when it is not offered."""

from typing import Any

import pytest

from bot.action import Draft
from bot.actions._stream_copy import StreamCopy, copy_of
from bot.actions.consumer_create import ConsumerCreate, CreateParams, Purpose
from bot.actions.consumer_rebuild import rescue
from bot.model import Snapshot
from bot.model.groups import config_digest
from tests.unit.actions.scaling_scene import ORDERS, Change, config, details, facts, grown, members
from tests.unit.snapshots import Raw


def copied(*changes: Change) -> StreamCopy:
    snapshot = grown(*changes)
    return copy_of("2026-11-27T11:00:00Z", dict(snapshot.streams(snapshot.rounds - 1)[ORDERS]), facts(snapshot, ORDERS))


def gone(*names: str) -> Change:
    def change(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            one["consumer_detail"] = [c for c in one.get("consumer_detail") or [] if c["name"] not in names]

    return change


def working(floor: int = 50, delivered: int = 60, ack_pending: int = 4, **fields: Any) -> Change:
    """`worker` stands there, everywhere; the stream holds 100 messages."""

    def change(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            one["state"] |= {"messages": 100, "first_seq": 1, "last_seq": 100}
        for one in members(raw, "ORDERS", "worker"):
            one["ack_floor"] = {"consumer_seq": floor, "stream_seq": floor}
            one["delivered"] = {"consumer_seq": delivered, "stream_seq": delivered}
            one |= {"num_ack_pending": ack_pending, "num_pending": 100 - delivered}
            one["config"] = {k: v for k, v in (one["config"] | fields).items() if v is not None}

    return change


def offered(copy: StreamCopy, *changes: Change) -> Draft:
    snapshot: Snapshot = grown(working(), *changes, gone("worker"))
    ((subject, draft),) = rescue(snapshot, ORDERS, copy)
    assert (subject.account, subject.stream, subject.consumer) == ("APP", "ORDERS", "worker")
    return draft


def created(draft: Draft) -> CreateParams:
    ((kind, raw),) = draft.stages
    assert kind == ConsumerCreate.kind
    return CreateParams.model_validate(raw)


def test_nothing_lost_is_nothing_offered() -> None:
    assert list(rescue(grown(working()), ORDERS, copied(working()))) == []


def test_a_consumer_that_is_gone_comes_back_with_its_whole_configuration_at_its_position() -> None:
    copy = copied(working())
    params = created(offered(copy))
    was = copy.consumers["worker"]
    assert params.purpose is Purpose.REPLACE
    assert (params.start, params.replaces_created) == (51, was.created)
    assert params.config == was.config | {"deliver_policy": "by_start_sequence", "opt_start_seq": 51}
    assert params.stream_config == config_digest(facts(grown(working()), ORDERS).state.config)
    assert params.at_least == 40 + 4


def test_at_most_what_came_since_the_copy_is_delivered_once_more() -> None:
    """(60 - 50) - 4 were acknowledged above the floor, and up to 100 - 60 since the copy."""
    assert created(offered(copied(working()))).repeated_acked == 6 + 40
    assert created(offered(copied(working(delivered=100, ack_pending=50, floor=50)))).repeated_acked == 0


def test_a_consumer_that_somebody_has_made_again_is_theirs() -> None:
    def anew(raw: Raw) -> None:
        for one in members(raw, "ORDERS", "worker"):
            one["created"] = "2026-11-27T11:30:00Z"

    assert list(rescue(grown(working(), anew), ORDERS, copied(working()))) == []


def test_an_ephemeral_is_left_to_its_client() -> None:
    assert list(rescue(grown(gone("ephemeral")), ORDERS, copied())) == []


def test_a_work_queue_consumer_takes_what_is_left() -> None:
    queue = config("ORDERS", retention="workqueue")
    alone = gone("in-memory", "up-to-here", "pushed", "pinned", "one-holder", "ephemeral")
    draft = offered(copied(working(), queue, alone), queue, alone)
    params = created(draft)
    assert (params.config["deliver_policy"], params.start, params.at_least, params.repeated_acked) == (
        "all",
        None,
        0,
        0,
    )


def test_what_an_interest_stream_lost_with_it_is_said() -> None:
    interest = config("ORDERS", retention="interest")
    draft = offered(copied(working(), interest), interest)
    assert created(draft).at_least == 0
    assert any("went with the consumer" in caution for caution in draft.cautions)


def silent(server: str) -> Change:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server and sample["endpoint"] == "JSZ":
                sample["data"], sample["unknown"] = None, {"reason": "timed_out", "detail": "silent"}

    return change


@pytest.mark.parametrize(
    ("change", "fields", "why"),
    [
        (silent("n2"), {}, "Server n2, a member of stream APP > ORDERS, does not answer."),
        (config("ORDERS"), {"metadata": {"app.kubernetes.io/managed-by": "x"}}, "owned by a controller"),
        (config("ORDERS"), {"deliver_policy": "last_per_subject"}, "last_per_subject"),
    ],
)
def test_what_would_break_again_is_told_with_the_configuration_at_hand(
    change: Change, fields: dict[str, Any], why: str
) -> None:
    draft = offered(copied(working(**fields)), change)
    assert draft.stages == ()
    assert draft.title.endswith(": not now")
    assert any(why in line for line in draft.guidance), draft.guidance
    assert any('"durable_name": "worker"' in line for line in draft.guidance)
    assert any("opt_start_seq 51" in line for line in draft.guidance)


def test_messages_that_are_lost_come_first_and_no_position_is_offered_meanwhile() -> None:
    def empty(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            one["state"] |= {"messages": 0, "first_seq": 0, "last_seq": 0}

    snapshot = grown(working(), empty, gone("worker"))
    (stream, first), (_, second) = rescue(snapshot, ORDERS, copied(working()))
    assert stream.consumer is None
    assert first.title == "Look for the messages of stream ORDERS"
    assert "went back from 100 to 0" in first.why
    assert second.stages == ()
    assert any("a position in it means nothing yet" in line for line in second.guidance)


def test_a_position_that_went_back_is_shown_and_left_to_people() -> None:
    ((subject, draft),) = rescue(grown(working(floor=0, delivered=0)), ORDERS, copied(working()))
    assert subject.consumer == "worker"
    assert draft.stages == ()
    assert "went back from ack floor 50, delivered 60 to ack floor 0, delivered 0" in draft.why
    assert any("sequence 51" in line for line in draft.guidance)


def test_without_a_leader_the_numbers_of_before_are_told() -> None:
    def leaderless(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            one["cluster"]["leader"] = ""

    ((_, draft),) = rescue(grown(leaderless), ORDERS, copied(working()))
    assert draft.title == "Bring a leader of stream ORDERS back"
    assert "with 100 messages up to 100" in draft.why
