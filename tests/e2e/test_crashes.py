"""kill -9 at every point where it hurts (reference/safety.md 3.2); after a restart the invariants of design/safety.md hold, counted at the target."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import httpx
import pytest

from bot.crashpoints import Point
from bot.lab.servers import LabError
from bot.lab.stuck_consumer import break_consumer, drain
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot
from tests.e2e.conftest import Whole
from tests.e2e.target import Counts, counting
from tests.exhaustive import chosen

LABELS = {"account": "APP", "stream": "ORDERS", "consumer": "worker"}

# Where it dies, and whether that is before the proposal is in the thread. From P09 on, `tests/crash` does the same for every action, without Slack.
POINTS = [
    ("P00", True),  # bytes read, not parsed
    ("P01", True),  # sender authenticated, delivery not committed
    ("P02", True),  # delivery committed, before 2xx
    ("P03", True),  # 2xx sent, nothing posted
    ("P04:1", True),  # parent message posted, its ts not stored
    ("P04:3", True),  # a message in the thread posted, its ts not stored
    ("P05", True),  # inside the diagnosis
    ("P06", True),  # proposal stored, not posted
    ("P07:1", False),  # first click received, approval not committed
    ("P07:2", False),  # second click received, approval not committed
    ("P08:1", False),  # first approval committed, before Slack's acknowledgement
    ("P08:2", False),  # second approval committed, execution not started
    ("P09:1", False),  # execution started, the cluster's lock not taken
    ("P10:1", False),  # lock taken, nothing looked at again
    ("P11:1", False),  # intent to delete committed, nothing sent
    ("P12:1", False),  # delete sent, no response seen
    ("P13:1", False),  # delete answered, outcome not committed
    ("P14:1", False),  # between the stages: consumer deleted, not yet recreated
    ("P11:2", False),  # intent to create committed, nothing sent
    ("P12:2", False),  # create sent, no response seen
    ("P13:2", False),  # create answered, outcome not committed
    ("P15:1", False),  # inside the verification of the delete
    ("P16:1", False),  # the end committed, the thread does not show it
]
OFTEN = [("P04:1", True)]
UNANSWERED = ("P00", "P01")
"""Where the sender got no 2xx and nothing is stored: it sends again, as Alertmanager does."""


@pytest.mark.parametrize(("point", "early"), chosen(POINTS, OFTEN))
async def test_the_invariants_hold_after_a_kill_at(whole: Whole, point: str, early: bool) -> None:
    async with whole() as bot:
        await _killed_at(bot, point, early=early)


@pytest.mark.parametrize("point", chosen(["P02", "P12:1", "P14:1", "P16:1"], ["P14:1"]))
async def test_the_invariants_hold_on_postgresql_after_a_kill_at(whole: Whole, postgres_url: str, point: str) -> None:
    async with whole(overrides={"database": {"url": postgres_url}}) as bot:
        await _killed_at(bot, point, early=point == "P02")


async def _killed_at(bot: WholeBot, point: str, *, early: bool) -> None:
    drill = await break_consumer(bot.cluster)
    log = bot.directory / "points.log"
    await bot.start(point, "--log", str(log))
    async with counting(bot.cluster) as target:
        if early:
            await _alert_until_dead(bot)
        else:
            await bot.alert(labels=LABELS)
            await _approve_until_dead(bot)
        if point == "P16:1":
            assert set(log.read_text().split()) == {each.value for each in Point}, "one repair passes every point"
        await bot.start()
        if point in UNANSWERED:
            assert (await bot.alert(labels=LABELS)).is_success
        if early:
            await bot.see_button("approve", 60)
        await _approve_what_is_missing(bot)
        await bot.see(VERIFIED_BOARD, 150)
        await asyncio.sleep(2)
    await applied_once(bot, target)
    drained = await drain(bot.cluster, drill, drill.published)
    _, predicted = await bot.predicted()
    assert drained.lost == []
    assert len(drained.repeated) <= predicted
    each_message_once(bot)
    code, output = await bot.command("audit", "verify")
    assert code == 0, output


async def _alert_until_dead(bot: WholeBot) -> None:
    """Send once, and see the bot die of it. At P02 the row is there although no 2xx was."""
    with contextlib.suppress(httpx.TransportError):
        await bot.alert(labels=LABELS)
    await bot.crashed()


async def _approve_until_dead(bot: WholeBot) -> None:
    """Have both people approve until the bot dies on the way; a form may never open or never be answered, and then they try again."""
    async with asyncio.timeout(150):
        while bot.alive:
            for person in (ADA, BO):
                if bot.alive and bot.button("approve") is not None:
                    with contextlib.suppress(LabError):
                        await bot.decide(person)
            await asyncio.sleep(1)


async def _approve_what_is_missing(bot: WholeBot) -> None:
    """People look at the thread after the restart and press what is still to be pressed."""
    for person in (ADA, BO):
        try:
            await bot.see_button("approve", 4)
        except LabError:
            return
        try:
            await bot.decide(person)
        except LabError:
            continue


async def applied_once(bot: WholeBot, target: Counts) -> None:
    """I2, I3, I5: one delete and one create took effect; each had an approval and an intent on record before."""
    target.insist_on_one_recreation("worker")
    assert len(await bot.audit("approval.recorded")) == 2
    assert len(await bot.audit("execution.started")) == 1
    intended = await bot.audit("stage.intended")
    assert [row["data"]["stage"] for row in intended] == [0, 1]
    approvals = await bot.audit("approval.recorded")
    assert max(row["seq"] for row in approvals) < intended[0]["seq"]


def each_message_once(bot: WholeBot) -> None:
    """I4: no message of the thread was posted twice."""
    parents = [m for m in bot.slack.messages(CHANNEL) if m.by_bot]
    everything = {m.ts: m for p in parents for m in [p, *bot.slack.thread(CHANNEL, p.ts)]}
    keys = Counter(str(m.metadata["event_payload"]["key"]) for m in everything.values() if m.metadata and not m.deleted)
    assert keys, "the messages carry their keys"
    assert [key for key, times in keys.items() if times > 1] == []
