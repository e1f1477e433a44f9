"""Healthy clusters of every version give no alarm, whatever they are just doing: with every runbook, read as the product reads.

Ten clusters are looked at right after their start and at three moments or more after that. A critical finding is right only where it names a transition
and says *wait*. Servers of three and of five of one version run at once, so it takes two minutes on two cores.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from bot.bootstrap import registry
from bot.errors import Unreadable
from bot.flow.examination import look
from bot.lab import drills
from bot.lab.binaries import SUPPORTED_VERSIONS
from bot.lab.servers import FRESH_TIMEOUT, LabCluster, LabError
from bot.model import Focus, Severity
from tests.every_kind import PUBLISHED, every_kind
from tests.exhaustive import chosen
from tests.integration.nats_support import reading, settings_of

RUNBOOKS: Final = registry().runbooks

TIMEOUT: Final = 3.0
"""Seconds a server that is just away is waited for."""

LOAD_PAUSE: Final = 0.01
"""Seconds between two messages to each stream; two cores carry several clusters with that."""

DOWN: Final = 2.0
"""Seconds a server of a rolling restart is away."""

_WAIT: Final = re.compile(r"\bwait\b")

Alarms = list[str]


async def alarms(cluster: LabCluster) -> Alarms:
    """What one look calls critical without saying that it passes."""
    async with reading(settings_of(cluster, timeout=TIMEOUT)) as readers:
        _, judged = await look(readers, RUNBOOKS, {}, Focus())
    return [
        f"{finding.check}: {finding.sentence}"
        for judgement in judged
        for finding in judgement.findings
        if finding.severity is Severity.CRITICAL and not _WAIT.search(finding.sentence)
    ]


async def right_after_its_start(cluster: LabCluster) -> Alarms:
    """Every server answers; there may be no meta leader yet, and no whole mesh. On a busy machine that outlasts a look, which is then not about health."""
    await cluster.reform({})
    return await alarms(cluster) and await alarms(cluster)


async def settled(cluster: LabCluster) -> Alarms:
    """Clients work on streams of every kind, and nothing else happens."""
    return await alarms(cluster)


async def under_load(cluster: LabCluster) -> Alarms:
    """Messages come in faster than one reading after another."""
    async with _load(cluster):
        return await alarms(cluster)


async def while_a_stream_grows(cluster: LabCluster) -> Alarms:
    """A full health check complains for 6 to 10 s after a scale-up. One stream at a time: several at once really break on 2.11.2 (drills.md 3.1, 3.2b)."""
    client = await cluster.connect()
    try:
        await drills.create_stream(client, "GROWS", 1)
        consumers = ("first", "second", "third")
        await asyncio.gather(*(drills.create_consumer(client, "GROWS", name) for name in consumers))
        await drills.publish(client, "GROWS", 100)
        await drills.scale(client, "GROWS", 3)
        return await alarms(cluster)
    finally:
        await client.close()


async def with_a_server_away_for_a_restart(cluster: LabCluster) -> Alarms:
    """A server that takes its time, and that every reading misses."""
    await cluster.terminate(cluster.names[0])
    found = await alarms(cluster)
    await cluster.restart(cluster.names[0], ready=False)
    return found


async def during_a_rolling_restart(cluster: LabCluster) -> Alarms:
    """Servers go and come one after another, each once the one before is back."""

    async def roll() -> None:
        for name in cluster.names:
            await cluster.terminate(name)
            await asyncio.sleep(DOWN)
            await cluster.restart(name)

    rolling = asyncio.create_task(roll())
    try:
        return await alarms(cluster)
    except Unreadable:
        return []  # The server that was asked went away, and so did the next: nothing was said, so nothing was said wrong.
    finally:
        await rolling


async def _ready(cluster: LabCluster) -> None:
    """Wait for a cluster that was just formed; in 1 of 20 starts 2.10.26 settles for a meta group without one server (`LabCluster.start`)."""
    try:
        await cluster.wait_ready(FRESH_TIMEOUT)
    except LabError:
        await cluster.reform({})
        await cluster.wait_ready()


@asynccontextmanager
async def _load(cluster: LabCluster) -> AsyncGenerator[None]:
    """Keep publishing; the workers of `every_kind` consume."""
    client = await cluster.connect()
    over = asyncio.Event()
    publishers = [asyncio.create_task(_publish(client, stream, over)) for stream in PUBLISHED]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*publishers)
        await client.close()


async def _publish(client: Client, stream: str, over: asyncio.Event) -> None:
    jetstream = JetStreamContext(client, timeout=drills.ANSWER_TIMEOUT)
    while not over.is_set():
        await jetstream.publish(f"{stream}.new", b"x" * 100)
        await asyncio.sleep(LOAD_PAUSE)


Moment = Callable[[LabCluster], Awaitable[Alarms]]

MOMENTS: Final[Mapping[int, tuple[Moment, ...]]] = {
    3: (while_a_stream_grows, with_a_server_away_for_a_restart, during_a_rolling_restart),
    5: (settled, under_load, during_a_rolling_restart),
}
"""What clusters of so many servers go through after their start."""


async def alarmed(directory: Path, version: str, size: int) -> dict[str, Alarms]:
    """The alarms of one cluster's life, by moment."""
    async with LabCluster(directory, version, size) as cluster:
        found = {right_after_its_start.__name__: await right_after_its_start(cluster)}
        await _ready(cluster)
        async with every_kind(cluster):
            for moment in MOMENTS[size]:
                found[moment.__name__] = await moment(cluster)
    return {f"{size} servers, {name}": alarms for name, alarms in found.items() if alarms}


@pytest.mark.parametrize("version", chosen(SUPPORTED_VERSIONS, ("2.15.1",)))
async def test_a_healthy_cluster_gives_no_alarm(tmp_path: Path, version: str) -> None:
    try:
        async with asyncio.TaskGroup() as lives:
            found = [lives.create_task(alarmed(tmp_path / str(size), version, size)) for size in MOMENTS]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed  # by which it is told whether the lab missed a deadline
    assert [life.result() for life in found] == [{}, {}]
