"""Drills: ways to really break JetStream, each with the section of reference/drills.md that it comes from.

Every drill works on a ready `LabCluster`, does its damage with the servers' own means, and returns what it made, so
that a test or the demo can tell afterwards what must still be delivered.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError

from bot.lab.config import APP, SYS, Login
from bot.lab.jetstream import ApiRefused, Servers, consumer_views, request, section, stream_views
from bot.lab.servers import POLL_INTERVAL, LabCluster, LabError
from bot.model import JsonObject

SETTLE_TIMEOUT: Final = 30.0
"""Seconds a cluster may take to reach the state a drill waits for; stream scale-ups take 6 to 10 (drills.md 3.1)."""

FETCH_TIMEOUT: Final = 5.0
"""Seconds a pull waits for messages that are there."""

ANSWER_TIMEOUT: Final = 15.0
"""Seconds a publish or an acknowledgement waits for its answer; a busy machine with several clusters needs more than nats-py's 5."""
ACK_TRIES: Final = 5
"""How often an acknowledgement is said within that time."""

NO_PEERS: Final = 10005
"""JetStream's err_code for "no suitable peers for placement" (reference/nats.md 3.3)."""

STREAM_NOT_FOUND: Final = 10059
"""JetStream's err_code (reference/nats.md 3.4)."""

FLUSH_DELAY: Final = 2.0
"""Seconds before an R1 holder is killed: it writes its position to disk behind the acknowledgements."""

SICK_SERVER: Final = "n1"
"""Where `ghost_split` does its damage; give it a `max_ha_assets`."""

HOLDER: Final = "n0"
"""Where a drill's R1 stream lives at first."""

DECOY: Final = "TENANTS"

_LEADERLESS_SERVERS: Final = 5

_OWN_RAFT_GROUPS: Final = 2
"""Raft groups on every server before a decoy consumer: the meta group and the decoy stream."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A consumer that has worked for a while, and what is left for it."""

    name: str
    acked: tuple[int, ...]
    unacked: tuple[int, ...]
    floor: int
    """Stream sequence below and at which everything is acknowledged."""

    @property
    def acked_above_floor(self) -> tuple[int, ...]:
        """Acknowledged messages that a consumer recreated at floor + 1 delivers once more (drills.md 3.4, C)."""
        return tuple(seq for seq in self.acked if seq > self.floor)


@dataclass(frozen=True, slots=True)
class Drill:
    """What a drill has made."""

    stream: str
    published: int
    workers: tuple[Worker, ...]
    sick: tuple[str, ...] = ()
    """Servers that the damage is on."""
    decoys: tuple[str, ...] = field(default=())
    """Streams that only use room up."""

    @property
    def worker(self) -> Worker:
        return self.workers[0]


async def ghost_split(
    cluster: Servers,
    *,
    sick: str = SICK_SERVER,
    holder: str = HOLDER,
    groups: int = 0,
    stream: str = "ORDERS",
    consumers: Sequence[str] = ("worker",),
    published: int = 200,
    floor: int = 50,
    fetched: int = 60,
    stream_config: JsonObject | None = None,
    consumer_config: JsonObject | None = None,
) -> Drill:
    """`group node missing` with a ghost leader on `sick` (drills.md 3.3), in a form whose cause can be taken away.

    That server must have a `max_ha_assets` of 3 or more than the `groups` of streams and consumers that are on it already.
    Decoys fill it until exactly one more Raft group fits; the stream, at first on `holder` alone, takes that place when it
    goes from 1 to 3 replicas, and none of its consumers gets one there. The sick server then serves them without a Raft
    node, as their leader, from position 0. `remove_decoys` makes room again; the damage stays. The two configs are further
    keys of the stream's and the consumers' configuration. Raises `LabError`, on 2.15.1 always: there the limit does no
    such harm.
    """
    limit = cluster.max_ha_assets(sick) - groups
    if limit < _OWN_RAFT_GROUPS + 1:
        raise LabError(f"the drill needs a max_ha_assets of {_OWN_RAFT_GROUPS + 1 + groups} or more on {sick}")
    async with _client(cluster, holder) as client:
        await move_meta_leader_off(cluster, sick)
        # The server compares before it creates, with "more than": it holds limit + 1 groups, the meta group included.
        decoy = await _create_decoy(client, cluster, limit - 1)
        pinned: JsonObject = {"placement": {"tags": [cluster.tag(holder)]}}
        await create_stream(client, stream, 1, pinned | (stream_config or {}))
        for name in consumers:
            await create_consumer(client, stream, name, consumer_config)
        await publish(client, stream, published)
        workers = [await _work(client, stream, name, floor, fetched) for name in consumers]
        await scale(client, stream, 3)
        drill = Drill(stream, published, tuple(workers), sick=(sick,), decoys=(decoy,))
        await until(lambda: _split(cluster, drill), "no ghost leader appeared")
        return drill


