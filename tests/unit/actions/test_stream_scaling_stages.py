"""Which stages a change of replicas is made of, for one stream and for many."""

from collections.abc import Callable

import pytest

from bot.actions.stream_scaling import MOST_REFUSED, MOST_STREAMS, compose_scaling, reason_of_stages, steps
from bot.errors import Refused
from bot.model import Snapshot, StreamKey
from tests.unit.actions.scaling_scene import ORDERS, SINGLE, TIMES, grown, stage, state
from tests.unit.snapshots import Raw, answers


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


@pytest.mark.parametrize(("count", "left"), [(MOST_REFUSED - 1, 0), (MOST_REFUSED, 1)])
def test_after_so_many_refusals_the_rest_waits(count: int, left: int) -> None:
    missing = [StreamKey("APP", f"NONE{number}") for number in range(count)]
    keys = [SINGLE, *missing, StreamKey("APP", "ALL")]
    scaling = compose_scaling(grown(), keys, 3, TIMES)
    assert len(scaling.refused) == count
    assert (len(scaling.streams), len(scaling.rest)) == (2 - left, left)


@pytest.mark.parametrize(
    ("start", "target", "why"), [(2, 3, "outvote the new members"), (3, 5, "outvote"), (3, 1, "leader keeps its copy")]
)
def test_only_a_single_copy_needs_stages_and_the_reason_says_so(start: int, target: int, why: str) -> None:
    assert why in reason_of_stages(start, target, ["2.11.11"])
    assert len(steps(start, target, ["2.11.11"])) == 1
