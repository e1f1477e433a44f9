"""SIGTERM as a process sees it: unready at once, alerts still stored, the end within the grace with exit code 0, nothing lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bot.lab.http import http_client
from tests.e2e.test_bad_days import without_servers

GRACE = 5.0


async def test_on_sigterm_the_bot_is_unready_stores_alerts_to_the_end_and_leaves_within_its_grace(
    tmp_path: Path,
) -> None:
    async with without_servers(tmp_path) as bot:
        await bot.start()
        await bot.slack.outage(60)
        assert (await bot.alert()).status_code == 202
        await asyncio.sleep(0.5)
        began = time.monotonic()
        ending = asyncio.create_task(bot.stop())
        async with http_client(base_url=bot.url) as client:
            async with asyncio.timeout(2):
                while (ready := await client.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.02)
            assert ready.json()["problems"] == ["natsmedic is ending."]
            assert (await client.get("/livez")).status_code == 200
        assert (await bot.alert("Later", fingerprint="b" * 16)).status_code == 202
        assert await ending == 0
        assert time.monotonic() - began < GRACE
        assert '"level": "error"' not in bot.log.partition("natsmedic ends")[2], bot.log
        bot.slack.faults.outage_until = 0.0
        await bot.start()
        await bot.see("NatsConsumerStuck")
        await bot.see("Later")
        began = time.monotonic()
        assert await bot.stop() == 0
        assert time.monotonic() - began < GRACE