async def remove_decoys(cluster: Servers, drill: Drill) -> None:
    """Takes the cause of `ghost_split` away: n1 has room for Raft groups again."""
    async with _client(cluster) as client:
        for decoy in drill.decoys:
            await request(client, f"STREAM.DELETE.{decoy}")


async def leaderless(
    cluster: LabCluster,
    *,
    stream: str = "ORDERS",
    consumer: str = "worker",
    published: int = 200,
    floor: int = 50,
    fetched: int = 60,
) -> Drill:
    """An R3 stream and its consumer lose their quorum because two of three members die (drills.md 3.6, E3).

    Needs 5 servers, so that the meta group keeps 3. `drill.sick` are the killed followers; starting one of them
    repairs it within 2 s. `CONSUMER.INFO` first times out and answers 10008 only after about 12 s; `/healthz` stays
    ok. Raises `LabError`.
    """
    if len(cluster.names) < _LEADERLESS_SERVERS:
        raise LabError(f"the drill needs {_LEADERLESS_SERVERS} servers, of which two can die, not {len(cluster.names)}")
    return await _kill_members(cluster, stream, consumer, published, floor, fetched, consumer_replicas=0)


async def leaderless_single(
    cluster: LabCluster,
    *,
    stream: str = "ORDERS",
    consumer: str = "worker",
    published: int = 200,
    floor: int = 50,
    fetched: int = 60,
) -> Drill:
    """An R1 consumer on an R3 stream whose only holder dies (drills.md 3.6): the stream goes on, the consumer has
    nobody.

    Three servers are enough. `drill.sick` is the killed holder; starting it repairs the consumer with its position.
    """
    return await _kill_members(cluster, stream, consumer, published, floor, fetched, consumer_replicas=1)


async def stuck_ack_pending(
    cluster: LabCluster,
    *,
    stream: str = "ORDERS",
    consumer: str = "worker",
    published: int = 50,
    max_ack_pending: int = 10,
) -> Drill:
    """A client that took `max_ack_pending` messages and never acknowledges: nothing more is delivered, and every
    server is healthy.

    A client's problem, so the bot must not recreate anything (reference/nats.md 1.E). Messages do not come back:
    ack_wait is an hour.
    """
    async with _client(cluster) as client:
        await create_stream(client, stream, _replicas(cluster))
        limits: JsonObject = {"max_ack_pending": max_ack_pending, "ack_wait": _nanoseconds(timedelta(hours=1))}
        await create_consumer(client, stream, consumer, limits)
        await publish(client, stream, published)
        taken = await fetch(client, stream, consumer, max_ack_pending)
        return Drill(stream, published, (Worker(consumer, (), tuple(sorted(taken)), 0),))


async def no_pulls(
    cluster: LabCluster, *, stream: str = "ORDERS", consumer: str = "worker", published: int = 50
) -> Drill:
    """Messages wait and no client asks for them: num_pending grows, num_waiting is 0, every server is healthy."""
    async with _client(cluster) as client:
        await create_stream(client, stream, _replicas(cluster))
        await create_consumer(client, stream, consumer)
        await publish(client, stream, published)
        return Drill(stream, published, (Worker(consumer, (), (), 0),))


async def paused(
    cluster: LabCluster,
    *,
    stream: str = "ORDERS",
    consumer: str = "worker",
    published: int = 50,
    pause: timedelta = timedelta(hours=1),
) -> Drill:
    """A consumer that somebody has paused on purpose (2.11 and later): it looks stuck and must be left alone.

    Raises `LabError` on 2.10, which ignores the key.
    """
    async with _client(cluster) as client:
        await create_stream(client, stream, _replicas(cluster))
        until = (datetime.now(UTC) + pause).isoformat()
        await create_consumer(client, stream, consumer, {"pause_until": until})
        await publish(client, stream, published)
        info = await request(client, f"CONSUMER.INFO.{stream}.{consumer}")
        if not info.get("paused"):
            raise LabError("the server did not pause the consumer: pause_until needs 2.11 or later")
        return Drill(stream, published, (Worker(consumer, (), (), 0),))


