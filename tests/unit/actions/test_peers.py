"""Who is dead, who could take a place, and who is gone: every refusal at its border, on a made-up cluster of five."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.action import Receipt
from bot.actions._facts import stream_facts
from bot.actions.meta_peer_remove import ACTION as REMOVE
from bot.actions.meta_peer_remove import GONE, remove_stage
from bot.actions.stream_peer_remove import ACTION as REPLACE
from bot.actions.stream_peer_remove import hindrances, peer_remove_stage
from bot.errors import ApiRefused, OutcomeUnknown, ReadDenied, Refused
from bot.model import Endpoint, KubernetesFacts, OperationId, Outcome, Snapshot, StreamKey
from bot.model.groups import LOST_QUORUM_NS
from bot.model.kubernetes import Kind, Listing
from tests.unit.actions.snapshot_readers import Shows
from tests.unit.snapshots import Raw, answered

SERVERS = ("n0", "n1", "n2", "n3", "n4")
DEAD = "n2"
OPERATION = OperationId("op_1")
STREAM = StreamKey("APP", "ORDERS")
HOUR = 3_600_000_000_000


def peer(name: str, **fields: Any) -> Raw:
    return {"name": name, "current": True, "active": 1, "peer": f"id-{name}"} | fields


def away(**fields: Any) -> Raw:
    return peer(DEAD, current=False, offline=True, active=HOUR) | fields


@dataclass
class World:
    """Five servers; n2 is dead, and ORDERS lives on n0 (its leader), n1 and n2. A test changes what it is about."""

    members: list[Raw] = field(default_factory=lambda: [peer("n1"), away()])
    meta: list[Raw] = field(default_factory=lambda: [peer("n1"), away(), peer("n3"), peer("n4")])
    config: Raw = field(default_factory=lambda: {"num_replicas": 3})
    state: Raw = field(default_factory=lambda: {"messages": 9, "first_seq": 1, "last_seq": 9, "bytes": 100})
    silent: set[str] = field(default_factory=lambda: {DEAD})
    jsz: dict[str, Raw] = field(default_factory=dict[str, Raw])
    tags: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    routes: dict[str, Raw | None] = field(default_factory=dict[str, Raw | None])
    streams: bool = True
    created: str = "2026-01-01T00:00:00Z"

    def snapshot(self) -> Snapshot:
        living = [name for name in SERVERS if name not in self.silent]
        answers: dict[str, Any] = {}
        for server in living:
            jsz = {"meta_cluster": self._meta(), "config": {}} | self.jsz.get(server, {})
            jsz["account_details"] = [{"id": "APP", "name": "APP", "stream_detail": self._held(server)}]
            routez = self.routes.get(server, {"routes": [{"remote_name": n} for n in living if n != server]})
            answers[server] = {Endpoint.JSZ: jsz, Endpoint.VARZ: {"tags": self.tags.get(server, [])}}
            answers[server] |= {Endpoint.ROUTEZ: routez} if routez is not None else {}
        made = answered(answers, versions=dict.fromkeys(living, "2.11.11"), expected=frozenset(SERVERS))
        servers = tuple(server.model_copy(update={"cluster": "lab"}) for server in made.servers)
        return replace(made, servers=servers)

    def _meta(self) -> Raw:
        return {"leader": "n0", "cluster_size": len(self.meta) + 1, "replicas": self.meta}

    def _held(self, server: str) -> list[Raw]:
        here = {"n0", *(row["name"] for row in self.members)}
        if not self.streams or server not in here:
            return []
        return [
            {
                "name": "ORDERS",
                "created": self.created,
                "config": {"name": "ORDERS"} | self.config,
                "cluster": {"leader": "n0", "replicas": self.members},
                "state": self.state,
                "stream_raft_group": "S",
            }
        ]


PARAMS = peer_remove_stage(stream_facts(World().snapshot(), STREAM), DEAD)
GONE_PARAMS = remove_stage(World().snapshot(), DEAD)


async def against(world: World, missing: dict[tuple[str, str], frozenset[str] | Exception] | None = None) -> str:
    """Why the dead member is not replaced."""
    readers = Shows(world.snapshot())
    readers.absent.update(missing or {})
    params = PARAMS.model_copy(update={"stream_config": _digest(world)})
    return " ".join((await REPLACE.check(readers, params)).refusals)


def _digest(world: World) -> str:
    return peer_remove_stage(stream_facts(world.snapshot(), STREAM), DEAD).stream_config


async def test_a_dead_member_with_a_spare_is_replaced_and_the_spares_are_named() -> None:
    assert await against(World()) == ""
    shown = await REPLACE.preview(Shows(World().snapshot()), PARAMS)
    assert "n3 or n4 copies 9 messages (100 bytes) from the leader." in shown.effects
    assert shown.diff == "- members: n0, n1, n2\n+ members: n0, n1, n3 or n4"


@pytest.mark.parametrize(
    ("active", "offline", "dead"),
    [(LOST_QUORUM_NS, False, False), (LOST_QUORUM_NS + 1, False, True), (1, True, True), (0, False, True)],
)
async def test_a_member_is_dead_once_its_leader_counts_it_out(active: int, *, offline: bool, dead: bool) -> None:
    found = await against(World(members=[peer("n1"), away(active=active, offline=offline)]))
    assert ("not yet *lost*" in found) != dead


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(members=[peer("n1"), peer(DEAD)]), "counts it as current"),
        (World(silent=set()), "a live server is never removed"),
        (World(routes={"n4": {"routes": [{"remote_name": DEAD}]}}), "n4 has a route to n2: it runs"),
        (World(routes={"n4": None}), "Whether n4 has a route to n2 could not be read"),
    ],
)
async def test_whatever_speaks_for_its_life_keeps_a_member(world: World, why: str) -> None:
    assert why in await against(world)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(config={"num_replicas": 2}, members=[away()]), "no leader that 2 of 2 members agree on"),
        (World(members=[peer("n1")]), "n2 is no member"),
        (World(members=[peer("n1", current=False), away()]), "n1 is not current in stream APP > ORDERS either"),
        (World(members=[peer("n1"), peer("n3"), away()]), "has 4 members and shall have 3"),
        (World(created="2030-01-01T00:00:00Z"), "it is another stream"),
        (World(state={"messages": 8, "first_seq": 1, "last_seq": 8}), "ends at 8, and ended at 9"),
    ],
)
async def test_a_group_that_is_not_what_it_must_be_keeps_its_members(world: World, why: str) -> None:
    assert why in " ".join((await REPLACE.check(Shows(world.snapshot()), PARAMS)).refusals)


def everybody(**fields: Any) -> dict[str, Raw]:
    return {"n3": fields, "n4": fields}


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(silent={DEAD, "n3"}, jsz={"n4": {"disabled": True}}), "n3 does not answer; n4 is no current member"),
        (World(jsz=everybody(disabled=True)), "n3 is no current member of the meta group"),
        (World(jsz=everybody(ha_assets=6, limits={"max_ha_assets": 5})), "n3 has no room for 1 more Raft groups"),
        (World(config={"num_replicas": 3, "placement": {"cluster": "other"}}), "n3 is in cluster lab"),
        (World(config={"num_replicas": 3, "placement": {"tags": ["ssd"]}}), "n3 lacks the tag ssd"),
        (World(jsz=everybody(config={"max_storage": 1_099, "store_dir": "x"}, storage=1_000)), "n3 has 99 bytes"),
        (World(jsz=everybody(config={"max_storage": 1_099}, reserved_storage=1_000)), "100 are needed"),
        (World(jsz=everybody(config={"unique_tag": "az:"})), "n3 shares az: with a member"),
        (
            World(jsz=everybody(config={"unique_tag": "az:"}), tags={"n0": ["az:a"], "n3": ["AZ:A"], "n4": ["az:a"]}),
            "n4 shares az: with a member",
        ),
    ],
)
async def test_without_a_fit_spare_nothing_is_removed(world: World, why: str) -> None:
    found = await against(world)
    assert "No spare server could take the place of n2" in found
    assert why in found


@pytest.mark.parametrize(
    "world",
    [
        World(jsz={"n3": {"disabled": True}}),
        World(jsz=everybody(ha_assets=5, limits={"max_ha_assets": 5})),
        World(config={"num_replicas": 3, "placement": {"cluster": "lab", "tags": ["SSD"]}}, tags={"n4": ["ssd"]}),
        World(jsz=everybody(config={"max_storage": 1_100}, storage=1_000)),
        World(jsz=everybody(config={"unique_tag": "az:"}), tags={"n0": ["az:a"], "n2": ["az:b"], "n3": ["az:b"]}),
    ],
)
async def test_one_fit_spare_is_enough(world: World) -> None:
    assert await against(world) == ""


async def test_a_group_of_two_has_no_majority_beside_the_member_that_goes() -> None:
    two = World(config={"num_replicas": 2}, members=[peer("n1")]).snapshot()
    assert "has 2 replicas: n1 may hold what nobody else does" in hindrances(two, stream_facts(two, STREAM), "n1")[0]


async def test_a_consumer_that_does_not_answer_may_live_there_alone() -> None:
    assert "APP > ORDERS > single" in await against(World(), {("APP", "ORDERS"): frozenset({"single"})})
    with pytest.raises(ReadDenied):
        await against(World(), {("APP", "ORDERS"): ReadDenied("no reader")})


class Says:
    """Writers that answer every removal with this error."""

    def __init__(self, code: int) -> None:
        self.error = ApiRefused(400, code, "no")

    async def remove_stream_peer(self, *_: str) -> None:
        raise self.error

    async def remove_server(self, *_: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("action", "params", "code", "unknown"),
    [
        (REPLACE, PARAMS, 10075, True),
        (REPLACE, PARAMS, 10040, True),
        (REPLACE, PARAMS, 10023, False),
        (REMOVE, GONE_PARAMS, 10044, True),
        (REMOVE, GONE_PARAMS, 10202, True),
        (REMOVE, GONE_PARAMS, 10003, False),
    ],
)
async def test_an_error_that_does_not_say_that_the_member_stays_is_no_no(
    action: Any, params: Any, code: int, *, unknown: bool
) -> None:
    with pytest.raises(OutcomeUnknown if unknown else ApiRefused):
        await action.apply(Shows(), Says(code), params, OPERATION)


@pytest.mark.parametrize(
    ("members", "receipt", "outcome", "said"),
    [
        ([peer("n1"), away()], Receipt.NOT_APPLIED, Outcome.FAILED, "n2 is still a member."),
        ([peer("n1")], Receipt.APPLIED, Outcome.FAILED, "n0, n1 of 3 members"),
        ([peer("n1"), peer("n3", current=False)], Receipt.APPLIED, Outcome.FAILED, "2 of 3 members current"),
        ([peer("n1"), peer("n3")], Receipt.APPLIED, Outcome.VERIFIED, "n3 took the place of n2"),
    ],
)
async def test_only_a_whole_group_without_the_dead_one_is_a_success(
    members: list[Raw], receipt: Receipt, outcome: Outcome, said: str
) -> None:
    world = World(members=members).snapshot()
    assert await REPLACE.receipt(Shows(world), PARAMS, OPERATION) is receipt
    seen = await REPLACE.verify(Shows(world), PARAMS, OPERATION)
    assert (seen.outcome, said in seen.sentence) == (outcome, True), seen.sentence
    assert seen.numbers["last sequence"] == 9


async def test_a_replacement_that_lost_messages_is_a_failure_for_good() -> None:
    less = World(members=[peer("n1"), peer("n3")], state={"messages": 8, "first_seq": 1, "last_seq": 8})
    seen = await REPLACE.verify(Shows(less.snapshot()), PARAMS, OPERATION)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)


# --- servers that are gone ------------------------------------------------------------------------------------------------------


def four(**fields: Any) -> World:
    """No stream counts on n2 any more."""
    return World(members=[peer("n1"), peer("n3")], meta=[peer("n1"), away(**fields), peer("n3"), peer("n4")])


async def refused(world: World, change: Callable[[Snapshot], Snapshot] = lambda s: s, **missing: Any) -> str:
    readers = Shows(change(world.snapshot()))
    readers.absent.update({(account, ""): found for account, found in missing.items()})
    return " ".join((await REMOVE.check(readers, GONE_PARAMS)).refusals)


async def test_a_server_that_is_gone_is_removed_by_its_raft_id() -> None:
    assert await refused(four()) == ""
    assert GONE_PARAMS.peer_id == "id-n2"
    shown = await REMOVE.preview(Shows(), GONE_PARAMS)
    assert "An even number spares no more" in shown.effects[0]


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(GONE, ""), (GONE - 1, "heard from n2 899 s ago; only after 900 s"), (0, "Since when n2 is away is not known")],
)
async def test_a_server_is_gone_after_so_long_and_not_a_second_before(seconds: float, why: str) -> None:
    found = await refused(four(active=int(seconds * 1e9)))
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(), "n2 is still a member of stream APP > ORDERS: replace it there first"),
        (replace(four(), silent=set()), "a live server is never removed"),
        (replace(four(), routes={"n3": {"routes": [{"remote_name": DEAD}]}}), "n3 has a route to n2"),
        (four(current=True, offline=False), "counts it as current"),
        (replace(four(), meta=[peer("n1"), peer("n3")]), "n2 is no member of the meta group"),
        (
            replace(four(), meta=[peer("n1"), away(), peer("n3", current=False), peer("n4")]),
            "n3 is not current in the meta group either",
        ),
        (replace(four(), streams=False, meta=[peer("n1"), away()]), "2 servers would be left"),
    ],
)
async def test_a_server_that_may_live_or_is_counted_on_stays(world: World, why: str) -> None:
    assert why in await refused(world)


async def test_three_may_be_left() -> None:
    assert "would be left" not in await refused(replace(four(), meta=[peer("n1"), away(), peer("n3")]))


async def test_a_stream_that_does_not_answer_may_have_its_only_copy_there() -> None:
    assert "Stream APP > SINGLE does not answer" in await refused(four(), APP=frozenset({"SINGLE"}))


def kubernetes(replicas: int, name: str = "n") -> Callable[[Snapshot], Snapshot]:
    """A StatefulSet of so many pods."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    item = {"metadata": {"name": name, "uid": "u"}, "spec": {"replicas": replicas}}
    item["spec"]["template"] = {"spec": {"containers": [{"name": "nats", "image": "nats:2.11.11"}]}}  # pyright: ignore[reportArgumentType]
    listings = (Listing(kind=Kind.STATEFUL_SET, verb="list", api="apps/v1", items=(item,)),)
    return lambda snapshot: replace(snapshot, kubernetes=KubernetesFacts("queues", at, listings))


