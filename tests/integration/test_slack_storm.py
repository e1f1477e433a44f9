"""A storm over the stand-in Slack: hundreds of alerts become one message, and one of them a thread because somebody asks."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.webhooks import parse_alertmanager
from bot.flow.intake import Intake
from bot.lab.slack import Message
from bot.model import STORM, Incident, IncidentState
from bot.settings import ThreadSettings
from tests.exhaustive import EXHAUSTIVE
from tests.integration.slack_adapter_support import ADA, GUEST, OPS, House, house, told
from tests.integration.test_intake import alert, body, cluster

pytestmark = pytest.mark.timeout(900)
ALERTS = 10_000 if EXHAUSTIVE else 500
PER_DELIVERY = 100
OWN = 5
"""Incidents before the storm; they have threads."""
PAGES = 3


def intake(running: House) -> Intake:
    prod = cluster("prod").model_copy(update={"channel": OPS})
    return Intake(
        store=running.store,
        engine=running.engine,
        clock=SystemClock(),
        chat=running.adapter.chat,
        clusters=(prod,),
        parsers={"alertmanager": parse_alertmanager},
        max_queue=1_000,
        threads=ThreadSettings(),
    )


async def rain(running: House, count: int) -> None:
    """Deliver alerts as Alertmanager does; some of the last are page-worthy."""
    door = intake(running)
    alerts = [
        alert(fingerprint=f"f{n}", stream=f"S{n}", alertname=f"Kind{n % 7}")
        | ({"labels": {"alertname": "Down", "severity": "critical"}} if n >= count - PAGES else {})
        for n in range(count)
    ]
    for start in range(0, count, PER_DELIVERY):
        await door.accept("alertmanager", body(*alerts[start : start + PER_DELIVERY]))
        await door.drain()


def boards(running: House) -> list[Message]:
    return running.of_kind("board")


def roll_up(running: House) -> Message:
    (found,) = [one for one in boards(running) if "Alert storm" in one.text]
    return found


async def test_a_flood_of_alerts_is_one_message_and_few_threads(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        began = time.monotonic()
        await rain(running, ALERTS)
        folded = time.monotonic() - began
        await running.drawn(60)
        drawn = time.monotonic() - began
        posts, edits = len(running.slack.calls("chat.postMessage")), len(running.slack.calls("chat.update"))
        assert len(boards(running)) == OWN + 1 + PAGES
        words = str(roll_up(running).blocks)
        assert f"{ALERTS - OWN:,} incidents of 8 kinds" in words
        assert words.index("Down") < words.index("Kind0")
        assert posts == len(running.slack.messages(OPS))
        assert edits < drawn + 30
        incidents = await running.store.incidents(limit=2 * ALERTS)
        assert len([one for one in incidents if one.source != STORM]) == ALERTS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{ALERTS} alerts: {posts} posts, {edits} edits, folded in {folded:.1f} s, drawn at {drawn:.1f} s, {peak} MB"
        )


async def test_one_of_a_storm_becomes_a_thread_when_somebody_chooses_it(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await rain(running, 20)
        await running.drawn()
        message = roll_up(running)
        before = len(boards(running))
        (menu,) = [one for block in message.blocks for one in block.get("elements", ()) if one.get("options")]
        chosen = menu["options"][0]["value"]
        refused = await running.slack.person.click(GUEST, OPS, message.ts, "open_thread", choice=chosen)
        assert refused.failure is None
        assert "Guests" in await told(running, GUEST)
        await running.slack.person.click(ADA, OPS, message.ts, "open_thread", choice=chosen)
        assert "a thread of its own" in await told(running, ADA)
        await running.until(lambda: len(boards(running)) == before + 1)
        incident = await running.store.get(Incident, chosen)
        assert incident is not None
        assert (incident.storm, incident.state) == (None, IncidentState.OPEN)


@pytest.mark.parametrize("value", ["inc_unknown", "storm"])
async def test_a_choice_that_the_storm_does_not_have_opens_nothing(tmp_path: Path, value: str) -> None:
    async with house(tmp_path) as running:
        await rain(running, 20)
        await running.drawn()
        message, before = roll_up(running), len(boards(running))
        (storm,) = [one for one in await running.store.incidents() if one.source == STORM]
        option = {"value": storm.id if value == "storm" else value, "text": {"type": "plain_text", "text": "x"}}
        forged = {"action_id": "open_thread", "block_id": "storm", "type": "static_select", "selected_option": option}
        (menu,) = [one for block in message.blocks for one in block.get("elements", ()) if one.get("options")]
        await running.slack.person.click(
            ADA, OPS, message.ts, "open_thread", choice=menu["options"][0]["value"], overrides={"actions": [forged]}
        )
        assert await running.refusal()
        await running.drawn()
        assert len(boards(running)) == before
