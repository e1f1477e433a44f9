"""What the tests of the NATS adapter share: settings that point at a lab cluster, and the real clock."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from bot.adapters.nats import NatsReaders, NatsWriters, connect_cluster
from bot.lab.config import READER, SYSREADER, SYSWRITER, WRITER, Login
from bot.lab.servers import LabCluster
from bot.model import Endpoint
from bot.settings import ClusterSettings
from tests.exhaustive import chosen

ALL = frozenset(Endpoint)
VERSIONS = chosen(("2.10.26", "2.11.11", "2.15.1"), ("2.10.26", "2.15.1"))
"""For parameters of tests; most others run on 2.11.11 anyway."""
NEWEST = chosen(("2.10.26", "2.11.11", "2.15.1"), ("2.15.1",))
"""For those that take long."""


class WallClock:
    """The real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def credentials(login: Login, **changes: Any) -> dict[str, Any]:
    return {"user": login.user, "password": login.password, "inbox_prefix": login.inbox_prefix} | changes


def settings_of(cluster: LabCluster, *, timeout: float = 5.0, **changes: Any) -> ClusterSettings:
    """The lab as the bot's settings describe it; `changes` replace keys of `nats`, `monitoring` stands beside them."""
    monitoring = changes.pop("monitoring", [])
    nats: dict[str, Any] = {
        "servers": cluster.urls,
        "system": credentials(SYSREADER),
        "system_writer": credentials(SYSWRITER),
        "accounts": {"APP": {"reader": credentials(READER), "writer": credentials(WRITER)}},
        "timeout_seconds": timeout,
    }
    raw = {"name": cluster.name, "channel": "C0123456789", "nats": nats | changes, "monitoring": monitoring}
    return ClusterSettings.model_validate(raw)


@asynccontextmanager
async def connected(settings: ClusterSettings) -> AsyncGenerator[tuple[NatsReaders, NatsWriters]]:
    readers, writers = await connect_cluster(settings, WallClock())
    try:
        assert writers is not None
        yield readers, writers
    finally:
        await readers.aclose()
        if writers is not None:
            await writers.aclose()


@asynccontextmanager
async def reading(settings: ClusterSettings) -> AsyncGenerator[NatsReaders]:
    readers, writers = await connect_cluster(settings, WallClock())
    try:
        yield readers
    finally:
        await readers.aclose()
        if writers is not None:
            await writers.aclose()
