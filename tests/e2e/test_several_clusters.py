"""One bot, two clusters, one of them frozen together with its Kubernetes API: start, repair and end of the other take as long as alone.

What hangs is told to the bot in no way: its servers are stopped by SIGSTOP, with their connections open, and its API server takes connections and never
answers, so that every question runs into its time-out. Both runs are of one test, so a shared machine shows in both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from bot.lab.servers import LabCluster
from bot.lab.slack import Channel, StandInSlack, UserGroup
from bot.lab.stuck_consumer import CONSUMER, ROOM, STREAM, break_consumer
from bot.lab.whole import ADA, BO, CHANNEL, OPS, PEOPLE, VERIFIED_BOARD, WholeBot
from bot.model import JsonObject, parts
from tests.exhaustive import on_demand

pytestmark = [on_demand, pytest.mark.timeout(400)]
FROZEN, ITS_CHANNEL = "frozen", "C0FROZEN"
VERSION: Final = "2.11.11"
ALERTS: Final = 6
"""Of the frozen cluster, just before the alert of the other: three times as many as are diagnosed of one at once."""
TIMES: Final = 1.5
SECONDS: Final = 3.0
"""A step beside the frozen cluster takes at most so many times as long as alone, and so many seconds more: one look at the frozen one takes 9 s and more."""


@dataclass
class Took:
    """Seconds."""

    start: float = 0.0
    proposal: float = 0.0
    """From the alert to the button."""
    repair: float = 0.0
    """From the second approval to the verified board."""
    end: float = 0.0


@asynccontextmanager
async def black_hole() -> AsyncGenerator[int]:
    """A port that takes connections and never says a word."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        for writer in held:
            writer.transport.abort()
        server.close()


def slack() -> StandInSlack:
    channels = (Channel(CHANNEL, "nats-oncall", topic=""), Channel(ITS_CHANNEL, "frozen-oncall", topic=""))
    return StandInSlack(
        users=PEOPLE, channels=channels, usergroups=(UserGroup(OPS, "nats-operators", "NATS operators", (ADA,)),)
    )


def kubeconfig(folder: Path, port: int) -> Path:
    file = folder / "kubeconfig"
    cluster = {"name": "hole", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    user, context = (
        {"name": "hole", "user": {"token": "t"}},
        {"name": "hole", "context": {"cluster": "hole", "user": "hole"}},
    )
    file.write_text(
        yaml.safe_dump({"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "hole"})
    )
    return file


def both(bot: WholeBot, frozen: LabCluster, kubernetes: Path) -> list[JsonObject]:
    """Return the `clusters` section with the frozen one first."""
    (well,) = parts(bot.settings(), "clusters")
    nats: JsonObject = well["nats"] | {"servers": list(frozen.urls)}
    hanging: JsonObject = {
        "name": FROZEN,
        "channel": ITS_CHANNEL,
        "match": {"cluster": FROZEN},
        "nats": nats,
        "kubernetes": {"kubeconfig": str(kubernetes), "namespace": "nats", "statefulset": "nats"},
        "advisories": {},
        "schedule": {"every": "1m"},
    }
    return [hanging, well | {"match": {"cluster": bot.servers.name}}]


async def repaired(folder: Path, frozen: LabCluster | None, hole: int) -> tuple[Took, str]:
    """Break a consumer and let the bot repair it; return how long that took, and what the other channel shows in the end."""
    await asyncio.to_thread(folder.mkdir)
    took, workspace = Took(), slack()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(LabCluster(folder / "nats", VERSION, max_ha_assets={"n1": ROOM}))
        await stack.enter_async_context(workspace)
        quick: JsonObject = {"thresholds": {"STUCK_CONSUMER": {"settle": 1}}}
        bot = await stack.enter_async_context(WholeBot(folder / "bot", cluster, workspace, quick))
        if frozen is not None:
            bot.override(clusters=both(bot, frozen, kubeconfig(folder, hole)))
        await break_consumer(cluster)
        took.start = await timed(bot.start())
        await workspace.connected()
        if frozen is not None:
            for number in range(ALERTS):
                labels = {"cluster": FROZEN, "stream": f"S{number}"}
                assert (await bot.alert(labels=labels, fingerprint=f"{number:016x}")).status_code == 202
        began = time.monotonic()
        about = {"account": "APP", "stream_name": STREAM, "consumer_name": CONSUMER}
        assert (await bot.alert(labels=about)).status_code == 202
        await bot.see_button("approve", 60)
        took.proposal = time.monotonic() - began
        assert (await bot.decide(ADA)).ok
        assert (await bot.decide(BO)).ok
        took.repair = await timed(bot.see(VERIFIED_BOARD, 120))
        if frozen is not None:
            told = "Nothing could be read from cluster frozen"
            await bot.wait(lambda: told in workspace.render_text(ITS_CHANNEL), 90, "the frozen cluster was not judged")
        took.end = await timed(bot.stop())
        assert bot.log.count("goes without closing") == 0
        return took, workspace.render_text(ITS_CHANNEL)


async def timed(doing: Awaitable[object]) -> float:
    began = time.monotonic()
    await doing
    return time.monotonic() - began


async def test_beside_a_cluster_that_hangs_start_proposal_repair_and_end_take_as_long_as_alone(tmp_path: Path) -> None:
    async with LabCluster(tmp_path / "frozen", VERSION, name=FROZEN) as frozen, black_hole() as hole:
        alone, _ = await repaired(tmp_path / "alone", None, hole)
        for name in frozen.names:
            await frozen.freeze(name)
        beside, told = await repaired(tmp_path / "beside", frozen, hole)
        for name in frozen.names:
            await frozen.thaw(name)
    print(f"\nalone  {alone}\nbeside {beside}")
    assert "worker" not in told, "each cluster has its own channel"
    for step in ("start", "proposal", "repair", "end"):
        limit = TIMES * getattr(alone, step) + SECONDS
        assert getattr(beside, step) <= limit, f"{step}: {alone} alone, {beside} beside it"
