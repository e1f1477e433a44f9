"""The drills of the incident families on servers of this machine, as scripts. What each expects was seen on real servers (reference/drills.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from bot.lab import drills, mesh_drills, overload_drills, readiness_drills, scaling_drills, stream_drills
from bot.lab.drills import Drill
from bot.lab.script import Expect, Fault, Script
from bot.lab.servers import LabCluster
from bot.lab.site import Site, finds, never_worse_than, offers, root, stage
from bot.lab.stuck_consumer import ROOM
from bot.model import Focus, Severity

VERSION: Final = "2.11.11"
"""On which every one of these incidents happens."""
STUCK, MESH, OVERLOAD, READINESS, STREAMS = "STUCK_CONSUMER", "ROUTE_MESH", "OVERLOAD", "READINESS", "STREAM_GROUPS"
WORKER: Final = Focus(account="APP", stream="ORDERS", consumer="worker")
OK, WARNING = Severity.OK, Severity.WARNING
RAFT_GIVES_UP: Final = 10.0
"""Seconds after which a leader that hears no majority has lost its quorum (nats-server server/raft.go)."""
CONNECTED_AT: Final = 120
"""MQTT clients that all hang on one server."""


# Faults.


def made(drill: Callable[[LabCluster], Awaitable[Drill]]) -> Callable[[Site], Awaitable[str]]:
    """A drill that leaves a stream and a worker."""

    async def do(site: Site) -> str:
        site.drill = await drill(site.cluster)
        site.victim = next(iter(site.drill.sick), "")
        worker = site.drill.worker
        told = f"stream {site.drill.stream}, {site.drill.published} messages, {len(worker.acked)} of them done"
        return f"{told}; sick: {', '.join(site.drill.sick)}" if site.drill.sick else told

    return do


def lasting(context: Callable[[LabCluster], AbstractAsyncContextManager[object]]) -> Callable[[Site], Awaitable[str]]:
    """Damage that lasts until `end`. What the context gives is the server it is about, where that is a name."""

    async def do(site: Site) -> str:
        given = await site.enter(context(site.cluster))
        site.victim = given if isinstance(given, str) else ""
        return site.victim

    return do


async def end(site: Site) -> str:
    """End the damage that lasts."""
    await site.leave()
    return ""


async def room_again(site: Site) -> str:
    if site.drill is not None:
        await drills.remove_decoys(site.cluster, site.drill)
    return "the decoys are deleted"


async def restart_victim(site: Site) -> str:
    await site.cluster.terminate(site.victim)
    await site.cluster.restart(site.victim)
    return site.victim


async def start_victim(site: Site) -> str:
    await site.cluster.restart(site.victim, ready=False)
    return site.victim


async def start_all(site: Site) -> str:
    away = [name for name in site.cluster.names if name not in site.cluster.answering]
    await asyncio.gather(*(site.cluster.restart(name, ready=False) for name in away))
    return ", ".join(away)


async def history_anew(site: Site) -> str:
    names = await stream_drills.new_history(site.cluster, streams=1)
    site.victim = stream_drills.VICTIM
    return f"{', '.join(names)} is led by a member without a message"


async def mesh_repaired(site: Site) -> str:
    await mesh_drills.repair(site.cluster)
    return "every server lists every other one, and has loaded it"


def named(drill: Callable[[LabCluster], Awaitable[str]]) -> Callable[[Site], Awaitable[str]]:
    """A drill that is about one server."""

    async def do(site: Site) -> str:
        site.victim = await drill(site.cluster)
        return site.victim

    return do


def pairs(drill: Callable[[LabCluster], Awaitable[frozenset[frozenset[str]]]]) -> Callable[[Site], Awaitable[str]]:
    """A drill of routes: the pairs without one."""

    async def do(site: Site) -> str:
        return "no route: " + ", ".join(sorted("–".join(sorted(pair)) for pair in await drill(site.cluster)))

    return do


# Scripts.

CONSUMERS: Final = (
    Script(
        "ghost-split",
        "a consumer loses its Raft node on one server, and that server leads it alone (family E)",
        "reference/drills.md 3.3, 3.4 (B)",
        stage(VERSION, limits={"n1": ROOM}),
        (
            Fault(
                "ORDERS is scaled to 3 replicas while n1 has no room for another Raft group", made(drills.ghost_split)
            ),
            Expect("the limit is the root", root(STUCK, "HA_ASSETS", focus=WORKER)),
            Expect("n1 lacks the Raft node", finds(STUCK, "CONSUMER_NODE", on_victim=True, focus=WORKER)),
            Fault("n1 gets room again", room_again),
            Expect("the damage stays", finds(STUCK, "CONSUMER_NODE", on_victim=True, focus=WORKER), holds=6.0),
            Expect("recreation is offered", offers(STUCK, "Delete consumer worker and create it again", focus=WORKER)),
            Fault("n1 is restarted, which makes the missing Raft node", restart_victim),
            Expect("every member has its Raft node", finds(STUCK, "CONSUMER_NODE", OK, focus=WORKER)),
            Expect("one server leads", finds(STUCK, "CONSUMER_SPLIT", OK, focus=WORKER)),
        ),
    ),
    Script(
        "leaderless",
        "an R3 stream and its consumer lose their quorum: two of three members die (family E)",
        "reference/drills.md 3.6",
        stage(VERSION, size=5),
        (
            Fault("two of the three members are killed", made(drills.leaderless)),
            Expect("the stream has no quorum", finds(STUCK, "STREAM_QUORUM"), latest=2 * RAFT_GIVES_UP),
            Expect("its consumer has no leader", finds(STUCK, "CONSUMER_LEADER"), latest=2 * RAFT_GIVES_UP),
            Fault("one of them is started again", start_victim),
            Expect("the stream has its quorum again", finds(STUCK, "STREAM_QUORUM", OK), latest=20),
            Expect("its consumer has a leader again", finds(STUCK, "CONSUMER_LEADER", OK), latest=20),
        ),
    ),
    Script(
        "ack-pending",
        "a client took all it may and acknowledges nothing: a client's problem (family E, a decoy)",
        "reference/nats.md 1.E",
        stage(VERSION),
        (
            Fault("a client takes max_ack_pending messages", made(drills.stuck_ack_pending)),
            Expect("its client is what to look at", offers(STUCK, "Look at the clients of consumer", focus=WORKER)),
            Expect("nothing is worse than a warning", never_worse_than(STUCK, WARNING, focus=WORKER), holds=5.0),
        ),
    ),
    Script(
        "no-pulls",
        "messages wait and nobody asks for them (family E, a decoy)",
        "reference/nats.md 1.E",
        stage(VERSION),
        (
            Fault("messages are published and nobody pulls", made(drills.no_pulls)),
            Expect("its client is what to look at", offers(STUCK, "Look at the clients of consumer", focus=WORKER)),
            Expect("nothing is worse than a warning", never_worse_than(STUCK, WARNING, focus=WORKER), holds=5.0),
        ),
    ),
    Script(
        "paused",
        "somebody has paused a consumer on purpose (family E, a decoy)",
        "reference/nats.md 1.E.3",
        stage(VERSION),
        (
            Fault("a consumer is made that is paused for an hour", made(drills.paused)),
            Expect("nothing is worse than a warning", never_worse_than(STUCK, WARNING, focus=WORKER), holds=5.0),
        ),
    ),
)

ROUTES: Final = (
    Script(
        "mesh-advertise",
        "servers advertise an address where nobody listens (family C)",
        "reference/drills.md 2",
        stage(VERSION, over_http=True),
        (
            Fault("n1 and n2 know only n0 and advertise a wrong address", pairs(mesh_drills.wrong_advertise)),
            Expect("the lists of routes are the root", root(MESH, "MESH_LISTS")),
            Expect("the pairs without a route are named", finds(MESH, "MESH_PAIRS")),
            Expect("the repair is a list of all", offers(MESH, "List every server in cluster.routes")),
            Fault("every server lists every other", mesh_repaired),
            Expect("the mesh is whole", never_worse_than(MESH, OK), latest=15),
        ),
    ),
    Script(
        "mesh-islands",
        "two clusters of one name that do not know each other (family C)",
        "reference/drills.md 2",
        stage(VERSION, over_http=True),
        (
            Fault("n0 and n1 list only each other, and n2 only itself", pairs(mesh_drills.islands)),
            Expect("the islands are the root", root(MESH, "MESH_ISLANDS")),
            Fault("every server lists every other", mesh_repaired),
            Expect("the mesh is whole", never_worse_than(MESH, OK), latest=15),
        ),
    ),
    Script(
        "mesh-cut",
        "a route that gossip made is cut once and never comes back (family C)",
        "reference/drills.md 2",
        stage(VERSION, over_http=True),
        (
            Fault("the network between n1 and n2 fails for 2 s", lasting(mesh_drills.cut_route)),
            Expect("the pair is named", finds(MESH, "MESH_PAIRS"), holds=5.0),
            Fault("every server lists every other", mesh_repaired),
            Expect("the mesh is whole", never_worse_than(MESH, OK), latest=15),
        ),
    ),
)

LOAD: Final = (
    Script(
        "api-flood",
        "a client asks JetStream faster than the meta leader answers (family D)",
        "reference/drills.md 5",
        stage(VERSION),
        (
            Fault(
                "a loop asks for consumers' names without waiting",
                lasting(lambda cluster: overload_drills.api_flood(cluster, backlog=3000, growth=800)),
            ),
            Expect("the API queue is the root", root(OVERLOAD, "OVERLOAD_API_QUEUE"), latest=8),
            Fault("the loop ends", end),
            Expect("the queues are empty again", never_worse_than(OVERLOAD, OK), latest=20),
        ),
    ),
    Script(
        "mqtt-crowd",
        "all MQTT clients hang on one server (family D)",
        "reference/drills.md 5",
        stage(VERSION, mqtt=True),
        (
            Fault(
                f"{CONNECTED_AT} devices connect to n0",
                lasting(lambda cluster: overload_drills.mqtt_devices(cluster, {"n0": CONNECTED_AT})),
            ),
            Expect("the crowd is the root", root(OVERLOAD, "OVERLOAD_MQTT_CLIENTS")),
            Expect("spreading them is offered", offers(OVERLOAD, "Spread the MQTT clients over the servers")),
        ),
    ),
)

META: Final = (
    Script(
        "frozen-follower",
        "a server is frozen: its connections stay open and it answers nobody (family A)",
        "reference/drills.md 4",
        stage(VERSION),
        (
            Fault("a follower of the meta group is stopped with SIGSTOP", lasting(readiness_drills.frozen)),
            Expect("the meta leader misses it", finds(READINESS, "META_PEERS", on_victim=True), latest=10),
            Expect("its restart is offered", offers(READINESS, "Restart server")),
            Fault("it goes on", end),
            Expect("nothing is wrong any more", never_worse_than(READINESS, OK), latest=25),
        ),
    ),
    Script(
        "stuck-apply",
        "a follower's disk hangs: it receives and applies nothing (family A)",
        "reference/drills.md 4",
        stage(VERSION),
        (
            Fault("a stream is made on a follower whose file can't be read", lasting(readiness_drills.stuck_apply)),
            Expect("its gap does not move", finds(READINESS, "META_GAP", on_victim=True)),
            Fault("the disk answers again", end),
            Expect("the gap is closed", finds(READINESS, "META_GAP", OK), latest=20),
        ),
    ),
    Script(
        "lost-quorum",
        "only one of three servers is left (family A): its probes fail for a reason",
        "reference/nats.md 1.0",
        stage(VERSION),
        (
            Fault("all servers but one are killed", named(readiness_drills.lose_quorum)),
            Expect("the lost majority is the root", root(READINESS, "META_MARGIN")),
            Expect(
                "the probes are left alone", offers(READINESS, "Bring the meta leader back and leave the probes alone")
            ),
            Fault("they are started again", start_all),
            Expect("the meta group is whole", never_worse_than(READINESS, OK)),
        ),
    ),
    Script(
        "two-of-two",
        "one of two members dies, which two replicas do not survive (family E)",
        "reference/drills.md 3.6",
        stage(VERSION),
        (
            Fault("one member of an R2 stream is killed", named(stream_drills.two_of_two)),
            Expect("the stream has no quorum", finds(STREAMS, "STREAM_QUORUM"), latest=2 * RAFT_GIVES_UP),
            Fault("it is started again", start_victim),
            Expect("the stream has its quorum again", finds(STREAMS, "STREAM_QUORUM", OK), latest=20),
        ),
    ),
)

SCALING: Final = (
    Script(
        "new-history",
        "the only holder dies in a scale-up, and the empty members begin a history of their own (family E)",
        "reference/drills.md 3.2",
        stage(VERSION),
        (
            Fault("n2 is killed 50 ms after its stream got 3 replicas", history_anew),
            Expect("the missing holder is told", finds(STREAMS, "STREAM_TIMELINE", WARNING), latest=15),
            Fault("n2 is started again", start_victim),
            Expect("two histories are told", finds(STREAMS, "STREAM_TIMELINE", on_victim=True), latest=15),
            Expect("its rescue is offered", offers(STREAMS, "Let n2 lead stream S0"), latest=15),
        ),
    ),
    Script(
        "sick-disk",
        "a server that can't write gets a copy, and the stream's consumers are deleted everywhere (family E)",
        "reference/drills.md 3.5",
        stage("2.11.2"),
        (
            Fault(
                "ORDERS is scaled to 3 replicas while a server can't make directories",
                lasting(scaling_drills.sick_scale_up),
            ),
            Expect("the server lacks its copy", finds(STREAMS, "STREAM_NODE", on_victim=True), latest=15),
            Expect("its restart is offered", offers(STREAMS, "Restart server"), latest=15),
            Fault("its disk is well again", end),
            Fault("it is restarted", restart_victim),
            Expect("every member holds the stream", finds(STREAMS, "STREAM_NODE", OK), latest=20),
        ),
    ),
)

SCRIPTS: Final = (*CONSUMERS, *ROUTES, *LOAD, *META, *SCALING)
