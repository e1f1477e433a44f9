"""Threads that no alert sender asked for: an advisory of the servers, and a schedule. Neither a restart nor a repair in between loses or doubles one."""

from __future__ import annotations

import asyncio
import json

import pytest

from bot.lab.config import APP
from bot.lab.drills import create_consumer, create_stream, request
from bot.lab.jetstream import section
from bot.lab.stuck_consumer import break_consumer
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot
from bot.model import JsonObject, parts
from tests.e2e.conftest import Whole
from tests.e2e.target import counting
from tests.exhaustive import on_demand

pytestmark = pytest.mark.timeout(600)
"""They wait for what takes time by its nature: a lost quorum, a minute of silence, passes of a schedule, restarts of the bot."""


def without_webhooks(bot: WholeBot, **cluster: JsonObject) -> None:
    """Take every alert sender away, and say how the cluster is watched instead."""
    bot.override(
        webhooks={"listen": f"127.0.0.1:{bot.port}"}, clusters=[parts(bot.settings(), "clusters")[0] | cluster]
    )


def titles(bot: WholeBot) -> list[str]:
    """Return the header of every thread, oldest first, without its sign."""
    parents = [m for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}]
    headers = [block for m in parents for block in m.blocks if block["type"] == "header"]
    return [str(block["text"]["text"]).split(" ", 1)[1] for block in headers]


async def all_closed(bot: WholeBot, within: float) -> None:
    """Wait until no incident is in any other state than closed."""

    async def closed() -> bool:
        code, output = await bot.command("incidents", "list", "--format", "json")
        assert code == 0, output
        found = json.loads(output)
        return {incident["state"] for incident in found} == {"closed"}

    await bot.wait(closed, within, "not every incident was closed")


@on_demand
async def test_an_advisory_opens_a_thread_without_any_webhook_and_a_restart_loses_and_doubles_nothing(
    whole: Whole,
) -> None:
    async with whole(room={}) as bot:
        without_webhooks(bot, advisories={"silence": "60s"})
        owner = await bot.cluster.connect(APP)
        await create_stream(owner, "ORDERS", 3)
        await create_consumer(owner, "ORDERS", "worker")
        keep = str(section(await request(owner, "STREAM.INFO.ORDERS"), "cluster")["leader"])
        await owner.close()
        await bot.start()
        dead = [name for name in bot.cluster.names if name != keep]
        for name in dead:
            await bot.cluster.kill(name)
        for title in ("NatsStreamQuorumLost", "NatsConsumerQuorumLost"):
            await bot.see(title, 60)
        text = await bot.see("consumer=worker")
        assert "stream=ORDERS" in text
        opened = sorted(titles(bot))
        await bot.kill()
        await bot.start()
        await asyncio.sleep(30)
        assert sorted(titles(bot)) == opened, "a lost quorum is repeated every 10 to 28 s"
        await bot.kill()
        await bot.cluster.start()
        await bot.start()
        await all_closed(bot, 150)
        assert sorted(titles(bot)) == opened
        assert VERIFIED_BOARD not in bot.slack.render_text(CHANNEL)
        assert len(await bot.audit("alert.resolved")) == len(opened)
        assert (await bot.command("audit", "verify"))[0] == 0


async def test_a_scheduled_diagnosis_opens_a_thread_that_is_repaired_verified_and_closed(whole: Whole) -> None:
    async with whole() as bot:
        without_webhooks(bot, advisories={"enabled": False}, schedule={"every": "10s", "runbooks": ["STUCK_CONSUMER"]})
        await bot.start()
        await bot.wait(lambda: bot.log.count('"scheduled diagnosis"') >= 2, 60, "no pass was taken")
        assert titles(bot) == [], "a healthy cluster opens nothing"
        await bot.kill()
        await break_consumer(bot.cluster)
        await bot.start()
        await bot.see("STUCK_CONSUMER", 90)
        await bot.see_button("approve", 90)
        await bot.kill()
        await bot.start()
        await bot.see("alert received", 90)
        assert titles(bot) == ["STUCK_CONSUMER"]
        async with counting(bot.cluster) as target:
            assert (await bot.decide(ADA)).ok
            await bot.see("1 of 2")
            assert (await bot.decide(BO)).ok
            await bot.see(VERIFIED_BOARD, 120)
            await bot.see("Closed", 120)
        assert target.deleted["worker"] == 1
        assert titles(bot) == ["STUCK_CONSUMER"]
        assert len(await bot.audit("alert.resolved")) == 1
        assert (await bot.command("audit", "verify"))[0] == 0


@on_demand
async def test_a_scheduled_diagnosis_clears_its_thread_by_itself_once_the_cluster_is_well(whole: Whole) -> None:
    async with whole(room={}) as bot:
        without_webhooks(bot, advisories={"enabled": False}, schedule={"every": "10s", "runbooks": ["ROUTE_MESH"]})
        await bot.start()
        await bot.wait(lambda: bot.log.count('"scheduled diagnosis"') >= 1, 60, "no pass was taken")
        for name in bot.cluster.names:
            await bot.cluster.kill(name)
        await bot.see("Nothing could be read from cluster lab", 90)
        passes = bot.log.count('"scheduled diagnosis"')
        assert passes >= 3, "unknown for one pass is no incident"
        await bot.cluster.start()
        await all_closed(bot, 90)
        assert titles(bot) == ["ROUTE_MESH"]
