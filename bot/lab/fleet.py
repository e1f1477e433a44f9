"""MQTT devices that connect again by themselves when they are cut off, as those of a production do. Where to is their balancer's word."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bot.lab.config import APP
from bot.lab.mqtt import MqttClient
from bot.lab.servers import LabCluster, LabError

PAUSE: Final = 0.3
"""Seconds that a device waits before it connects again."""

ARRIVING_AT_ONCE: Final = 16
"""Devices that connect at a time where none is in a hurry."""

FIRST_CONNECT: Final = 60.0
"""Seconds until a device must have its first connection: while the MQTT streams elect leaders a server refuses sessions and subscriptions."""

Balancer = Callable[[], str]
"""Names the server that the next connection leads to."""


def always(server: str) -> Balancer:
    """One address for all."""
    return lambda: server


@dataclass(slots=True)
class Device:
    """One device with a persistent session and one QoS 1 subscription to `devices/NAME`."""

    name: str
    server: str = ""
    """Where it is connected or connects to; empty while it waits."""
    connects: int = 0
    received: Counter[bytes] = field(default_factory=Counter[bytes])
    """Payloads that it has acknowledged, with how often each came."""

    @property
    def topic(self) -> str:
        return f"devices/{self.name}"


@dataclass(slots=True)
class Fleet:
    """Devices, and whom their next connection leads to."""

    cluster: LabCluster
    balancer: Balancer
    devices: list[Device]

    @property
    def places(self) -> Counter[str]:
        """How many devices are connected to each server, or on their way to it."""
        return Counter(device.server for device in self.devices)

    def fewest(self) -> str:
        """A balancer: the server with fewest devices, as those do it that go by least connections."""
        return min(self.cluster.names, key=lambda name: self.places[name])


@asynccontextmanager
async def fleet(cluster: LabCluster, size: int, at: str) -> AsyncGenerator[Fleet]:
    """So many devices, all connected to server `at` first; `balancer` decides from then on. They are gone when the block ends, their sessions stay."""
    devices = Fleet(cluster, always(at), [Device(f"device-{number}") for number in range(size)])
    gate = asyncio.Semaphore(ARRIVING_AT_ONCE)
    running: list[asyncio.Task[None]] = []
    try:
        # The first one comes alone: the server makes the account's MQTT streams for it.
        for some in (devices.devices[:1], devices.devices[1:]):
            running += [asyncio.create_task(_live(devices, device, gate)) for device in some]
            async with asyncio.timeout(FIRST_CONNECT):
                while not all(device.connects for device in some):
                    await asyncio.sleep(PAUSE / 3)
        yield devices
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _live(devices: Fleet, device: Device, gate: asyncio.Semaphore) -> None:
    while True:
        try:
            async with gate:
                device.server = server = devices.balancer()
                client = await MqttClient.open(devices.cluster.mqtt_address(server), device.name, APP)
            try:
                await client.subscribe(device.topic)
                device.connects += 1
                while True:
                    device.received[await client.receive()] += 1
            finally:
                client.abort()
        except (LabError, TimeoutError, OSError):
            # Cut off, refused, or not yet served: what a device does about it is to connect again.
            device.server = ""
            await asyncio.sleep(PAUSE)
