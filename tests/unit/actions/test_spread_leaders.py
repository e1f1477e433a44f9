"""Leaders spread over the servers: which move, in what slices, and what stops them. On made-up clusters of three."""

from typing import Any

import pytest

from bot.action import Receipt
from bot.actions.leaders_move import ACTION as MOVE
from bot.actions.leaders_move import MOST_WAITING, MoveParams, shares
from bot.actions.spread_leaders import MOST_SLICES, SLICE, compose
from bot.errors import NoResponders, OutcomeUnknown, Refused
from bot.model import Endpoint, OperationId, Outcome, Snapshot
from tests.unit.actions.snapshot_readers import Shows
from tests.unit.snapshots import Raw, answered

SERVERS = ("n0", "n1", "n2")
OPERATION = OperationId("op_1")


def group(leader: str, members: tuple[str, ...] = SERVERS, **peer: Any) -> Raw:
    others = [name for name in members if name != leader]
    return {"leader": leader, "replicas": [{"name": name, "current": True, "active": 1} | peer for name in others]}


def stream(name: str, leader: str, **peer: Any) -> Raw:
    return {
        "name": name,
        "created": "2026-01-01T00:00:00Z",
        "config": {"name": name, "num_replicas": 3},
        "cluster": group(leader, **peer),
        "state": {"messages": 1, "first_seq": 1, "last_seq": 1},
        "stream_raft_group": f"S-{name}",
    }


def cluster(
    *streams: Raw, version: str = "2.11.11", meta: str = "n1", waiting: dict[str, Raw] | None = None, term: int = 1
) -> Snapshot:
    """Three servers that agree on everything. A stream with one replica is only on the server that leads it."""
    answers: dict[str, Any] = {}
    for server in SERVERS:
        here = [s for s in streams if s["config"]["num_replicas"] > 1 or s["cluster"]["leader"] == server]
        jsz = {
            "meta_cluster": group(meta) | {"cluster_size": 3} | (waiting or {}).get(server, {}),
            "account_details": [{"id": "APP", "name": "APP", "stream_detail": here}],
        }
        raftz = {"SYS": {"_meta_": {"term": term}}, "APP": {f"S-{s['name']}": {"term": term} for s in here}}
        answers[server] = {Endpoint.JSZ: jsz, Endpoint.RAFTZ: raftz}
    return answered(answers, versions=dict.fromkeys(SERVERS, version))


def many(**led: int) -> list[Raw]:
    """So many streams led by each server."""
    return [stream(f"{server}-{n:03}", server) for server, count in led.items() for n in range(count)]


def slices(snapshot: Snapshot, off: str = "") -> list[MoveParams]:
    return [MoveParams.model_validate(p) for kind, p in compose(snapshot, off).stages if kind == MOVE.kind]


def after(snapshot: Snapshot, moved: list[MoveParams]) -> dict[str, int]:
    counts = shares(snapshot)
    for move in (move for one in moved for move in one.moves):
        counts[move.leader] -= 1
        counts[move.to] += 1
    return dict(counts)


def test_leaders_are_spread_until_no_server_leads_two_more_than_another() -> None:
    snapshot = cluster(*many(n0=10, n1=4, n2=1))
    moved = slices(snapshot)
    assert after(snapshot, moved) == {"n0": 5, "n1": 5, "n2": 5}
    assert [move.leader for one in moved for move in one.moves] == ["n0"] * 5
    (said, *_) = compose(snapshot).cautions
    assert said == "Streams and consumers led now: n0 10, n1 4, n2 1; afterwards: n0 5, n1 5, n2 5."


def test_a_server_is_relieved_down_to_its_share_and_the_others_keep_theirs() -> None:
    snapshot = cluster(*many(n0=9, n1=6, n2=0))
    moved = slices(snapshot, "n0")
    assert {move.leader for one in moved for move in one.moves} == {"n0"}
    assert after(snapshot, moved) == {"n0": 5, "n1": 6, "n2": 4}


