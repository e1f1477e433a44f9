"""What `python -m tests.record` brings about: healthy clusters, the sick states of the drills, and decoys that only look sick.

A scenario works on a ready lab cluster and calls `keep` at each moment that is worth a recording: `keep()` of scenario `split` on 2.11.11 writes
`split_2.11.11`, `keep("_room")` writes `split_room_2.11.11`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from nats.aio.client import Client

from bot.lab import drills, mesh_drills, overload_drills, readiness_drills, stream_drills
from bot.lab.config import SYS
from bot.lab.jetstream import request, section
from bot.lab.servers import LabCluster, LabError
from bot.model import Endpoint
from runbooks.overload import RUNBOOK as OVERLOAD
from runbooks.stream_groups import RUNBOOK as STREAM_GROUPS
from runbooks.stuck_consumer import SETTLE_SECONDS
from tests.every_kind import every_kind
from tests.peer import peer, peer_is_missing

Raw = dict[str, Any]
Keep = Callable[..., Awaitable[None]]
Make = Callable[[LabCluster, Keep], Awaitable[object]]

LINES: Final = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
"""One version of each line that natsmedic is tested on."""

LEADERLESS_SECONDS: Final = 20.0
"""Until servers show no leader: a stale one is shown for up to 19.6 s (drills.md 3.6)."""

FROZEN_SECONDS: Final = 12.0
"""Until the others count a frozen server out: Raft's lost-quorum interval of 10 s, and a moment (reference/nats.md 1.0)."""

ELECTION_SECONDS: Final = 1.0
"""Until a leader that stepped down has a successor, which takes a few heartbeats."""

OLD_SECONDS: Final = 61.0
"""Until no server counts as young any more (threshold `young` of ROUTE_MESH)."""

STREAM_KEYS: Final = {
    "io.nats.monitor.enabled": "true",
    "io.nats.monitor.peer-expect": "3",
    "io.nats.monitor.peer-lag-critical": "100",
    "io.nats.monitor.peer-seen-critical": "1m",
    "io.nats.monitor.msgs-critical": "10",
    "io.nats.monitor.subjects-warn": "50",
    "io.nats.monitor.subjects-critical": "100",
}
CONSUMER_KEYS: Final = {
    "io.nats.monitor.enabled": "true",
    "io.nats.monitor.outstanding-ack-critical": "100",
    "io.nats.monitor.unprocessed-critical": "1000",
    "io.nats.monitor.last-delivery-critical": "1d",
    "io.nats.monitor.last-ack-critical": "1d",
}


def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One state of a cluster, and the versions on which tests look at it."""

    about: str
    make: Make
    versions: tuple[str, ...] = LINES
    size: int = 3
    max_ha_assets: Mapping[str, int] = field(default_factory=dict[str, int])
    over_http: bool = False
    """Over the monitoring ports instead of the system account."""
    probed: bool = False
    """With what messages from each server to each other come to."""
    rounds: int = 2
    interval: float = SETTLE_SECONDS
    """Seconds between rounds: as long as a group must be seen sick before it is called broken."""
    endpoints: frozenset[Endpoint] = frozenset(Endpoint) - {Endpoint.SUBSZ}
    """Subscriptions are read only where somebody asks about a subject."""
    """What is read; a server that is flooded can't be asked for everything."""
    mqtt: bool = False
    trim: Callable[[Raw], None] | None = None
    """Takes out of the snapshot's JSON what is large and shows nothing."""
    hindrance: Callable[[], str] = _nothing
    """Why it can't be made on this machine; empty where it can."""


async def _kinds(cluster: LabCluster, keep: Keep) -> None:
    async with every_kind(cluster):
        await mesh_drills.wait_for_mesh(cluster)
        await keep()


async def _audit(cluster: LabCluster, keep: Keep) -> None:
    client = await cluster.connect()
    limits = {"max_msgs": 1_000, "max_bytes": 1_000_000, "max_consumers": 10}
    await drills.create_stream(client, "ORDERS", 3, limits | {"metadata": STREAM_KEYS})
    await drills.create_consumer(client, "ORDERS", "worker", {"metadata": CONSUMER_KEYS})
    await drills.create_consumer(client, "ORDERS", "plain")
    await drills.publish(client, "ORDERS", 200)
    for message in (await drills.take(client, "ORDERS", "worker", 60)).values():
        await drills.acknowledge(message)
    await client.close()
    await asyncio.sleep(2)
    await keep()


