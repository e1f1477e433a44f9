"""What speaks against a change of replicas: each reason at its exact limit, and a healthy twin."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.actions._scale_facts import hindrances, no_way_down
from bot.actions.stream_scaling import MOST_STREAMS, compose_scaling, steps
from bot.errors import Refused
from bot.model import Snapshot, StreamKey
from tests.unit.actions.scaling_scene import (
    ORDERS,
    SINGLE,
    TIMES,
    Change,
    config,
    details,
    everywhere,
    facts,
    grown,
    members,
    stage,
    state,
)
from tests.unit.snapshots import Raw, answers

RECORDED = "2026-11-26T23:37:33.850168629Z"
"""When SINGLE's consumer `only` was created."""


def refusals(*changes: Change, **fields: Any) -> list[str]:
    """What speaks against SINGLE's first stage after these changes, composed before them."""
    snapshot = grown(*changes)
    return hindrances(snapshot, facts(snapshot), stage(**fields))


def test_a_healthy_stream_on_healthy_servers_may_be_scaled() -> None:
    assert refusals() == []


def test_servers_of_two_versions_are_refused() -> None:
    def upgraded(raw: Raw) -> None:
        raw["servers"][0]["version"] = "2.12.8"

    assert refusals(upgraded) == ["The servers run 2.11.11, 2.12.8: finish the upgrade first."]


