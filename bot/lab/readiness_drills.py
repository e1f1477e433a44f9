"""Drills of family A: a meta group that is behind because of load, because a server is frozen, or because a disk does not answer (drills.md 4).

Each takes a ready `LabCluster` and undoes its damage where its context ends.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from bot.lab.drills import create_consumer, create_stream, until
from bot.lab.http import http_client
from bot.lab.jetstream import ApiRefused, request
from bot.lab.meta import meta_view
from bot.lab.servers import LabCluster

BUILT_AT_ONCE: Final = 20
"""Streams that are created at a time; more only wait in the server's queue."""

PUBLISH_EVERY: Final = 0.02
"""Seconds between two bursts of messages."""

PAUSE_AFTER_REFUSAL: Final = 0.2
"""Seconds until a client that got no answer tries again; leaders move while a server is down."""

SILENT_FOR: Final = 10_000_000_000
"""Nanoseconds without a word from a member after which it counts as lost: Raft's lost-quorum interval (reference/nats.md 1.0)."""

TRAP: Final = "TRAP"
"""The stream whose creation never ends in `stuck_apply`."""

_BLOCKED_WITHIN: Final = 2.0
"""Seconds in which the request that creates `TRAP` would be answered, were it ever."""


@dataclass(slots=True)
class Load:
    """What runs against the cluster. `changes` counts what became entries of the meta group."""

    streams: tuple[str, ...]
    changes: int = 0
    messages: int = 0
    over: bool = False
    """Set at the end. Cancelling alone is not enough: `asyncio.wait_for` of Python 3.11 returns a result that arrives together with the cancellation."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])


@asynccontextmanager
async def load(cluster: LabCluster, *, streams: int = 40, churn: int = 40, rate: int = 500) -> AsyncGenerator[Load]:
    """R3 memory streams with a consumer each, `rate` messages a second, and `churn` clients that create and delete consumers without pause.

    Messages alone do not hurt the meta group; each consumer that comes or goes is an entry of it. The clients talk to the meta leader.
    """
    client = await cluster.connect(name=await cluster.wait_ready())
    made = Load(tuple(f"LOAD{number}" for number in range(streams)))
    try:
        gate = asyncio.Semaphore(BUILT_AT_ONCE)

        async def build(stream: str) -> None:
            async with gate:
                await create_stream(client, stream, 3, {"storage": "memory"})
                await until(lambda: _consumer(client, stream), f"stream {stream} got no consumer")

        await asyncio.gather(*map(build, made.streams))
        made.tasks += [asyncio.create_task(_churn(client, made, number)) for number in range(churn)]
        made.tasks.append(asyncio.create_task(_publish(client, made, rate)))
        yield made
    finally:
        made.over = True
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await client.close()


async def crash(cluster: LabCluster, down: float) -> str:
    """SIGKILL a follower of the meta group, and start it again after `down` seconds, without waiting for it to catch up. Returns its name."""
    victim = await follower(cluster)
    await cluster.kill(victim)
    await asyncio.sleep(down)
    await cluster.restart(victim, ready=False)
    return victim


@asynccontextmanager
async def frozen(cluster: LabCluster) -> AsyncGenerator[str]:
    """SIGSTOP a follower until the meta leader's list shows its silence: it answers nobody, and its connections stay open. Gives its name."""
    victim = await follower(cluster)
    await cluster.freeze(victim)

    async def missed() -> bool:
        views = await asyncio.gather(*(meta_view(http, cluster.monitor_url(name)) for name in cluster.answering))
        leading = [view for name, view in zip(cluster.answering, views, strict=True) if view and view.leader == name]
        return any(r.name == victim and r.active > SILENT_FOR for view in leading for r in view.replicas)

    try:
        async with http_client(2.0) as http:
            await until(missed, f"the meta leader goes on hearing {victim}")
        yield victim
    finally:
        await cluster.thaw(victim)


@asynccontextmanager
async def stuck_apply(cluster: LabCluster) -> AsyncGenerator[str]:
    """A follower whose meta layer hangs in a disk operation, as on a dead NFS mount, while its Raft node goes on receiving. Gives its name.

    An R1 stream is placed on it whose `index.db` is a FIFO: reading it ends when somebody writes. Everybody else is well, and counts it as current.
    """
    victim = await follower(cluster)
    fifo = cluster.directory / victim / "store" / "jetstream" / "APP" / "streams" / TRAP / "msgs" / "index.db"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    client = await cluster.connect(name=await cluster.wait_ready())
    placed = {"name": TRAP, "subjects": [f"{TRAP}.>"], "num_replicas": 1, "placement": {"tags": [f"node:{victim}"]}}
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(request(client, f"STREAM.CREATE.{TRAP}", placed), _BLOCKED_WITHIN)
            raise AssertionError(f"{victim} created {TRAP}: its disk did not hang")
        yield victim
    finally:
        # Opening the other end lets the server read on; it finds nothing, calls the index broken, removes it and goes on.
        with suppress(OSError):
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        await client.close()


async def lose_quorum(cluster: LabCluster) -> str:
    """SIGKILL all servers but one, and wait until that one knows no meta leader: up to 20 s after the loss it still names one (reference/nats.md 1.0)."""
    survivor = await follower(cluster)
    for name in cluster.names:
        if name != survivor:
            await cluster.kill(name)
    async with http_client(2.0) as http:

        async def alone() -> bool:
            view = await meta_view(http, cluster.monitor_url(survivor))
            return view is not None and not view.leader

        await until(alone, f"{survivor} still names a meta leader")
    return survivor


async def follower(cluster: LabCluster) -> str:
    """Returns a server that does not lead the meta group."""
    leader = await cluster.wait_ready()
    return next(name for name in cluster.names if name != leader)


async def _consumer(client: Client, stream: str) -> bool:
    """Whether the consumer is there now: a meta leader that has just been elected does not know the newest stream yet."""
    try:
        await create_consumer(client, stream, "worker")
    except (ApiRefused, TimeoutError):
        return False
    return True


async def _churn(client: Client, made: Load, number: int) -> None:
    """Creates and deletes consumers; whatever the cluster refuses while a server is down is tried again under another name."""
    turn = 0
    while not made.over:
        turn += 1
        stream, name = made.streams[(number + turn) % len(made.streams)], f"churn-{number}-{turn}"
        try:
            await create_consumer(client, stream, name)
            await request(client, f"CONSUMER.DELETE.{stream}.{name}")
            made.changes += 2
        except (ApiRefused, NatsError, TimeoutError):
            await asyncio.sleep(PAUSE_AFTER_REFUSAL)


async def _publish(client: Client, made: Load, rate: int) -> None:
    """Publishes without waiting for answers, `rate` messages a second over all streams."""
    started = time.monotonic()
    while not made.over:
        due = int((time.monotonic() - started) * rate)
        while made.messages < due:
            await client.publish(f"{made.streams[made.messages % len(made.streams)]}.new", b"x" * 100)
            made.messages += 1
        await asyncio.sleep(PUBLISH_EVERY)
