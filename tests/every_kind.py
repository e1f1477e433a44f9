"""Streams and consumers of every kind on one healthy cluster, with clients at work: what recordings and tests for false alarms look at."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from bot.lab import drills
from bot.lab.jetstream import consumer_views
from bot.lab.servers import LabCluster
from bot.model import JsonObject

BATCH: Final = 20
"""Messages that one pull asks for."""

PULL_SECONDS: Final = 2.0
"""How long one pull request waits; the next one follows at once, so that someone always asks."""

GROUPS_SINCE: Final = (2, 11)
"""First line with priority groups and paused consumers."""

METADATA: Final = {
    "io.nats.monitor.enabled": "true",
    "io.nats.monitor.peer-expect": "3",
    "io.nats.monitor.peer-lag-critical": "1000",
}

STREAMS: Final[Mapping[str, tuple[int, JsonObject]]] = {
    "ORDERS": (3, {"max_msgs": 100_000, "max_bytes": 10_000_000, "max_consumers": 50, "metadata": METADATA}),
    "SESSIONS": (3, {"storage": "memory", "retention": "interest"}),
    "JOBS": (3, {"retention": "workqueue", "discard": "new", "max_age": 3_600_000_000_000}),
    "SINGLE": (1, {"compression": "s2"}),
    "COPY": (3, {"mirror": {"name": "ORDERS"}, "subjects": None}),
    "ALL": (1, {"sources": [{"name": "ORDERS"}, {"name": "SINGLE"}], "subjects": None}),
    "KV_settings": (3, {"subjects": ["$KV.settings.>"], "max_msgs_per_subject": 5, "allow_direct": True}),
    "ZÄHLER": (3, {"subject_transform": {"src": "ZÄHLER.>", "dest": "ZÄHLER.x.>"}}),
}
"""Replicas and further keys; the rest is `bot.lab.drills.create_stream`'s."""

PUBLISHED: Final = ("ORDERS", "SESSIONS", "JOBS", "SINGLE", "ZÄHLER")
"""Streams that clients publish to; the others fill from these."""

PULL: Final[Mapping[tuple[str, str], JsonObject]] = {
    ("ORDERS", "worker"): {"metadata": {"io.nats.monitor.enabled": "true"}},
    ("ORDERS", "one-holder"): {"num_replicas": 1},
    ("ORDERS", "in-memory"): {"mem_storage": True, "filter_subjects": ["ORDERS.new", "ORDERS.old"]},
    ("ORDERS", "up-to-here"): {"ack_policy": "all", "max_ack_pending": 500},
    ("ORDERS", "ephemeral"): {"durable_name": None, "inactive_threshold": 600_000_000_000},
    ("SESSIONS", "interested"): {},
    ("JOBS", "taker"): {"filter_subject": "JOBS.>"},
    ("SINGLE", "only"): {},
    ("COPY", "reader"): {"ack_policy": "none"},
    ("ZÄHLER", "zähler"): {},
}
"""Consumers that workers pull from."""

PINNED: Final = ("ORDERS", "pinned")
PINNED_CONFIG: Final[JsonObject] = {"priority_groups": ["a"], "priority_policy": "pinned_client"}

PAUSED: Final = ("SINGLE", "paused")
"""A consumer that nobody may call stuck: its owner has paused it."""

PUSH: Final[Mapping[tuple[str, str], JsonObject]] = {
    ("ORDERS", "pushed"): {"deliver_subject": "deliver.pushed", "deliver_group": "pushers"},
    ("SINGLE", "alone"): {"deliver_subject": "deliver.alone", "flow_control": True, "idle_heartbeat": 5_000_000_000},
}
"""Consumers that deliver to a bound subscriber."""


@asynccontextmanager
async def every_kind(cluster: LabCluster) -> AsyncGenerator[Client]:
    """Make all streams and consumers, and keep clients at work on them while the block runs. Gives a client once all messages are worked off."""
    client = await cluster.connect()
    workers: list[asyncio.Task[None]] = []
    try:
        await _create(client, cluster)
        for config in PUSH.values():
            await client.subscribe(config["deliver_subject"], config.get("deliver_group", ""), cb=_acknowledge)
        workers = [asyncio.create_task(_work(client, *key)) for key in _pulled(cluster)]
        await asyncio.gather(*(drills.publish(client, stream, 2 * BATCH) for stream in PUBLISHED))
        for stream, consumer in _pulled(cluster):
            await drills.until(lambda s=stream, c=consumer: _idle(cluster, s, c), f"{stream} > {consumer} is not idle")
        yield client
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await client.close()


async def _create(client: Client, cluster: LabCluster) -> None:
    for derived in (False, True):  # a mirror is made after its origin
        made = {name: kind for name, kind in STREAMS.items() if (kind[1].get("subjects", "") is None) is derived}
        await asyncio.gather(*(drills.create_stream(client, name, *kind) for name, kind in made.items()))
    consumers = {**PULL, **PUSH}
    if _has_groups(cluster):
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        consumers |= {PINNED: PINNED_CONFIG, PAUSED: {"pause_until": until}}
    await asyncio.gather(*(drills.create_consumer(client, *key, config) for key, config in consumers.items()))


def _pulled(cluster: LabCluster) -> Iterator[tuple[str, str]]:
    yield from PULL
    if _has_groups(cluster):
        yield PINNED


def _has_groups(cluster: LabCluster) -> bool:
    oldest = min(tuple(map(int, cluster.version(name).split(".")[:2])) for name in cluster.names)
    return oldest >= GROUPS_SINCE


async def _acknowledge(message: Msg) -> None:
    """Acknowledge a message, or answer the server's flow control; a heartbeat asks for nothing."""
    if message.reply:
        await message.respond(b"+ACK" if message.data else b"")


async def _work(client: Client, stream: str, consumer: str) -> None:
    """Pull and acknowledge for ever, over restarts of servers too."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    request: JsonObject = {"batch": BATCH, "expires": round(PULL_SECONDS * 1e9)}
    if (stream, consumer) == PINNED:
        request["group"] = PINNED_CONFIG["priority_groups"][0]
    while True:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        await client.publish(subject, json.dumps(request).encode(), reply=inbox)
        # A server that dies takes the request with it; then nothing ends it but the time.
        with suppress(nats.errors.TimeoutError):
            for _ in range(BATCH):
                message = await subscription.next_msg(timeout=PULL_SECONDS * 2)
                if not message.reply:
                    break  # a status: the request's time is over
                await message.ack()
                request |= {"id": pin} if (pin := (message.headers or {}).get("Nats-Pin-Id")) else {}


async def _idle(cluster: LabCluster, stream: str, consumer: str) -> bool:
    views = await consumer_views(cluster, stream, consumer)
    leaders = [view for server, view in views.items() if view.leader == server]
    return any(view.num_pending == view.num_ack_pending == 0 < view.delivered.stream_seq for view in leaders)