def test_a_meta_member_that_is_not_current_is_refused() -> None:
    def behind(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n0"):
            jsz["meta_cluster"]["replicas"][0]["current"] = False

    (why,) = refusals(behind)
    assert why.startswith("The meta group is not whole: 2 of 3 members current (n1 not current")


def test_a_server_that_does_not_answer_is_refused() -> None:
    def silent(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == "n2" and sample["endpoint"] == "JSZ":
                sample["data"], sample["unknown"] = None, {"reason": "timed_out", "detail": "silent"}

    assert "n2 did not answer." in refusals(silent)


@pytest.mark.parametrize(
    ("fields", "owner"),
    [
        ({"metadata": {"app.kubernetes.io/managed-by": "Helm"}}, "app.kubernetes.io/managed-by"),
        ({"description": "kept by NACK"}, "NACK"),
    ],
)
def test_a_stream_that_a_controller_owns_is_refused(fields: dict[str, Any], owner: str) -> None:
    assert any(f"owned by a controller ({owner})" in why for why in refusals(config(**fields)))


@pytest.mark.parametrize(("second", "young"), [("48.001464208", True), ("48.001465", False), ("49", False)])
def test_servers_must_have_been_up_for_15_seconds(second: str, young: bool) -> None:
    """Clocks of servers have nanoseconds, ours microseconds: n0 started at 33.001464."""
    told = refusals(everywhere("VARZ", "n0", now=f"2026-11-26T23:37:{second}Z"), young=15.000001)
    assert [why for why in told if "Server n0 started" in why] == (
        ["Server n0 started 15 s ago, and replicas must not change within 15 s of a restart."] if young else []
    )


def test_a_server_that_does_not_say_when_it_started_is_refused() -> None:
    assert refusals(everywhere("VARZ", "n1", start=None)) == ["When server n1 started is not known."]


@pytest.mark.parametrize(
    ("now", "fresh"),
    [
        ("2026-11-26T23:37:48.850167Z", "only, paused, alone"),
        ("2026-11-26T23:37:48.850168Z", "paused, alone"),
        ("2026-11-26T23:37:48.850591Z", ""),
    ],
)
def test_consumers_must_be_15_seconds_old(now: str, fresh: str) -> None:
    told = [why for why in refusals(everywhere("JSZ", now=now)) if "was created" in why]
    assert sorted(told) == [
        f"When {', '.join(sorted(fresh.split(', ')))} of stream APP > SINGLE was created is less than 15 s ago, or not known: it must settle first."
        for _ in range(bool(fresh))
    ]


def test_a_young_consumer_that_stays_on_one_server_is_no_reason_to_wait() -> None:
    def single(raw: Raw) -> None:
        for one in details(raw):
            for consumer in one["consumer_detail"]:
                consumer["config"]["num_replicas"] = 1
                consumer["created"] = "2026-11-27T11:59:59Z"

    assert refusals(single) == []


@pytest.mark.parametrize(("limit", "refused"), [(19, False), (18, True)])
def test_every_server_needs_room_for_the_stream_and_its_consumers(limit: int, refused: bool) -> None:
    """16 Raft groups are there and 4 come: the last finds 19, and the server refuses above its limit only."""
    told = refusals(everywhere("JSZ", "n1", limits={"max_ha_assets": limit}))
    assert told == (
        [
            f"Server n1 runs 16 Raft groups and its max_ha_assets is {limit}: it has no room for the 4 that stream and consumers need."
        ]
        if refused
        else []
    )


def test_the_only_holder_needs_room_for_raft_groups_too() -> None:
    assert any("Server n0 runs 16" in why for why in refusals(everywhere("JSZ", "n0", limits={"max_ha_assets": 16})))


@pytest.mark.parametrize(("free", "refused"), [(2111, False), (2110, True)])
def test_every_server_needs_storage_for_what_the_stream_holds(free: int, refused: bool) -> None:
    told = refusals(everywhere("JSZ", "n2", config={"max_storage": 10_000_000 + free}))
    assert told == ([f"Server n2 has {free} bytes of storage left, the stream needs 2111."] if refused else [])


@pytest.mark.parametrize(("free", "refused"), [(5000, False), (4999, True)])
def test_what_a_stream_reserves_counts_where_it_is_more(free: int, refused: bool) -> None:
    told = refusals(config(max_bytes=5000), everywhere("JSZ", "n2", config={"max_storage": 10_000_000 + free}))
    assert any("the stream needs 5000" in why for why in told) is refused


def test_a_stream_in_memory_needs_memory() -> None:
    told = refusals(config(storage="memory"), everywhere("JSZ", "n2", config={"max_storage": 0, "max_memory": 2110}))
    assert "Server n2 has 2110 bytes of memory left, the stream needs 2111." in told


def test_storage_that_is_not_known_is_refused() -> None:
    assert refusals(everywhere("JSZ", "n2", config={"store_dir": "x"})) == [
        "How much storage server n2 has left is not known."
    ]


def test_a_server_that_complains_is_no_place_for_a_copy() -> None:
    sick = {"account": "APP", "stream": "ORDERS", "error": "stream not found"}
    told = refusals(everywhere("HEALTHZ", "n1", status="error", errors=[sick]))
    assert told == ["Server n1 is not well: stream not found."]


@pytest.mark.parametrize(("tags", "there"), [(["node:n1"], "1: n1"), (["NODE:N2"], "1: n2"), (["ssd"], "0")])
def test_only_servers_with_the_tags_of_the_stream_count(tags: list[str], there: str) -> None:
    told = refusals(config(placement={"tags": tags}), to=3)
    assert f"3 replicas need 2 more servers with the tags {', '.join(tags)}; there are {there}." in told


def test_servers_of_another_cluster_do_not_count() -> None:
    def elsewhere(raw: Raw) -> None:
        for server in raw["servers"][1:]:
            server["cluster"] = "other"

    assert refusals(elsewhere, to=3) == ["3 replicas need 2 more servers; there are 0."]


def test_a_stream_outside_of_the_cluster_is_refused() -> None:
    def outside(raw: Raw) -> None:
        for one in details(raw):
            del one["cluster"]

    assert "Stream APP > SINGLE is outside of the cluster on n0." in refusals(outside)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"to": 6}, "A stream has 1 to 5 replicas, not 6."),
        ({"to": 1}, "Stream APP > SINGLE has 1 replicas already."),
        ({"target": 2}, "2 replicas survive no more lost servers than 1."),
        ({"target": 4}, "4 replicas survive no more lost servers than 3."),
    ],
)
def test_counts_that_help_nobody_are_refused(fields: dict[str, int], why: str) -> None:
    assert why in refusals(**fields)


def test_what_somebody_else_edited_is_named() -> None:
    told = refusals(config(max_age=5, metadata={"team": "a"}, subjects=["SINGLE.>", "MORE"]))
    assert told == ["Stream APP > SINGLE was edited since by somebody else: max_age, metadata.team, subjects."]