@pytest.mark.parametrize(("counts", "moves"), [((2, 1, 1), 0), ((3, 1, 1), 1)])
def test_a_difference_of_one_moves_nobody_and_one_of_two_moves_one(counts: tuple[int, int, int], moves: int) -> None:
    snapshot = cluster(*many(n0=counts[0], n1=counts[1], n2=counts[2]))
    if moves:
        assert sum(len(one.moves) for one in slices(snapshot)) == moves
    else:
        with pytest.raises(Refused, match="more even"):
            compose(snapshot)


def test_slices_are_full_but_the_last_and_what_is_too_much_is_counted() -> None:
    snapshot = cluster(*many(n0=3 * SLICE))
    assert [len(one.moves) for one in slices(snapshot, "n0")] == [SLICE, SLICE]
    composed = compose(cluster(*many(n0=3 * SLICE * MOST_SLICES)), "n0")
    assert len(composed.stages) == MOST_SLICES
    assert f"{SLICE * MOST_SLICES} further leaders are left to another proposal." in composed.cautions


def test_what_can_not_move_is_named_with_its_reason() -> None:
    single = stream("alone", "n0") | {"config": {"num_replicas": 1}, "cluster": {"leader": "n0"}}
    behind = stream("behind", "n0", current=False)
    composed = compose(cluster(*many(n0=8), single, behind), "n0")
    assert "With one replica, and so not to be moved: stream APP > alone on n0." in composed.cautions
    assert any("stream APP > behind" in line and "no quorum of current members" in line for line in composed.cautions)
    assert all("alone" not in str(stage) and "behind" not in str(stage) for stage in composed.stages)


def test_a_meta_leader_that_is_to_be_relieved_steps_down_first() -> None:
    stages = compose(cluster(*many(n0=6), meta="n0"), "n0").stages
    assert [kind for kind, _ in stages] == ["meta.step_down", "leaders.move"]
    assert stages[0][1]["preferred"] == "n1"


def test_before_2_11_one_server_can_be_relieved_and_nothing_spread_evenly() -> None:
    snapshot = cluster(*many(n0=9), version="2.10.26")
    (one,) = slices(snapshot, "n0")
    assert len(one.moves) == 6
    assert {move.to for move in one.moves} == {""}
    with pytest.raises(Refused, match=r"2\.11\.0 or later"):
        compose(snapshot)


@pytest.mark.parametrize(
    ("waiting", "stops"),
    [
        ({"n1": {"pending": MOST_WAITING - 1}}, False),
        ({"n1": {"pending": MOST_WAITING}}, True),
        ({"n1": {"pending_requests": MOST_WAITING - 1, "pending_infos": 1}}, True),
        ({"n0": {"pending": 2 * MOST_WAITING}}, False),
    ],
)
async def test_nothing_moves_while_requests_wait_on_a_server_that_is_not_the_one_to_relieve(
    waiting: dict[str, Raw], *, stops: bool
) -> None:
    busy = cluster(*many(n0=6), waiting=waiting)
    (one,) = slices(cluster(*many(n0=6)), "n0")
    found = await MOVE.check(Shows(busy), one)
    assert ("requests wait on n1" in " ".join(found.refusals)) == stops
    if stops:
        with pytest.raises(Refused, match="requests wait on n1"):
            compose(busy, "n0")


async def test_a_slice_waits_for_a_group_that_is_not_whole_and_skips_one_that_has_moved() -> None:
    streams = many(n0=6)
    (one,) = slices(cluster(*streams), "n0")
    first = one.moves[0].stream
    elsewhere = [stream(first, "n1") if s["name"] == first else s for s in streams]
    assert (await MOVE.check(Shows(cluster(*elsewhere)), one)).refusals == ()
    sick = [stream(first, "n0", current=False) if s["name"] == first else s for s in streams]
    found = await MOVE.check(Shows(cluster(*sick)), one)
    assert {why.partition(":")[0] for why in found.refusals} == {f"stream APP > {first}"}