async def _work(cluster: LabCluster) -> None:
    """One R3 stream of 200 messages; of 60 delivered 53 are acknowledged, above the floor of 50 with gaps. n0 leads everything."""
    client, system = await cluster.connect(), await cluster.connect(SYS)
    await drills.create_stream(client, "ORDERS", 3)
    await drills.create_consumer(client, "ORDERS", "worker")
    await _led_by_n0(system, "META.LEADER.STEPDOWN", cluster.wait_ready)
    await _led_by_n0(client, "STREAM.LEADER.STEPDOWN.ORDERS", partial(_leader, client, "STREAM.INFO.ORDERS"))
    worker = partial(_leader, client, "CONSUMER.INFO.ORDERS.worker")
    await _led_by_n0(client, "CONSUMER.LEADER.STEPDOWN.ORDERS.worker", worker)
    await drills.publish(client, "ORDERS", 200)
    messages = await drills.take(client, "ORDERS", "worker", 60)
    for seq in (*range(1, 51), 53, 56, 59):
        await drills.acknowledge(messages[seq])
    await client.close()
    await system.close()
    await asyncio.sleep(1)


async def _led_by_n0(client: Client, step_down: str, leader: Callable[[], Awaitable[str]]) -> None:
    """Ask for elections until n0 wins one."""

    async def led() -> bool:
        if await leader() == "n0":
            return True
        await request(client, step_down)
        await asyncio.sleep(ELECTION_SECONDS)
        return False

    await drills.until(led, f"n0 was not elected by {step_down}")


async def _leader(client: Client, info: str) -> str:
    return str(section(await request(client, info), "cluster").get("leader"))


async def _healthy(cluster: LabCluster, keep: Keep) -> None:
    await _work(cluster)
    await keep()


async def _frozen(cluster: LabCluster, keep: Keep) -> None:
    await _work(cluster)
    await cluster.freeze("n1")
    await asyncio.sleep(FROZEN_SECONDS)
    await keep()
    await cluster.thaw("n1")


async def _killed(cluster: LabCluster, keep: Keep) -> None:
    await _work(cluster)
    await cluster.kill("n1")
    await keep()


async def _split(cluster: LabCluster, keep: Keep) -> None:
    drill = await drills.ghost_split(cluster)
    await keep()
    await drills.remove_decoys(cluster, drill)
    await asyncio.sleep(1)
    await keep("_room")


async def _leaderless(cluster: LabCluster, keep: Keep) -> None:
    await drills.leaderless(cluster)
    await asyncio.sleep(LEADERLESS_SECONDS)
    await keep()


async def _leaderless_single(cluster: LabCluster, keep: Keep) -> None:
    await drills.leaderless_single(cluster)
    await asyncio.sleep(LEADERLESS_SECONDS)
    await keep()


async def _mesh_cut(cluster: LabCluster, keep: Keep) -> None:
    async with mesh_drills.cut_route(cluster):
        await asyncio.sleep(OLD_SECONDS)
        await keep()


def _whole(drill: Callable[[LabCluster], Awaitable[object]]) -> Make:
    """What a drill leaves behind once the cluster is ready."""

    async def make(cluster: LabCluster, keep: Keep) -> None:
        await drill(cluster)
        await cluster.wait_ready()
        await keep()

    return make


def _broken(drill: Callable[[LabCluster], Awaitable[object]]) -> Make:
    """What a drill of routes leaves behind for good."""

    async def make(cluster: LabCluster, keep: Keep) -> None:
        await drill(cluster)
        await asyncio.sleep(OLD_SECONDS)
        await keep()

    return make