def test_the_servers_own_metadata_and_our_receipt_are_nobodys_edit() -> None:
    assert refusals(config(metadata={"_nats.req.level": "1", "_nats.ver": "3", "natsmedic.op": "op_1"})) == []


def test_another_stream_of_the_same_name_is_told() -> None:
    (why,) = refusals(lambda raw: [one.update(created="2026-11-27T00:00:00Z") for one in details(raw)] and None)
    assert why.endswith("it is another stream.")


def leaderless(raw: Raw) -> None:
    for consumer in members(raw, "SINGLE", "only"):
        consumer["cluster"] = {"name": "lab", "leader": ""}


def test_a_consumer_whose_position_nobody_can_tell_is_refused() -> None:
    assert any(why.startswith("Consumer APP > SINGLE > only has no leader") for why in refusals(leaderless))


def lagging(last_seq: int, lag: int = 3, active: int = 1_000_000) -> Change:
    """n1 is not current for ORDERS in the last round, and holds that much by then; the leader held 70 a round before."""

    def change(raw: Raw) -> None:
        last = max(s["round"] for s in raw["samples"] if s["endpoint"] == "JSZ")
        for one in details(raw, "ORDERS", "n0", last):
            for peer in one["cluster"]["replicas"]:
                if peer["name"] == "n1":
                    peer |= {"current": False, "lag": lag, "active": active}
        for server, number, seq in (("n0", last - 1, 70), ("n0", last, 75), ("n1", last, last_seq), ("n2", last, 75)):
            for one in details(raw, "ORDERS", server, number):
                one["state"]["last_seq"] = seq

    return change


def orders(*changes: Change) -> list[str]:
    """What speaks against one replica for ORDERS instead of three."""
    snapshot = grown(*changes)
    view = facts(snapshot, ORDERS)
    params = stage().model_copy(
        update={
            "stream": "ORDERS",
            "config": facts(grown(), ORDERS).state.config,
            "stream_created": view.state.created,
            "start": 3,
            "to": 1,
            "target": 1,
        }
    )
    return hindrances(snapshot, view, params)


@pytest.mark.parametrize(("last_seq", "behind"), [(70, False), (69, True)])
def test_a_busy_member_that_has_what_the_leader_had_a_look_ago_keeps_up(last_seq: int, behind: bool) -> None:
    told = orders(lagging(last_seq))
    assert bool(told) is behind
    assert all("2 of 3 members of stream APP > ORDERS are current (n1 not current" in why for why in told)


def test_a_member_that_the_leader_has_not_heard_for_10_seconds_never_keeps_up() -> None:
    assert orders(lagging(75, active=10_000_000_001)) != []
    assert orders(lagging(75, active=10_000_000_000)) == []


def test_a_healthy_stream_may_lose_replicas() -> None:
    assert orders() == []


