"""Slack is away for an hour, on a clock that the test owns: it is asked seldom, nothing is lost, and the threads are right within a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.charts import draw
from bot.adapters.database import SqlStore
from bot.adapters.slack.api import NotSent, SlackApi
from bot.adapters.slack.chat import LONGEST_REST, SlackProjector
from bot.adapters.slack.client import make_client
from bot.adapters.slack.projector import SlackDrawer
from bot.bootstrap.reporting import reporter
from bot.lab.slack import StandInSlack
from bot.model import Incident, IncidentId
from tests.integration import store_records as records
from tests.integration.slack_adapter_support import OPS, RULES, diagnosis, incident, key, proposal, stand_in

pytestmark = pytest.mark.timeout(120)
HOUR = timedelta(hours=1)
CATCH_UP = timedelta(seconds=60)
"""design/safety.md, I4."""


class Slow(records.FixedClock):
    """A clock that moves only by being slept on; whoever sleeps lets all others run."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0.001)


class House:
    def __init__(self, slack: StandInSlack, store: SqlStore, clock: Slow) -> None:
        self.slack = slack
        self.store = store
        self.clock = clock
        api = SlackApi(make_client(slack.bot_token, slack.api_url), clock)
        report = reporter(store, clock, lambda: None)
        drawer = SlackDrawer(api, store, store, RULES, clock, draw=draw, report=report)
        self.chat = SlackProjector(drawer, store, store, clock)

    async def put(self, *stored: object) -> None:
        async with self.store.begin() as tx:
            for record in stored:
                await tx.put(record)  # type: ignore[arg-type]

    def keys(self) -> list[str]:
        return sorted(key(one) for one in self.slack.messages(OPS))

    async def until(self, moment: object) -> None:
        while self.clock.now() < moment:  # type: ignore[operator]
            await asyncio.sleep(0.005)


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    clock = Slow()
    async with stand_in() as slack, SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        built = House(slack, store, clock)
        drawing = asyncio.create_task(built.chat.run())
        try:
            yield built
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)


def case(name: str, clock: Slow) -> Incident:
    return incident(name=name).model_copy(update={"opened_at": clock.now(), "updated_at": clock.now()})


async def test_an_hour_without_slack_loses_nothing_and_is_made_good_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.slack.chat.POLL_SECONDS", 10.0)  # an hour of seconds would take a minute
    async with house(tmp_path) as h:
        await h.put(case("1", h.clock))
        async with asyncio.timeout(20):
            while h.keys() != ["board:inc_1"]:
                await asyncio.sleep(0.005)
        h.slack.faults.outage_until = float("inf")
        gone, before = h.clock.now(), len(h.slack.calls())
        await h.put(diagnosis(), proposal(), case("2", h.clock))
        await h.until(gone + HOUR / 2)
        assert not h.chat.health().ok
        for number in range(5):  # what changes meanwhile becomes one edit
            found = await h.store.get(Incident, "inc_1")
            assert found is not None
            await h.put(found.changed(h.clock.now(), firing_count=10 + number))
        await h.until(gone + HOUR)
        assert len(h.slack.calls()) - before <= HOUR.total_seconds() / LONGEST_REST + 20, "it is asked seldom"
        monkeypatch.undo()
        h.slack.faults.outage_until = 0.0
        back = h.clock.now()
        async with asyncio.timeout(60):
            while await h.store.behind():
                await asyncio.sleep(0.005)
        assert h.clock.now() - back <= CATCH_UP
        assert h.keys() == ["board:inc_1", "board:inc_2", "proposal:prop_1", "verdict:diag_1"]
        assert "received 14 times" in str(
            next(one for one in h.slack.messages(OPS) if key(one) == "board:inc_1").blocks
        )
        assert h.chat.health().ok


@pytest.mark.parametrize("jump", [timedelta(minutes=-10), timedelta(minutes=10)])
async def test_a_clock_that_jumps_while_slack_is_away_hides_no_thread(tmp_path: Path, jump: timedelta) -> None:
    async with house(tmp_path) as h:
        h.slack.faults.outage_until = float("inf")
        await h.put(case("1", h.clock))
        async with asyncio.timeout(20):
            while h.chat.health().ok:
                await asyncio.sleep(0.005)
        h.clock.time += jump
        jumped = h.clock.now()
        h.slack.faults.outage_until = 0.0
        async with asyncio.timeout(60):
            while await h.store.behind():
                await asyncio.sleep(0.005)
        assert h.clock.now() - jumped <= CATCH_UP
        assert h.keys() == [f"board:{IncidentId('inc_1')}"]


async def test_nothing_is_said_where_another_process_may_be_drawing_by_now() -> None:
    async with stand_in() as slack:
        may = False
        api = SlackApi(make_client(slack.bot_token, slack.api_url), Slow(), may_send=lambda: may)
        with pytest.raises(NotSent, match="another natsmedic may be drawing"):
            await api.post(OPS, "late", [], "verdict:1", None)
        assert slack.messages(OPS) == []
        may = True
        await api.post(OPS, "in time", [], "verdict:1", None)
        assert len(slack.messages(OPS)) == 1
