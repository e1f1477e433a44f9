"""What recreation proposes and refuses, on recorded answers varied by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.actions.recreate import compose
from bot.errors import Refused
from bot.model import ConsumerKey, Snapshot
from tests.unit.snapshots import Raw, answers, both, config, consumers, position, recorded, retention, streams

KEY = ConsumerKey("APP", "ORDERS", "worker")
HEALTHY = "healthy_2.15.1"


def healthy(*changes: Callable[[Raw], None]) -> Snapshot:
    return recorded(HEALTHY, both(*changes))


def created(snapshot: Snapshot) -> dict[str, Any]:
    """The parameters of the stage that creates the consumer itself."""
    return next(
        p for kind, p in compose(snapshot, KEY).stages if kind == "consumer.create" and p["purpose"] == "replace"
    )


def refusal(snapshot: Snapshot) -> str:
    with pytest.raises(Refused) as refused:
        compose(snapshot, KEY)
    return str(refused.value)


def test_a_limits_consumer_starts_right_behind_the_floor_of_the_majoritys_leader() -> None:
    recreation = compose(recorded("split_room_2.11.11"), KEY)
    assert [kind for kind, _ in recreation.stages] == ["consumer.delete", "consumer.create"]
    assert recreation.facts.standing.leader == "n0"
    assert recreation.facts.standing.ghosts == {"n1"}
    params = recreation.stages[1][1]
    assert (params["start"], params["config"]["deliver_policy"], params["config"]["opt_start_seq"]) == (
        51,
        "by_start_sequence",
        51,
    )
    assert (params["repeated_acked"], params["repeated_unacked"], params["at_least"]) == (3, 7, 147)


def test_every_other_field_is_sent_as_it_was_read_unknown_ones_too() -> None:
    before = {"a_field_of_2099": {"x": [1]}, "ack_wait": 12345, "metadata": {"team": "a"}}
    sent = created(healthy(config(**before)))["config"]
    read = compose(healthy(config(**before)), KEY).facts.config
    assert {k: v for k, v in sent.items() if k not in {"deliver_policy", "opt_start_seq"}} == {
        k: v for k, v in read.items() if k != "deliver_policy"
    }


def test_a_start_time_gives_way_to_the_start_sequence() -> None:
    sent = created(healthy(config(deliver_policy="by_start_time", opt_start_time="2026-01-01T00:00:00Z")))["config"]
    assert "opt_start_time" not in sent
    assert sent["opt_start_seq"] == 51


def test_a_work_queue_consumer_delivers_all_that_is_left_and_repeats_nothing_acknowledged() -> None:
    params = created(healthy(retention("workqueue")))
    assert (
        params["config"]["deliver_policy"],
        params["start"],
        params["repeated_acked"],
        params["repeated_unacked"],
    ) == ("all", None, 0, 7)


def test_an_interest_consumer_gets_a_holder_before_it_is_deleted_and_until_it_is_back() -> None:
    stages = compose(healthy(retention("interest")), KEY).stages
    assert [(kind, p["consumer"]) for kind, p in stages] == [
        ("consumer.create", "worker-hold"),
        ("consumer.delete", "worker"),
        ("consumer.create", "worker"),
        ("consumer.delete", "worker-hold"),
    ]
    holder, gone, back, end = (p for _, p in stages)
    assert holder["config"]["opt_start_seq"] == 51
    assert gone["companion"] == {"name": "worker-hold", "mark": end["mark"], "other_than": None, "at_least": 147}
    assert back["companion"] == "worker-hold"
    assert (end["companion"]["name"], end["companion"]["other_than"]) == ("worker", gone["created"])


def test_a_consumer_without_acknowledgements_starts_behind_what_was_delivered() -> None:
    params = created(healthy(config(ack_policy="none"), position(floor=60, ack_pending=0)))
    assert (params["start"], params["repeated_acked"]) == (61, 0)


def test_acknowledge_all_repeats_only_what_waits_for_an_acknowledgement() -> None:
    params = created(healthy(config(ack_policy="all"), position(floor=50, delivered=60, ack_pending=10)))
    assert (params["start"], params["repeated_acked"], params["repeated_unacked"]) == (51, 0, 10)


def test_a_floor_of_0_keeps_the_original_policy() -> None:
    params = created(healthy(position(floor=0)))
    assert (params["start"], params["config"]["deliver_policy"], params["repeated_acked"]) == (None, "all", 53)


def test_an_untouched_consumer_with_deliver_new_starts_where_it_was_created_not_now() -> None:
    params = created(
        healthy(config(deliver_policy="new"), position(floor=0, delivered=20, delivered_consumer=0, ack_pending=0))
    )
    assert (params["config"]["deliver_policy"], params["start"]) == ("by_start_sequence", 21)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"durable_name": None}, "ephemeral"),
        ({"direct": True}, "mirror"),
        ({"sourcing": True}, "mirror"),
        ({"ack_policy": "flow_control"}, "mirror"),
        ({"description": "made by NACK"}, "NACK"),
        ({"metadata": {"app.kubernetes.io/managed-by": "x"}}, "app.kubernetes.io/managed-by"),
        ({"deliver_policy": "last_per_subject"}, "last_per_subject"),
    ],
)
def test_what_must_not_be_touched_is_refused(fields: Raw, why: str) -> None:
    assert why in refusal(healthy(config(**fields)))


def test_a_description_that_only_speaks_of_nacked_messages_is_nobodys_mark() -> None:
    assert compose(healthy(config(description="retries nacked messages")), KEY).stages


def test_an_mqtt_consumer_is_refused() -> None:
    def rename(raw: Raw) -> None:
        for stream in streams(raw):
            stream["name"] = "$MQTT_msgs"

    with pytest.raises(Refused, match="MQTT"):
        compose(recorded(HEALTHY, rename), ConsumerKey("APP", "$MQTT_msgs", "worker"))


def test_recreation_is_refused_while_a_member_has_no_room_for_a_raft_group() -> None:
    assert "n1 runs 6 Raft groups and its max_ha_assets is 5" in refusal(recorded("split_2.11.11"))


@pytest.mark.parametrize(("count", "refused"), [(5, False), (6, True)])
def test_the_limit_refuses_only_above_it(count: int, refused: bool) -> None:
    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n1"):
            jsz["ha_assets"] = count

    snapshot = recorded("split_2.11.11", change)
    if refused:
        assert "max_ha_assets" in refusal(snapshot)
    else:
        assert compose(snapshot, KEY).stages


def test_where_the_limit_cannot_be_read_a_probe_goes_first() -> None:
    stages = compose(recorded("split_2.10.26"), KEY).stages
    assert [(kind, p["consumer"]) for kind, p in stages][:2] == [
        ("consumer.create", "worker-probe"),
        ("consumer.delete", "worker-probe"),
    ]
    assert len(stages) == 4


def test_recreation_is_refused_while_a_member_is_silent() -> None:
    assert "n1, a member of stream APP > ORDERS, does not answer" in refusal(recorded("frozen_2.15.1"))


def test_recreation_is_refused_where_no_majority_names_a_leader() -> None:
    def change(raw: Raw) -> None:
        for consumer in consumers(raw, "n2"):
            consumer["cluster"]["leader"] = ""

    assert "has no leader that 2 of 3 members agree on: n0 names n0, n1 names n1, n2 names nobody" in refusal(
        recorded("split_room_2.11.11", change)
    )


def test_a_rival_on_the_same_subjects_of_a_work_queue_is_named() -> None:
    def change(raw: Raw) -> None:
        for stream in streams(raw):
            rival = stream["consumer_detail"][0] | {"name": "rival"}
            stream["consumer_detail"].append(rival)

    assert "Consumer rival takes the same subjects" in refusal(healthy(retention("workqueue"), change))


def test_acknowledged_messages_that_limits_removed_are_not_counted_as_repeated() -> None:
    def change(raw: Raw) -> None:
        for stream in streams(raw):
            stream["state"] |= {"first_seq": 58, "messages": 143}

    assert (
        created(healthy(change, position(ack_pending=1)))["repeated_acked"] == 2
    )  # 58..60 less the one that waits for its ack
