"""Bots of two versions on one PostgreSQL, the newer one with changed workflows: what either began comes to its end, and what waits for people waits on."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import psycopg
import pytest

from bot.adapters.engine.dbos import WORKFLOW_VERSION
from bot.lab.stuck_consumer import break_consumer, drain
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, BotProcess, Twin, WholeBot
from bot.model import JsonObject
from tests.e2e.conftest import Whole
from tests.e2e.target import counting
from tests.e2e.test_crashes import LABELS, each_message_once
from tests.exhaustive import on_demand
from tests.newer import NEWER_VERSION

pytestmark = pytest.mark.timeout(420)

OTHER = "other"
"""A second consumer that is stuck."""
LEFT_ALONE_SECONDS = 8.0
"""In which an older bot that could take the work of a newer one would have begun to."""
UNCHANGED, CHANGED = (f"natsmedic_execution_v{version}" for version in (WORKFLOW_VERSION, NEWER_VERSION))
EXECUTIONS = "SELECT name, status FROM dbos.workflow_status WHERE name LIKE 'natsmedic_execution_%'"
UNDONE = "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'"


class Newer(Twin):
    """A replica of the version to come."""

    program = ("-m", "tests.newer")


@on_demand
async def test_what_is_pending_and_what_runs_outlives_a_change_of_versions_and_back(
    whole: Whole, postgres_url: str
) -> None:
    """A rolling update that is rolled back half-way, each bot killed in the middle of a repair that only some of the others can run."""
    both: JsonObject = {
        "database": {"url": postgres_url},
        "thresholds": {"STUCK_CONSUMER": {"settle": 4}, "READINESS": {"settle": 1}},
    }
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(whole(overrides=both))
        drill = await break_consumer(bot.cluster, OTHER)
        await bot.start()
        target = await stack.enter_async_context(counting(bot.cluster))
        newer, newest = [
            await stack.enter_async_context(Newer(bot, bot.directory / name)) for name in ("newer", "newest")
        ]

        # One repair waits for its second approval, another one runs.
        await bot.alert(labels=LABELS | {"consumer": OTHER}, fingerprint="0a1b2c3d4e5f6071")
        await bot.see_button("approve", 60)
        await bot.decide(ADA, typed_name=OTHER)
        await bot.alert(labels=LABELS)
        await bot.wait(lambda: bot.button("approve") is not None and _waiting(bot) == 2, 60, "no second proposal came")
        await bot.decide(ADA)
        await bot.decide(BO)
        await bot.wait(lambda: bool(target.deleted["worker"]), 60, "nothing was deleted")
        os.kill(bot.pid, signal.SIGSTOP)
        await newer.start()
        assert await _are(postgres_url, UNCHANGED, "PENDING")

        # The newer one has joined, and the older one, which hung, dies. What waited is approved with the newer one, and waits for the lock of what was running.
        await bot.kill()
        await newer.decide(BO, typed_name=OTHER)
        await newer.wait(lambda: _are(postgres_url, CHANGED, "PENDING"), 15, "the second repair did not begin")

        # The older one is back, and either of them finishes by this version's steps what it had begun. Then the newer one dies in the middle of its own.
        await bot.start()
        await newer.wait(lambda: _are(postgres_url, UNCHANGED, "SUCCESS"), 60, "the first repair was not finished")
        await newer.wait(lambda: bool(target.deleted[OTHER]), 30, "nothing was deleted")
        await newer.kill()
        await bot.wait(lambda: _are(postgres_url, CHANGED, "ENQUEUED"), 20, "nobody offered the work of the dead")
        await asyncio.sleep(LEFT_ALONE_SECONDS)
        assert await _are(postgres_url, CHANGED, "ENQUEUED"), "the older one took what it cannot run"
        await newest.start()
        await newest.wait(lambda: _verified(newest) == 2, 150, "the second repair was not verified")

        await newest.wait(lambda: _nothing_undone(postgres_url), 30, "something is stranded")
        for worker in drill.workers:
            target.insist_on_one_recreation(worker.name)
            assert (await drain(bot.cluster, drill, drill.published, worker)).lost == []
        each_message_once(bot)
        assert len(await bot.audit("approval.recorded")) == 4
        code, output = await bot.command("audit", "verify")
        assert code == 0, output


def _waiting(bot: WholeBot) -> int:
    """How many messages of the channel can be approved."""
    messages = {m.ts: m for p in bot.slack.messages(CHANNEL) for m in bot.slack.thread(CHANNEL, p.ts)}
    return sum("approve" in str(m.blocks) for m in messages.values())


def _verified(bot: BotProcess) -> int:
    """How many threads say that all is well."""
    return sum(VERIFIED_BOARD in str(m.blocks) for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts})


async def _rows(url: str, query: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as raw:
        return [tuple(row) for row in await (await raw.execute(query.encode())).fetchall()]


async def _are(url: str, name: str, status: str) -> bool:
    """Whether there is one repair of this name, in this state."""
    return [found for of, found in await _rows(url, EXECUTIONS) if of == name] == [status]


async def _nothing_undone(url: str) -> bool:
    return await _rows(url, UNDONE) == [(0,)]
