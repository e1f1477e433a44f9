"""Two whole bots on one PostgreSQL and one Slack: clicks go to either, one of them dies or is only stopped in the middle of a repair, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from bot.bootstrap.replicas import DEAD_SECONDS
from bot.lab.stuck_consumer import break_consumer, drain
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, BotProcess, Twin, WholeBot
from bot.model import JsonObject
from tests.e2e.conftest import Whole
from tests.e2e.target import counting
from tests.e2e.test_crashes import LABELS, applied_once, each_message_once
from tests.exhaustive import chosen

pytestmark = pytest.mark.timeout(240)

TAKEN_OVER_SECONDS = 15.0
"""Issue 7: the work of a replica that is dead for good goes on elsewhere within that."""
EXECUTING = (
    "SELECT executor_id FROM dbos.workflow_status WHERE name LIKE 'natsmedic_execution_%' AND status = 'PENDING'"
)


@asynccontextmanager
async def second(bot: WholeBot, tmp_path: Path) -> AsyncGenerator[Twin]:
    """Another replica beside the first, which has started already."""
    async with Twin(bot, tmp_path / "second") as other:
        await other.start()
        yield other


def replica_of(bot: BotProcess) -> str:
    """Return the name that a bot serves under, as its log says."""
    line = next(line for line in bot.log.splitlines() if "natsmedic serves" in line)
    return line.split('"replica": "', 1)[1].split('"', 1)[0]


async def executing(url: str, *, other_than: str = "", within: float = 60.0) -> str:
    """Wait until a replica other than this one runs an execution, and return its name."""
    async with asyncio.timeout(within), await psycopg.AsyncConnection.connect(url, autocommit=True) as raw:
        while True:
            found = await (await raw.execute(EXECUTING)).fetchone()
            if found is not None and found[0] != other_than:
                return str(found[0])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", chosen([signal.SIGKILL, signal.SIGSTOP], [signal.SIGSTOP]))
async def test_a_repair_goes_on_elsewhere_when_its_replica_dies_or_is_stopped(
    whole: Whole, postgres_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    both: JsonObject = {
        "database": {"url": postgres_url},
        "thresholds": {"STUCK_CONSUMER": {"settle": 6}, "READINESS": {"settle": 1}},
    }
    async with whole(overrides=both) as bot:
        drill = await break_consumer(bot.cluster)
        await bot.start()
        async with second(bot, tmp_path) as other, counting(bot.cluster) as target:
            await bot.alert(labels=LABELS)
            await bot.see_button("approve", 60)
            await bot.decide(ADA)
            await bot.decide(BO)
            at_it = await executing(postgres_url)
            gone, lives = (bot, other) if replica_of(bot) == at_it else (other, bot)
            await bot.wait(lambda: bool(target.deleted), 30, "nothing was deleted")
            struck = time.monotonic()
            os.kill(gone.pid, how)
            await executing(postgres_url, other_than=at_it, within=TAKEN_OVER_SECONDS)
            assert time.monotonic() - struck > DEAD_SECONDS - 2, "nobody's work is taken who may only be slow"
            await bot.see(VERIFIED_BOARD, 150)
            if how is signal.SIGSTOP:
                os.kill(gone.pid, signal.SIGCONT)
                await gone.crashed(30)
                assert await gone.stop() not in {0, None}
                assert "taken for dead" in gone.log
            await _goes_on(lives)
            if lives is other:
                await bot.start()  # the checks below ask through its command line
            await applied_once(bot, target)
            drained = await drain(bot.cluster, drill, drill.published)
            assert drained.lost == []
            each_message_once(bot)
            assert [row["data"]["replica"] for row in await bot.audit("replica.lost")] == [at_it]
            code, output = await bot.command("audit", "verify")
            assert code == 0, output


async def _goes_on(bot: BotProcess) -> None:
    """Whoever is left does what must be done once, whoever led before."""
    threads = len([m for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}])
    assert (await bot.alert("NatsServerDown", fingerprint="0123456789abcdef")).is_success
    await bot.wait(
        lambda: len([m for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}]) == threads + 1,
        30,
        "no thread was opened",
    )


async def test_a_click_counts_whichever_replica_takes_it_and_an_end_passes_everything_on(
    whole: Whole, postgres_url: str, tmp_path: Path
) -> None:
    """Clicks go to the replicas in turn; the one that leads is asked to end between two of them."""
    both: JsonObject = {"database": {"url": postgres_url}}
    async with whole(overrides=both) as bot:
        drill = await break_consumer(bot.cluster)
        await bot.start()
        async with second(bot, tmp_path) as other, counting(bot.cluster) as target:
            await other.alert(labels=LABELS)
            await bot.see_button("approve", 60)
            await bot.decide(ADA)
            assert await bot.stop() == 0
            await other.decide(BO)
            await other.see(VERIFIED_BOARD, 150)
            await applied_once(bot, target)
            assert (await drain(bot.cluster, drill, drill.published)).lost == []
            each_message_once(bot)
            assert await bot.audit("replica.lost") == [], "who leaves is not lost"
            rows = [row["data"]["replica"] for row in await bot.audit("bot.started")]
            assert rows == [replica_of(bot), replica_of(other)]