async def move_meta_leader_off(cluster: Servers, server: str) -> str:
    """Makes another server the meta leader and returns its name. The meta leader checks placement against its own
    limits, so one with a limit of its own would refuse what a drill needs accepted.
    """
    async with _client(cluster, login=SYS) as client:
        async with asyncio.timeout(SETTLE_TIMEOUT):
            while (leader := await cluster.wait_ready()) == server:
                await request(client, "META.LEADER.STEPDOWN")
                await asyncio.sleep(POLL_INTERVAL)
        return leader


async def create_stream(client: Client, name: str, replicas: int, config: JsonObject | None = None) -> None:
    """Creates a file stream on `name.>`; `config` overrides and adds keys.

    Asks again while the meta leader finds no peers: it takes one for offline while routes of a young cluster are exchanged. Returns once
    the stream has a leader.
    """
    wanted: JsonObject = {"name": name, "subjects": [f"{name}.>"], "storage": "file", "num_replicas": replicas}

    async def created() -> bool:
        try:
            await request(client, f"STREAM.CREATE.{name}", wanted | (config or {}))
        except TimeoutError:
            return False  # a young cluster may lose a request; the same create twice gives one stream
        except ApiRefused as refusal:
            if refusal.code != NO_PEERS:
                raise
            return False
        return True

    async def led() -> bool:
        try:
            return bool(section(await request(client, f"STREAM.INFO.{name}"), "cluster").get("leader"))
        except (ApiRefused, TimeoutError):
            return False

    await until(created, f"no servers took stream {name}")
    # Until a leader is elected, a publish finds no responders.
    await until(led, f"stream {name} got no leader")


async def create_consumer(client: Client, stream: str, name: str, config: JsonObject | None = None) -> None:
    """Creates a durable, explicitly acknowledged pull consumer; `config` overrides and adds keys (durations in ns).

    A new stream's leader answers when the stream stands; the meta leader, which answers here, may be about to read of it.
    """
    wanted: JsonObject = {"name": name, "durable_name": name, "ack_policy": "explicit", "deliver_policy": "all"}
    body: JsonObject = {"stream_name": stream, "action": "create", "config": wanted | (config or {})}
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while True:
        try:
            await request(client, f"CONSUMER.CREATE.{stream}.{name}", body)
        except ApiRefused as refused:
            if refused.code != STREAM_NOT_FOUND or time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_INTERVAL)
        else:
            return


async def publish(client: Client, stream: str, count: int) -> None:
    """Publishes `count` messages and waits for the stream's answer to each."""
    jetstream = JetStreamContext(client, timeout=ANSWER_TIMEOUT)
    for number in range(1, count + 1):
        await jetstream.publish(f"{stream}.new", json.dumps({"order": number}).encode())


async def scale(client: Client, stream: str, replicas: int) -> None:
    """Changes the number of replicas and drops placement, which would leave no room for more than one."""
    info = await request(client, f"STREAM.INFO.{stream}")
    config = {key: value for key, value in section(info, "config").items() if key != "placement"}
    await request(client, f"STREAM.UPDATE.{stream}", config | {"num_replicas": replicas})


async def _kill_members(
    cluster: LabCluster, stream: str, consumer: str, published: int, floor: int, fetched: int, *, consumer_replicas: int
) -> Drill:
    async with _client(cluster) as client:
        await create_stream(client, stream, 3)
        await create_consumer(client, stream, consumer, {"num_replicas": consumer_replicas})
        await publish(client, stream, published)
        worker = await _work(client, stream, consumer, floor, fetched)
        group = section(await request(client, f"STREAM.INFO.{stream}"), "cluster")
        if consumer_replicas == 1:
            group = section(await request(client, f"CONSUMER.INFO.{stream}.{consumer}"), "cluster")
            victims = [str(group["leader"])]
            await asyncio.sleep(FLUSH_DELAY)
        else:
            victims = [str(peer["name"]) for peer in group["replicas"]]
        for victim in victims:
            await cluster.kill(victim)
        return Drill(stream, published, (worker,), sick=tuple(victims))


