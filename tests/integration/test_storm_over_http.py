"""A small storm through the real door: every answer is 2xx, every alert is in an incident, page-worthy ones first. The whole one is tests/bench/bench_storm.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.flow.intake import TOGETHER
from bot.model import STORM
from bot.settings import WebhookSettings
from tests.exhaustive import EXHAUSTIVE
from tests.integration.test_intake import alert, body
from tests.integration.webhook_support import open_door

ALERTS = 10_000 if EXHAUSTIVE else 300
PAGES = 10
SENDERS = 32
SETTINGS = WebhookSettings.model_validate({"listen": "127.0.0.1:0", "sources": {"alertmanager": {"bearer": "tok"}}})


async def test_every_alert_of_a_storm_is_answered_stored_and_folded_and_pages_first(tmp_path: Path) -> None:
    async with open_door(tmp_path, SETTINGS) as door:
        numbers = iter(range(ALERTS))
        statuses: list[int] = []

        async def send() -> None:
            for number in numbers:
                severity = "critical" if number >= ALERTS - PAGES else "warning"
                text = body(alert(fingerprint=f"f{number}", stream=f"S{number}", severity=severity))
                answer = await door.client.post(
                    "/webhooks/alertmanager", content=text, headers={"Authorization": "Bearer tok"}
                )
                statuses.append(answer.status_code)

        await asyncio.gather(*(send() for _ in range(SENDERS)))
        assert statuses == [202] * ALERTS
        assert await door.store.count_unprocessed() == ALERTS
        await door.intake.fold()
        first = [one for one in await door.store.incidents(limit=ALERTS) if one.source != STORM]
        assert len(first) == TOGETHER
        assert sum(one.page_worthy for one in first) == PAGES
        await door.intake.drain()
        found = [one for one in await door.store.incidents(limit=2 * ALERTS) if one.source != STORM]
        assert len({one.fingerprint for one in found}) == len(found) == ALERTS
        assert await door.store.count_unprocessed() == 0
        threads = [one for one in found if one.storm is None]
        assert sum(one.page_worthy for one in threads) == PAGES, "each page-worthy one has a thread of its own"
        assert len(threads) == PAGES