def _mesh(about: str, make: Make, *versions: str, size: int = 3, root: bool = False) -> Scenario:
    """A scenario of routes, which later rounds do not read again, over the monitoring ports."""
    hindrance = mesh_drills.headless_impossible if root else _nothing
    return Scenario(
        about, make, versions, size, over_http=True, probed=True, rounds=1, interval=0.0, hindrance=hindrance
    )


async def _meta_orders(cluster: LabCluster) -> None:
    client = await cluster.connect()
    await drills.create_stream(client, "ORDERS", 3)
    await drills.create_consumer(client, "ORDERS", "worker")
    await client.close()
    await asyncio.sleep(2)


def _meta(drill: Callable[[LabCluster], AbstractAsyncContextManager[object]] | None) -> Make:
    async def make(cluster: LabCluster, keep: Keep) -> None:
        await _meta_orders(cluster)
        if drill is None:
            await keep()
            return
        async with drill(cluster):
            await keep()

    return make


async def _meta_leaderless(cluster: LabCluster, keep: Keep) -> None:
    await readiness_drills.lose_quorum(cluster)
    await keep()


async def _meta_churn(cluster: LabCluster, keep: Keep) -> None:
    async with readiness_drills.load(cluster, streams=6):
        await asyncio.sleep(2)
        await keep()


KEPT_CONSUMERS: Final = 2
"""Of those that a flood lists; the others say the same."""
MQTT_DEVICES: Final = 4


def _of_a_flood(raw: Raw) -> None:
    """Leave out empty queues, as servers do themselves without `all`, and most of the consumers that the flood lists."""
    for sample in raw["samples"]:
        data = sample["data"] or {}
        if sample["endpoint"] == "IPQUEUESZ":
            sample["data"] = {name: row for name, row in data.items() if row != {"pending": 0}}
        for account in data.get("account_details") or [] if sample["endpoint"] == "JSZ" else []:
            for stream in account.get("stream_detail") or []:
                if stream["name"] == overload_drills.STREAM:
                    for key in ("consumer_detail", "consumer_raft_groups"):
                        stream[key] = (stream.get(key) or [])[:KEPT_CONSUMERS]


async def _flood(cluster: LabCluster, keep: Keep) -> None:
    async with (
        overload_drills.mqtt_devices(cluster, {"n0": MQTT_DEVICES}),
        overload_drills.api_flood(cluster, backlog=3000, growth=800),
    ):
        await keep()


async def _idle(cluster: LabCluster, keep: Keep) -> None:
    await keep()


async def _history(cluster: LabCluster, keep: Keep) -> None:
    await stream_drills.new_history(cluster, streams=1)
    await keep("_away")
    await cluster.restart("n2")
    await asyncio.sleep(2)
    await keep("_ahead")


async def _history_outside(cluster: LabCluster, keep: Keep) -> None:
    forks = await stream_drills.race(cluster, streams=6)
    if not any(fork.outside for fork in forks):
        raise LabError("no copy is outside of its group")
    await keep()
    still = [f for f in forks if f.outside and await stream_drills.forked(cluster, f.stream, f.messages)]
    if not still:
        raise LabError("it healed while it was recorded")