async def _create_decoy(client: Client, cluster: Servers, groups: int) -> str:
    """An R3 stream and consumers that take `groups` Raft groups on every server; returns once all servers hold them."""
    await create_stream(client, DECOY, 3)
    names = [f"tenant-{number}" for number in range(1, groups)]
    for name in names:
        await create_consumer(client, DECOY, name)

    async def held() -> bool:
        views = await stream_views(cluster, DECOY)
        return len(views) == len(cluster.answering) and all(
            len(v.consumer_detail) == len(names) for v in views.values()
        )

    await until(held, f"the servers did not all take {groups} Raft groups of {DECOY}")
    return DECOY


async def _work(client: Client, stream: str, consumer: str, floor: int, fetched: int) -> Worker:
    """Fetches `fetched` messages and acknowledges the first `floor` and every third one above floor + 1."""
    messages = await take(client, stream, consumer, fetched)
    wanted = {seq for seq in messages if seq <= floor or (seq - floor) % 3 == 0}
    for seq in sorted(wanted):
        await acknowledge(messages[seq])
    return Worker(consumer, tuple(sorted(wanted)), tuple(sorted(set(messages) - wanted)), floor)


async def fetch(client: Client, stream: str, consumer: str, count: int, wait: float = FETCH_TIMEOUT) -> dict[int, Msg]:
    """Pulls up to `count` messages and returns them by stream sequence, without acknowledging any.

    Asks again for `wait` seconds where nobody takes requests for the consumer: its group is electing, or its new leader's interest has not come to the
    client's server yet (503, no responders). Raises `ServiceUnavailableError` after that.
    """
    subscription = await JetStreamContext(client).pull_subscribe_bind(durable=consumer, stream=stream)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                got = await subscription.fetch(count, timeout=wait)
            except TimeoutError:
                return {}
            except ServiceUnavailableError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(POLL_INTERVAL)
            else:
                return {message.metadata.sequence.stream: message for message in got}
    finally:
        await subscription.unsubscribe()


async def take(client: Client, stream: str, consumer: str, count: int) -> dict[int, Msg]:
    """Pulls exactly `count` messages, however few come at a time, and returns them by stream sequence. Raises `LabError`."""
    taken: dict[int, Msg] = {}
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while len(taken) < count:
        if time.monotonic() > deadline:
            raise LabError(f"consumer {consumer} of {stream} delivered {len(taken)} of {count} messages")
        taken |= await fetch(client, stream, consumer, count - len(taken))
    return taken


async def acknowledge(message: Msg) -> None:
    """Acknowledges, and again where nobody confirms it: during an election it is lost. Raises `LabError`."""
    for _ in range(ACK_TRIES):
        with suppress(NatsError):
            await message.ack_sync(timeout=ANSWER_TIMEOUT / ACK_TRIES)
            return
    raise LabError(f"nobody confirms the acknowledgement of message {message.metadata.sequence.stream}")


async def _split(cluster: Servers, drill: Drill) -> bool:
    """Whether every sick server leads every worker alone, while the others agree on another leader and on one
    position.
    """
    copies = await stream_views(cluster, drill.stream)
    if len(copies) != len(cluster.answering) or {copy.state.last_seq for copy in copies.values()} != {drill.published}:
        return False  # a replica that is still catching up would look empty to whoever repairs the consumer
    for worker in drill.workers:
        views = await consumer_views(cluster, drill.stream, worker.name)
        sound = [view for server, view in views.items() if server not in drill.sick]
        if (
            len(views) != len(cluster.answering)
            or len({(view.leader, view.ack_floor.stream_seq) for view in sound}) != 1
        ):
            return False
        if (
            not sound[0].leader
            or sound[0].leader in drill.sick
            or any(views[name].leader != name for name in drill.sick)
        ):
            return False
    return True


@asynccontextmanager
async def _client(cluster: Servers, server: str | None = None, login: Login = APP) -> AsyncGenerator[Client]:
    client = await cluster.connect(login, server)
    try:
        yield client
    finally:
        await client.close()


def _replicas(cluster: LabCluster) -> int:
    return min(3, len(cluster.names))


def _nanoseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1e9)


async def until(condition: Callable[[], Awaitable[bool]], failure: str) -> None:
    """Waits for a condition of the cluster. Raises `LabError` that begins with `failure` after `SETTLE_TIMEOUT`."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while not await condition():
        if time.monotonic() > deadline:
            raise LabError(f"{failure} within {SETTLE_TIMEOUT:.0f} s")
        await asyncio.sleep(POLL_INTERVAL)
