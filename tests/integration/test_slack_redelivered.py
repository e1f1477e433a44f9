"""Slack delivers an event again to a process that was started anew and remembers nothing: what it asks for is done once all the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.flow.asking import COMMAND as SOURCE
from bot.lab.slack.delivery import EVENTS_API, SLASH_COMMANDS
from bot.lab.slack.records import Delivery
from bot.model import Freeze
from tests.integration.slack_adapter_support import ADA, GRACE, OPS, House, another, house, offer, told

pytestmark = pytest.mark.timeout(60)
BOT = "<@U0NATSMEDIC>"


def last(running: House, kind: str) -> Delivery:
    return [one for one in running.slack.delivered() if one.kind == kind][-1]


async def mention(running: House, user: str, words: str, thread: str | None = None) -> Delivery:
    """Say it, and wait for the answer."""
    answers = len(running.slack.ephemerals(user))
    running.slack.person.say(user, OPS, f"{BOT} {words}", thread)
    await told(running, user, answers + 1)
    return last(running, EVENTS_API)


@asynccontextmanager
async def restarted(running: House) -> AsyncGenerator[None]:
    """Serve by a process that was started anew."""
    await running.adapter.stop()
    running.adapter = another(running)
    await running.adapter.start(running.desk(), running.office())
    try:
        await running.slack.connected()
        yield
    finally:
        await running.adapter.stop()


async def again(running: House, delivery: Delivery, user: str = ADA) -> str:
    """Deliver it once more; return what the person is told then."""
    answers = len(running.slack.ephemerals(user))
    await running.slack.person.replay(delivery.id)
    return await told(running, user, answers + 1)


async def test_a_freeze_by_mention_is_one_freeze_with_one_row_after_a_restart_too(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        said = await mention(running, ADA, "freeze 1h maintenance", running.message("board").ts)
        (frozen,) = await running.store.freezes()
        async with restarted(running):
            assert frozen.id in await again(running, said)
            assert await running.store.freezes() == [frozen]
            assert len(await running.audited("freeze.set")) == 1
            other = await mention(running, ADA, "freeze 1h maintenance", running.message("board").ts)
        assert other.payload["event_id"] != said.payload["event_id"]
        assert len(await running.store.freezes()) == 2, "the same words said once more are another freeze"


async def test_a_slash_command_that_is_replayed_after_a_restart_freezes_once(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(ADA, OPS, "/nats freeze 1h maintenance")
        (frozen,) = await running.store.freezes()
        async with restarted(running):
            await running.slack.person.replay(last(running, SLASH_COMMANDS).id)
        assert await running.store.freezes() == [frozen]
        assert len(await running.audited("freeze.set")) == 1


async def test_a_freeze_that_was_lifted_since_is_not_set_again_and_that_is_said(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        said = await mention(running, ADA, "freeze 1h maintenance")
        (frozen,) = await running.store.freezes()
        lifted = await mention(running, ADA, f"unfreeze {frozen.id} done")
        async with restarted(running):
            assert "lifted freeze" in await again(running, lifted)
            stands = await running.store.get(Freeze, frozen.id)
            assert stands is not None
            assert len(stands.lifts) == 1, "one person is one of the two, however often it is delivered"
            await mention(running, GRACE, f"unfreeze {frozen.id} done")
            assert "is over by now" in await again(running, said)
        assert await running.store.freezes() == []


@pytest.mark.parametrize("words", ["diagnose prod", "run stuck-consumer APP/ORDERS/worker"])
async def test_a_question_by_mention_is_one_incident_after_a_restart_too(tmp_path: Path, words: str) -> None:
    async with house(tmp_path) as running:
        said = await mention(running, ADA, words)
        await running.fold()
        (incident,) = [one for one in await running.store.incidents() if one.source == SOURCE]
        async with restarted(running):
            assert "is being looked at" in await again(running, said)
        await running.fold()
        (same,) = [one for one in await running.store.incidents() if one.source == SOURCE]
        assert (same.id, same.firing_count) == (incident.id, 1)


async def test_another_look_by_mention_is_one_look_with_one_row_after_a_restart_too(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        said = await mention(running, ADA, "diagnose", running.message("board").ts)
        async with restarted(running):
            assert "Looking again" in await again(running, said)
        assert len({key for _, key in running.engine.started}) == 1, "the engine knows the key already"
        assert len(await running.audited("diagnosis.asked")) == 1