async def _members(cluster: LabCluster, keep: Keep) -> None:
    follower = await stream_drills.fall_behind(cluster, operations=20)
    client = await cluster.connect(name="n0")
    await drills.create_consumer(client, "ORDERS", "worker")
    await client.close()
    await asyncio.sleep(FROZEN_SECONDS)
    await keep()
    await cluster.thaw(follower)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "kinds": Scenario("healthy: streams and consumers of every kind, clients at work", _kinds, rounds=3, interval=7.5),
    "audit": Scenario("healthy: one stream and two consumers with limits and monitoring keys", _audit, interval=1.0),
    "healthy": Scenario("healthy: 60 of 200 messages delivered, 53 acknowledged, nobody pulls", _healthy, ("2.15.1",)),
    "frozen": Scenario("the same 12 s after n1 was stopped with SIGSTOP", _frozen, ("2.15.1",)),
    "killed": Scenario("the same right after n1 was killed", _killed, ("2.11.11",)),
    "split": Scenario(
        "drill ghost_split (drills.md 3.3); `split_room`: after its decoys are gone, damage without cause",
        _split,
        ("2.10.26", "2.11.11", "2.12.8"),
        max_ha_assets={"n1": 5},
    ),
    "leaderless": Scenario("drill leaderless (drills.md 3.6)", _leaderless, ("2.10.26", "2.15.1"), size=5),
    "leaderless_single": Scenario("drill leaderless_single (drills.md 3.6)", _leaderless_single, ("2.11.11", "2.12.8")),
    "ack_pending": Scenario("decoy stuck_ack_pending", _whole(drills.stuck_ack_pending), ("2.12.8",)),
    "no_pulls": Scenario("decoy no_pulls", _whole(drills.no_pulls), ("2.10.26",)),
    "paused": Scenario("decoy paused", _whole(drills.paused), ("2.15.1",)),
    "mesh_healthy": _mesh("healthy: explicit routes", _whole(mesh_drills.wait_for_mesh), *LINES),
    "mesh_seed": _mesh(
        "drill wrong_advertise (drills.md 2)", _broken(mesh_drills.wrong_advertise), "2.10.26", "2.11.11"
    ),
    "mesh_islands": _mesh("drill islands, five servers", _broken(mesh_drills.islands), "2.15.1", size=5),
    "mesh_headless": _mesh("drill headless; root only", _broken(mesh_drills.headless), "2.11.11", root=True),
    "mesh_cut": _mesh("drill cut_route", _mesh_cut, "2.12.8"),
    "mesh_pool_off": _mesh("decoy pool_off", _whole(mesh_drills.pool_off), "2.11.11"),
    "mesh_no_advertise": _mesh("decoy no_advertise", _whole(mesh_drills.no_advertise), "2.12.8"),
    "meta_healthy": Scenario("healthy: one R3 stream with a consumer", _meta(None), rounds=4, interval=1.0),
    "meta_stuck": Scenario(
        "drill stuck_apply: a hung disk below one follower",
        _meta(readiness_drills.stuck_apply),
        ("2.10.26", "2.15.1"),
        rounds=4,
        interval=1.0,
    ),
    "meta_frozen": Scenario(
        "drill frozen: SIGSTOP of one follower, which its leader has not heard for 10 s",
        _meta(readiness_drills.frozen),
        ("2.11.11",),
        rounds=4,
        interval=1.0,
    ),
    "meta_leaderless": Scenario("drill lose_quorum", _meta_leaderless, ("2.10.26",), rounds=4, interval=1.0),
    "meta_churn": Scenario(
        "drill load: consumers come and go", _meta_churn, ("2.10.26", "2.11.11"), rounds=4, interval=1.0
    ),
    "overload_idle": Scenario(
        "healthy: nothing on it", _idle, ("2.15.1",), rounds=3, interval=0.7, mqtt=True, trim=_of_a_flood
    ),
    "overload_flood": Scenario(
        "drill api_flood: a listing loop outruns the meta leader, four MQTT devices on n0",
        _flood,
        endpoints=OVERLOAD.needs,
        rounds=3,
        interval=0.7,
        mqtt=True,
        trim=_of_a_flood,
    ),
    "history": Scenario(
        "drill new_history: `history_away` before n2 is back, `history_ahead` after: it follows an empty leader and holds the messages",
        _history,
        ("2.11.11",),
    ),
    "history_outside": Scenario(
        "drill race, tried until a stream's only full copy is outside of its Raft group",
        _history_outside,
        ("2.10.26",),
        # Routes say nothing of such a copy, and the race is won too seldom to record it again for them.
        endpoints=STREAM_GROUPS.needs - {Endpoint.ROUTEZ},
    ),
    "standalone": Scenario(
        "drill from_standalone: n0 holds a stream that the cluster does not know",
        _whole(stream_drills.from_standalone),
        ("2.15.1",),
    ),
    "members": Scenario("two R3 streams and an R3 consumer, one member frozen for 12 s", _members, ("2.12.8",)),
    "peer": Scenario("what `nats audit gather` writes", peer, ("2.11.11",), hindrance=peer_is_missing),
}
"""By the name that its recordings begin with."""