async def test_a_world_in_which_a_leader_has_moved_is_another_one() -> None:
    streams = many(n0=6)
    (one,) = slices(cluster(*streams), "n0")
    first = one.moves[0].stream
    elsewhere = [stream(first, "n1") if s["name"] == first else s for s in streams]
    before, now = [(await MOVE.check(Shows(cluster(*them)), one)).world for them in (streams, elsewhere)]
    assert {key for key in before if before[key] != now[key]} == {f"stream APP > {first}.leader"}


class Asked:
    """Writers that count who was asked; `fails` is what the second request ends with."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.names: list[str] = []
        self.fails = fails

    async def step_down_stream(self, account: str, name: str, preferred: str = "") -> None:
        del account, preferred
        if self.fails and self.names:
            raise self.fails
        self.names.append(name)


async def test_a_slice_keeps_its_pace_and_leaves_those_alone_who_have_elected_since() -> None:
    streams = many(n0=6)
    (one,) = slices(cluster(*streams), "n0")
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    first = one.moves[0].stream
    elsewhere = [stream(first, "n1") if s["name"] == first else s for s in streams]
    asked = Asked()
    await type(MOVE)(pause).apply(Shows(cluster(*elsewhere)), asked, one, OPERATION)  # pyright: ignore[reportArgumentType]
    assert asked.names == [move.stream for move in one.moves[1:]]
    assert pauses == [one.pace] * (len(one.moves) - 2)


async def test_a_slice_that_is_refused_half_way_is_unknown_and_never_not_applied() -> None:
    (one,) = slices(cluster(*many(n0=6)), "n0")

    async def pause(seconds: float) -> None:
        del seconds

    action = type(MOVE)(pause)
    with pytest.raises(OutcomeUnknown, match="1 of 4 leaders were asked"):
        await action.apply(Shows(cluster(*many(n0=6))), Asked(NoResponders("nobody")), one, OPERATION)  # pyright: ignore[reportArgumentType]


async def test_one_election_is_the_receipt_and_verification_counts_the_rest() -> None:
    streams = many(n0=6)
    (one,) = slices(cluster(*streams), "n0")
    none, part = cluster(*streams), cluster(*[stream(s["name"], "n1") if i == 0 else s for i, s in enumerate(streams)])
    every = cluster(*[stream(s["name"], "n2") for s in streams])
    receipts = [await MOVE.receipt(Shows(seen), one, OPERATION) for seen in (none, part, every)]
    assert receipts == [Receipt.NOT_APPLIED, Receipt.APPLIED, Receipt.APPLIED]
    seen = await MOVE.verify(Shows(part), one, OPERATION)
    assert (seen.outcome, seen.numbers["moved"], seen.numbers["led by n0"]) == (Outcome.FAILED, 1, 5)
    assert one.moves[1].stream in seen.sentence
    assert (await MOVE.verify(Shows(every), one, OPERATION)).outcome is Outcome.VERIFIED


async def test_an_election_that_the_same_leader_won_is_no_move() -> None:
    streams = many(n0=6)
    (one,) = slices(cluster(*streams), "n0")
    again = cluster(*streams, term=2)
    assert await MOVE.receipt(Shows(again), one, OPERATION) is Receipt.APPLIED
    seen = await MOVE.verify(Shows(again), one, OPERATION)
    assert (seen.outcome, seen.numbers["moved"]) == (Outcome.FAILED, 0)


async def test_a_slice_names_its_groups() -> None:
    (one,) = slices(cluster(*many(n0=6)), "n0")
    shown = await MOVE.preview(Shows(cluster()), one)
    assert shown.summary == "Move 4 leaders off n0: 4 of streams, 0 of consumers"
    assert "stream APP > n0-000: n0 → n1" in shown.effects
    with pytest.raises(Refused):
        await MOVE.rollback(Shows(cluster()), None, one, OPERATION)  # pyright: ignore[reportArgumentType]
