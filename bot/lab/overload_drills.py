"""Drills of family D: a JetStream API that can't follow, and MQTT clients that all hang on one server (reference/drills.md 5).

An idle laboratory works 10,000 requests a second off, so a backlog needs a slow server: `throttled` stops one for most of the time, as the kernel
does with a container at its CPU limit. The requests are listings, the usual feeder: they change nothing, and the meta leader works each off while the
next one waits. So a backlog has the length that a drill asks for, on every version (seen on 2.10.26, 2.11.11 and 2.15.1).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg
from pydantic import BaseModel, TypeAdapter

from bot.lab.config import APP
from bot.lab.drills import create_consumer, create_stream, until
from bot.lab.http import http_client
from bot.lab.mqtt import MqttClient
from bot.lab.servers import LabCluster, LabError
from bot.model import JsonObject

STREAM: Final = "ORDERS"

LISTED: Final = 900
"""Consumers that each request lists; from 2.15 on a stream has 1,000 at most unless configured otherwise (`default_max_consumers` in JSZ)."""

CREATED_AT_ONCE: Final = 100

SMALL: Final[JsonObject] = {"num_replicas": 1, "mem_storage": True}
"""What keeps a consumer without a Raft group and without files."""

API_QUEUES: Final = ("Routed JS API Requests", "JetStream API queue", "JetStream API info queue")
"""Names in IPQUEUESZ: the first until 2.12, the others from 2.14 on."""

RUNS: Final = 0.02
STOPS: Final = 0.08
"""Seconds that a throttled server runs and stands still: a CPU limit of 200m in the kernel's period of 100 ms."""

_THROTTLE: Final = 'while kill -STOP "$1" && sleep "$2" && kill -CONT "$1" && sleep "$3"; do :; done'
"""A shell of its own keeps the beat while this process is busy, and ends by itself when the server has gone."""

FEED_INTERVAL: Final = 0.02
"""Seconds between two looks at how many requests are still unanswered."""

FEED_AT_ONCE: Final = 500
"""Requests between two such looks at most."""

IN_THE_QUEUE: Final = 0.75
"""Share of the requests that must wait in the queue for a drill to begin; the others are in connections, or answered by then."""

MONITOR_TIMEOUT: Final = 5.0
"""Seconds for one look at a server, throttled or not."""

CONNECTING_AT_ONCE: Final = 16
"""Devices that connect at a time where none is in a hurry."""

ATTEMPTS: Final = 10
RETRY_SECONDS: Final = 0.5
"""How often a device tries, and its pause: while the MQTT streams elect leaders a server refuses sessions and subscriptions."""


@dataclass(slots=True)
class Flood:
    """What a client has asked of the JetStream API, and how much of it is answered."""

    meta_leader: str
    sent: int = 0
    answered: int = 0

    @property
    def outstanding(self) -> int:
        return self.sent - self.answered


@asynccontextmanager
async def throttled(cluster: LabCluster, server: str) -> AsyncGenerator[None]:
    """Lets a server run `RUNS` of every `RUNS` + `STOPS` seconds. It still answers, late, and keeps its Raft leaderships."""
    pid = cluster.pid(server)
    if pid is None:
        raise LabError(f"{server} is not running, so it can't be throttled")
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", _THROTTLE, "throttle", str(pid), str(STOPS), str(RUNS)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            shell.kill()
        await shell.wait()
        if cluster.pid(server) == pid:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def api_flood(cluster: LabCluster, *, backlog: int, growth: int) -> AsyncGenerator[Flood]:
    """A client that asks faster than the throttled meta leader answers: `backlog` requests are unanswered at first, and `growth` more every second.

    Gives the flood once most of the backlog stands in the meta leader's queue. At 10,000 the server drops them all, and the queue grows anew.
    """
    async with _asking(cluster) as (flood, ask), throttled(cluster, flood.meta_leader):

        async def feed() -> None:
            loop = asyncio.get_running_loop()
            start = loop.time()
            while True:
                lacking = round(backlog + growth * (loop.time() - start)) - flood.outstanding
                for _ in range(min(max(lacking, 0), FEED_AT_ONCE)):
                    await ask()
                await asyncio.sleep(FEED_INTERVAL)

        feeding = asyncio.create_task(feed())
        try:
            await _queued(cluster, flood, backlog)
            yield flood
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
            if not feeding.cancelled():
                feeding.result()


