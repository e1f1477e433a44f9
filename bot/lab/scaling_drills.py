"""Drills of a change of replicas (family E): a server that can't make Raft directories, load that goes on meanwhile, and people who edit at the same time.

Sections of reference/drills.md are named.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from bot.lab.config import SYS
from bot.lab.drills import create_consumer, create_stream, publish, scale
from bot.lab.jetstream import ApiRefused, request, section, stream_views
from bot.lab.process import LabError
from bot.lab.servers import LabCluster
from bot.model import JsonObject

TRIES: Final = 4
"""How often a drill is tried whose window is 1 s."""

WRITABLE, READ_ONLY = 0o755, 0o555

YOUNG_CONSUMER: Final = 3.0
"""Seconds after which a member's refusal no longer deletes a consumer: up to 1 s it does on 2.10.26 and 2.11.2 where the holder does not lead the meta group,
from 2 s on it did not; on 2.12.8 never (6 runs each).
"""

PUBLISH_TIMEOUT: Final = 2.0
"""Seconds after which a publish without an answer counts as not acknowledged; it may be stored all the same."""

EDIT_TIMEOUT: Final = 2.0
"""Seconds that one edit may take; an election takes longer, and then it is tried again."""

DRAIN: Final = 15.0
"""Seconds in which a consumer must have delivered what was published before."""

LOAD_PAUSE: Final = 0.01
"""Seconds between two messages of the load."""


@asynccontextmanager
async def sick_disk(cluster: LabCluster, server: str) -> AsyncGenerator[None]:
    """The server can't create directories for Raft groups (drills.md 3.5); what is there goes on working, and no health check says a word.

    As root by `chattr +i`, which needs a file system that knows it; otherwise by a mode without write permission. Raises `LabError`.
    """
    folder = cluster.directory / server / "store" / "jetstream" / SYS.account / "_js_"
    await _writable(folder, writable=False)
    try:
        yield
    finally:
        await _writable(folder, writable=True)


async def _writable(folder: Path, *, writable: bool) -> None:
    if os.geteuid() != 0:
        await asyncio.to_thread(folder.chmod, WRITABLE if writable else READ_ONLY)
        return
    process = await asyncio.create_subprocess_exec(
        *("chattr", "-i" if writable else "+i", str(folder)), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise LabError(f"{folder} can't be made read-only: {said.decode(errors='replace').strip()}")


@asynccontextmanager
async def sick_scale_up(cluster: LabCluster, *, stream: str = "ORDERS", consumers: int = 4) -> AsyncGenerator[str]:
    """A stream goes from 1 to 3 replicas while one server can't make Raft groups (drills.md 3.5): its young consumers are deleted in the whole cluster.

    Gives the sick server, whose disk is well again at the end. Where a busy machine was too slow and the consumers survived, it is tried again. Raises
    `LabError`.
    """
    for _ in range(TRIES):
        client = await cluster.connect()
        try:
            leader = await cluster.wait_ready()
            holder, sick = (name for name in cluster.names if name != leader)
            # The answer of a member is an error to the meta leader only where that is another server than the holder.
            await create_stream(client, stream, 1, {"placement": {"tags": [f"node:{holder}"]}})
            await publish(client, stream, 20)
            async with sick_disk(cluster, sick):
                for number in range(consumers):
                    await create_consumer(client, stream, f"c{number}")
                await scale(client, stream, 3)
                await asyncio.sleep(YOUNG_CONSUMER)
                views = await stream_views(cluster, stream)
                if not any(view.consumer_detail for view in views.values()):
                    yield sick
                    return
            await request(client, f"STREAM.DELETE.{stream}")
            await cluster.restart(sick)
        finally:
            await client.close()
    raise LabError(f"the consumers survived {TRIES} times")


@dataclass
class Load:
    """Messages published one after another, and read by a consumer that acknowledges each."""

    acked: list[int] = field(default_factory=list[int])
    """Stream sequences of messages that the stream has confirmed, as often as it has."""
    received: set[int] = field(default_factory=set[int])
    repeated: int = 0
    unanswered: int = 0


@asynccontextmanager
async def load(cluster: LabCluster, stream: str, consumer: str) -> AsyncGenerator[Load]:
    """Publishes and consumes for as long as the block lasts, whatever happens to the servers; then what was confirmed has `DRAIN` seconds to arrive."""
    seen = Load()
    clients = [await cluster.connect(), await cluster.connect()]
    # Told to end, and not cancelled: up to Python 3.11 `wait_for` of a client's request may swallow that.
    full, over = asyncio.Event(), asyncio.Event()
    publishing = asyncio.create_task(_publish(clients[0], stream, seen, full))
    consuming = asyncio.create_task(_consume(clients[1], stream, consumer, seen, over))
    try:
        yield seen
        full.set()
        await publishing
        end = time.monotonic() + DRAIN
        while not seen.received.issuperset(seen.acked) and time.monotonic() < end:
            await asyncio.sleep(LOAD_PAUSE)
    finally:
        full.set()
        over.set()
        await asyncio.gather(publishing, consuming, return_exceptions=True)
        for client in clients:
            await client.close()


async def _publish(client: Client, stream: str, seen: Load, over: asyncio.Event) -> None:
    jetstream = JetStreamContext(client, timeout=PUBLISH_TIMEOUT)
    while not over.is_set():
        try:
            seen.acked.append((await jetstream.publish(f"{stream}.load", b"x")).seq)
        except (NatsError, JetStreamError, OSError):
            seen.unanswered += 1
        await asyncio.sleep(LOAD_PAUSE)


async def _consume(client: Client, stream: str, consumer: str, seen: Load, over: asyncio.Event) -> None:
    jetstream = JetStreamContext(client, timeout=PUBLISH_TIMEOUT)
    subscription = await jetstream.pull_subscribe_bind(durable=consumer, stream=stream)
    while not over.is_set():
        try:
            messages = await subscription.fetch(50, timeout=0.5)
            for message in messages:
                sequence = message.metadata.sequence.stream
                seen.repeated += sequence in seen.received
                seen.received.add(sequence)
                await message.ack()
        except (NatsError, JetStreamError, OSError):
            await asyncio.sleep(LOAD_PAUSE)


async def edit_metadata(client: Client, stream: str, key: str, value: str) -> bool:
    """One edit as other tools make it: read the configuration, change one field, write it back whole. False where it was not confirmed."""
    try:
        async with asyncio.timeout(EDIT_TIMEOUT):
            config = section(await request(client, f"STREAM.INFO.{stream}"), "config")
            metadata: JsonObject = {**section(config, "metadata"), key: value}
            await request(client, f"STREAM.UPDATE.{stream}", config | {"metadata": metadata})
    except (ApiRefused, NatsError, TimeoutError):
        return False
    return True