def down(version: str, *changes: Change) -> list[str]:
    def run(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    snapshot = grown(run, *changes)
    return no_way_down(snapshot, facts(snapshot, ORDERS), stage())


@pytest.mark.parametrize(
    ("version", "safe"),
    [("2.12.9", False), ("2.12.10", True), ("2.14.1", False), ("2.14.2", True), ("2.15.1", True), ("2.10.29", False)],
)
def test_the_way_back_past_a_member_that_is_away_needs_a_server_that_keeps_the_right_one(
    version: str, safe: bool
) -> None:
    assert (down(version, lagging(75)) == []) is safe
    assert down(version) == []


def test_without_a_majority_there_is_no_way_back() -> None:
    def away(raw: Raw) -> None:
        for one in details(raw, "ORDERS", "n0"):
            for peer in one["cluster"]["replicas"]:
                peer |= {"current": False, "active": 20_000_000_000}

    (why,) = down("2.15.1", away)
    assert why.startswith("Stream APP > ORDERS has no quorum (1 of 3 members current")


@pytest.mark.parametrize(
    ("start", "target", "version", "way"),
    [
        (1, 3, "2.10.26", (2, 3)),
        (1, 3, "2.11.11", (2, 3)),
        (1, 3, "2.12.7", (2, 3)),
        (1, 3, "2.12.8", (3,)),
        (1, 3, "2.14.0", (3,)),
        (1, 3, "2.15.1", (3,)),
        (1, 5, "2.11.11", (2, 3, 5)),
        (1, 5, "2.15.1", (5,)),
        (2, 3, "2.10.26", (3,)),
        (3, 5, "2.10.26", (5,)),
        (3, 1, "2.10.26", (1,)),
        (5, 3, "2.15.1", (3,)),
        (1, 3, "unknown", (2, 3)),
    ],
)
def test_the_stages_are_those_that_the_version_calls_for(
    start: int, target: int, version: str, way: tuple[int, ...]
) -> None:
    assert steps(start, target, [version]) == way


def test_one_old_server_among_new_ones_decides_on_the_stages() -> None:
    assert steps(1, 3, ["2.15.1", "2.11.11"]) == (2, 3)


def test_times_stand_in_the_stages() -> None:
    first, second = stage(), stage(index=1)
    assert [(p.start, p.to, p.target) for p in (first, second)] == [(1, 2, 3), (2, 3, 3)]
    assert [(p.settle, round(p.patience), p.young) for p in (first, second)] == [(30.0, 45, 15.0), (300.0, 120, 15.0)]
    assert (first.messages, first.bytes, first.consumers) == (40, 2111, 3)


def test_a_large_stream_gets_the_time_to_be_copied() -> None:
    assert stage(grown(state(bytes=6_000_000_000))).patience == 45.0 + 600.0


def cloned(count: int) -> tuple[Callable[[Raw], None], list[StreamKey]]:
    """SINGLE as often as asked for, under names of its own."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n0"):
            for account in jsz["account_details"]:
                account["stream_detail"] += [
                    one | {"name": f"S{number}"}
                    for one in account["stream_detail"]
                    if one["name"] == "SINGLE"
                    for number in range(count)
                ]

    return change, [StreamKey("APP", f"S{number}") for number in range(count)]


@pytest.mark.parametrize(("count", "left"), [(MOST_STREAMS, 0), (MOST_STREAMS + 1, 1)])
def test_a_proposal_holds_five_streams_and_names_the_rest(count: int, left: int) -> None:
    change, keys = cloned(count)
    scaling = compose_scaling(grown(change), keys, 3, TIMES)
    assert scaling.streams == tuple(keys[:MOST_STREAMS])
    assert [p["stream"] for _, p in scaling.stages] == [k.stream for k in keys[:MOST_STREAMS] for _ in range(2)]
    assert len(scaling.rest) == left
    assert any(
        f"1 more streams follow in a proposal of their own: APP > S{MOST_STREAMS}." in c for c in scaling.cautions
    ) is (left == 1)


def test_a_stream_that_can_t_be_scaled_is_left_out_with_its_reasons() -> None:
    scaling = compose_scaling(grown(), [ORDERS, SINGLE, StreamKey("APP", "NONE")], 3, TIMES)
    assert scaling.streams == (SINGLE,)
    assert scaling.refused == {
        ORDERS: ("Stream APP > ORDERS has 3 replicas already.",),
        StreamKey("APP", "NONE"): ("No server that answered reports stream APP > NONE.",),
    }


def test_where_no_stream_can_be_scaled_every_reason_is_told() -> None:
    with pytest.raises(Refused, match="has 3 replicas already"):
        compose_scaling(grown(), [ORDERS], 3, TIMES)


@pytest.mark.parametrize(
    ("name", "why", "backup"),
    [
        ("kinds_2.11.11", "two empty members can begin a new history", True),
        ("kinds_2.12.8", "wait for the one that has the messages", False),
        ("kinds_2.15.1", "cluster.desired", False),
    ],
)
def test_the_proposal_says_why_its_stages_are_those(name: str, why: str, backup: bool) -> None:
    scaling = compose_scaling(grown(name=name), [SINGLE], 3, TIMES)
    assert why in scaling.why
    assert any("Back up first" in caution for caution in scaling.cautions) is backup


def test_the_holder_that_is_away_makes_it_a_refusal() -> None:
    def dead(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n0"):
            jsz["account_details"] = []

    snapshot: Snapshot = grown(dead)
    with pytest.raises(Refused, match="No server that answered reports stream APP > SINGLE"):
        compose_scaling(snapshot, [SINGLE], 3, TIMES)