@asynccontextmanager
async def api_burst(cluster: LabCluster, requests: int) -> AsyncGenerator[Flood]:
    """One burst of requests, after which nobody asks any more: the throttled meta leader works them off. Gives the flood once most are in its queue."""
    async with _asking(cluster) as (flood, ask), throttled(cluster, flood.meta_leader):
        while flood.sent < requests:
            await ask()
        await _queued(cluster, flood, requests)
        yield flood


async def _queued(cluster: LabCluster, flood: Flood, requests: int) -> None:
    async def there() -> bool:
        return await api_queue(cluster, flood.meta_leader) >= requests * IN_THE_QUEUE

    await until(there, f"the API queue of {flood.meta_leader} did not grow to {requests * IN_THE_QUEUE:.0f}")


async def api_queue(cluster: LabCluster, server: str) -> int:
    """How many requests wait in the server's API queues."""
    async with http_client(MONITOR_TIMEOUT) as http:
        answer = await http.get(f"{cluster.monitor_url(server)}/ipqueuesz")
    queues = _QUEUES.validate_json(answer.content)
    return sum(queue.pending + queue.in_progress for name, queue in queues.items() if name in API_QUEUES)


@asynccontextmanager
async def mqtt_devices(
    cluster: LabCluster, placement: Mapping[str, int], at_once: int = CONNECTING_AT_ONCE
) -> AsyncGenerator[list[MqttClient]]:
    """So many MQTT clients on each server, with a persistent session and one QoS 1 subscription each: one R3 consumer for every device.

    The first one comes alone: the server makes the account's five MQTT streams for it. The sessions stay when the devices have gone.
    """
    wanted = [(server, f"{server}-device-{number}") for server, count in placement.items() for number in range(count)]
    devices: list[MqttClient] = []
    gate = asyncio.Semaphore(at_once)

    async def arrive(server: str, name: str) -> None:
        async with gate:
            devices.append(await _device(cluster, server, name))

    try:
        for server, name in wanted[:1]:
            await arrive(server, name)
        async with asyncio.TaskGroup() as arriving:
            for server, name in wanted[1:]:
                arriving.create_task(arrive(server, name))
        yield devices
    finally:
        for device in devices:
            device.abort()


async def _device(cluster: LabCluster, server: str, name: str) -> MqttClient:
    """Connects and subscribes as a patient device does. Raises `LabError` after `ATTEMPTS`."""
    attempts = 0
    while True:
        attempts += 1
        try:
            return await _subscribed(cluster, server, name)
        except (LabError, TimeoutError, OSError) as error:
            if attempts == ATTEMPTS:
                raise LabError(f"MQTT client {name} gave up after {attempts} attempts: {error}") from error
        await asyncio.sleep(RETRY_SECONDS)


async def _subscribed(cluster: LabCluster, server: str, name: str) -> MqttClient:
    device = await MqttClient.open(cluster.mqtt_address(server), name, APP)
    try:
        await device.subscribe(f"devices/{name}")
    except BaseException:
        device.abort()
        raise
    return device


@asynccontextmanager
async def _asking(cluster: LabCluster) -> AsyncGenerator[tuple[Flood, Callable[[], Awaitable[None]]]]:
    """A client that can ask for the names of `LISTED` consumers again and again; the meta leader answers each time.

    The client is never on the meta leader: until 2.11.9 a server queues only requests that come over routes (reference/nats.md 1.D).
    """
    flood = Flood(meta_leader=await cluster.wait_ready())
    client = await cluster.connect(name=next(name for name in cluster.names if name != flood.meta_leader))
    try:
        await create_stream(client, STREAM, min(3, len(cluster.names)))
        for first in range(0, LISTED, CREATED_AT_ONCE):
            names = (f"client-{number}" for number in range(first, first + CREATED_AT_ONCE))
            await asyncio.gather(*(create_consumer(client, STREAM, name, SMALL) for name in names))
        inbox = client.new_inbox()

        async def heard(_: Msg) -> None:
            flood.answered += 1

        async def ask() -> None:
            flood.sent += 1
            await client.publish(f"$JS.API.CONSUMER.NAMES.{STREAM}", reply=inbox)

        await client.subscribe(inbox, cb=heard)  # pyright: ignore[reportUnknownMemberType] - nats-py is typed in part
        yield flood, ask
    finally:
        await client.close()


class _Queue(BaseModel):
    pending: int = 0
    in_progress: int = 0


_QUEUES: Final = TypeAdapter(dict[str, _Queue])