async def test_a_server_whose_pod_a_stateful_set_asks_for_comes_back() -> None:
    world = four()
    named = {"n2": "nats-2"}
    renamed = _renamed(world.snapshot(), named)
    params = GONE_PARAMS.model_copy(update={"server": "nats-2", "members": ("n0", "n1", "n3", "n4", "nats-2")})
    kept = (await REMOVE.check(Shows(kubernetes(3, "nats")(renamed)), params)).refusals
    assert kept == ("StatefulSet nats asks for 3 pods, nats-2 among them: nats-2 comes back.",)
    assert (await REMOVE.check(Shows(kubernetes(2, "nats")(renamed)), params)).refusals == ()


async def test_where_no_stateful_set_asks_for_it_nobody_needs_to_know_since_when_it_is_away() -> None:
    assert await refused(four(active=0), kubernetes(2, "nats")) == ""


def _renamed(snapshot: Snapshot, named: dict[str, str]) -> Snapshot:
    (old, new), *_ = named.items()
    text = four()
    text.meta = [row | {"name": new} if row["name"] == old else row for row in text.meta]
    return replace(text.snapshot(), expected=frozenset((snapshot.expected - {old}) | {new}))


@pytest.mark.parametrize(
    ("meta", "receipt", "outcome", "said"),
    [
        ([peer("n1"), away(), peer("n3"), peer("n4")], Receipt.NOT_APPLIED, Outcome.FAILED, "n2 is still a member."),
        ([peer("n1"), peer("n3")], Receipt.APPLIED, Outcome.FAILED, "without n4"),
        ([peer("n1"), peer("n3"), peer("n4", current=False)], Receipt.APPLIED, Outcome.FAILED, "3 of 4 members"),
        ([peer("n1"), peer("n3"), peer("n4")], Receipt.APPLIED, Outcome.VERIFIED, "4 servers are the meta group"),
    ],
)
async def test_only_the_rest_as_a_whole_group_is_a_success(
    meta: list[Raw], receipt: Receipt, outcome: Outcome, said: str
) -> None:
    world = replace(four(), meta=meta).snapshot()
    assert await REMOVE.receipt(Shows(world), GONE_PARAMS, OPERATION) is receipt
    seen = await REMOVE.verify(Shows(world), GONE_PARAMS, OPERATION)
    assert (seen.outcome, said in seen.sentence) == (outcome, True), seen.sentence


@pytest.mark.parametrize(("action", "params"), [(REPLACE, PARAMS), (REMOVE, GONE_PARAMS)])
async def test_a_removal_has_no_way_back_and_says_so(action: Any, params: Any) -> None:
    with pytest.raises(Refused):
        await action.rollback(Shows(), None, params, OPERATION)
    assert (await action.preview(Shows(World().snapshot()), params)).way_back.startswith("None")
