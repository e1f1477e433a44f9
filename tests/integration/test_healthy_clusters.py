"""Healthy clusters of every version give no alarm, whatever they are just doing: 35 looks with every runbook, as the product takes them.

A critical finding is right only where it names a transition and says *wait*. It takes two minutes, of which clusters run several at once.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from bot.bootstrap import registry
from bot.flow.examination import look
from bot.lab import drills
from bot.lab.binaries import SUPPORTED_VERSIONS
from bot.lab.servers import LabCluster
from bot.model import Focus, Severity
from tests.every_kind import PUBLISHED, every_kind
from tests.integration.nats_support import reading, settings_of

RUNBOOKS: Final = registry().runbooks

TIMEOUT: Final = 3.0
"""Seconds a server that is just away is waited for."""

LOAD: Final = 0.01
"""Seconds between two messages on each stream; two cores carry three clusters with that."""

GROWING: Final = 6
"""Streams that get two more replicas at once, each with a consumer."""

_WAIT: Final = re.compile(r"\bwait\b")


async def alarms(cluster: LabCluster) -> list[str]:
    """What one look calls critical without saying that it passes."""
    async with reading(settings_of(cluster, timeout=TIMEOUT)) as readers:
        _, judged = await look(readers, RUNBOOKS, {}, Focus())
    return [
        f"{finding.check}: {finding.sentence}"
        for judgement in judged
        for finding in judgement.findings
        if finding.severity is Severity.CRITICAL and not _WAIT.search(finding.sentence)
    ]


async def right_after_start(cluster: LabCluster) -> list[str]:
    """Every server answers on its port; there may be no meta leader yet, and no whole mesh."""
    await cluster.reform({})
    return await alarms(cluster)


async def settled(cluster: LabCluster) -> list[str]:
    return await alarms(cluster)


async def under_load(cluster: LabCluster) -> list[str]:
    async with _load(cluster):
        return await alarms(cluster)


async def while_streams_grow(cluster: LabCluster) -> list[str]:
    """Full health checks complain for 6 to 10 s after a scale-up (drills.md 3.1)."""
    client = await cluster.connect()
    names = [f"GROW{number}" for number in range(GROWING)]
    for name in names:
        await drills.create_stream(client, name, 1)
        await drills.create_consumer(client, name, "worker")
        await drills.publish(client, name, 20)
    await asyncio.gather(*(drills.scale(client, name, 3) for name in names))
    found = await alarms(cluster)
    await client.close()
    return found


async def during_a_rolling_restart(cluster: LabCluster) -> list[str]:
    """Servers end and start one after another, each once the one before is back, while look follows look."""

    async def roll() -> None:
        for name in cluster.names:
            await cluster.restart(name)

    rolling = asyncio.create_task(roll())
    found: list[str] = []
    while not rolling.done():
        found += await alarms(cluster)
    await rolling
    return found


@asynccontextmanager
async def _load(cluster: LabCluster) -> AsyncGenerator[None]:
    """Keep publishing; the workers of `every_kind` consume."""
    client = await cluster.connect()
    publishers = [asyncio.create_task(_publish(client, stream)) for stream in PUBLISHED]
    try:
        yield
    finally:
        for publisher in publishers:
            publisher.cancel()
        await asyncio.gather(*publishers, return_exceptions=True)
        await client.close()


async def _publish(client: Client, stream: str) -> None:
    jetstream = JetStreamContext(client)
    while True:
        await jetstream.publish(f"{stream}.new", b"x" * 100)
        await asyncio.sleep(LOAD)


Moment = Callable[[LabCluster], Awaitable[list[str]]]
MOMENTS: Final[dict[int, tuple[Moment, ...]]] = {
    3: (settled, while_streams_grow, during_a_rolling_restart),
    5: (under_load, during_a_rolling_restart),
}
"""What clusters of a size go through after their start."""


@pytest.mark.parametrize("size", MOMENTS)
@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
async def test_a_healthy_cluster_gives_no_alarm(tmp_path: Path, version: str, size: int) -> None:
    found: dict[str, list[str]] = {}
    async with LabCluster(tmp_path, version, size) as cluster:
        found["right after start"] = await right_after_start(cluster)
        await cluster.wait_ready()
        async with every_kind(cluster):
            for moment in MOMENTS[size]:
                found[moment.__name__] = await moment(cluster)
    assert {moment: alarmed for moment, alarmed in found.items() if alarmed} == {}
