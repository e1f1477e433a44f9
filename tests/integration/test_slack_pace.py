"""How often a board is edited: numbers every few seconds, what they mean and what people do at once. On a clock that the test moves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.charts import draw
from bot.adapters.database import SqlStore
from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.chat import SlackProjector
from bot.adapters.slack.client import make_client
from bot.adapters.slack.projector import SlackDrawer
from bot.bootstrap.reporting import reporter
from bot.lab.slack import Message, StandInSlack
from bot.model import (
    Execution,
    ExecutionId,
    ExecutionState,
    Incident,
    IncidentId,
    OperationId,
    ProposalId,
    ProposalState,
    StageRun,
    StageState,
)
from tests.integration import store_records as records
from tests.integration.slack_adapter_support import OPS, RULES, diagnosis, incident, key, proposal, stand_in

pytestmark = pytest.mark.timeout(60)
INC = IncidentId("inc_1")


@dataclass
class House:
    slack: StandInSlack
    store: SqlStore
    clock: records.FixedClock
    drawer: SlackDrawer

    def edits(self) -> int:
        return len(self.slack.calls("chat.update"))

    def board(self) -> Message:
        return next(one for one in self.slack.messages(OPS) if key(one).startswith("board:"))

    async def fires(self) -> None:
        """The alert is received once more: a number of the board, and nothing else."""
        async with self.store.begin() as tx:
            found = await tx.get(Incident, INC)
            assert found is not None
            await tx.put(found.changed(self.clock.now(), firing_count=found.firing_count + 1))


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    clock = records.FixedClock()
    async with stand_in() as slack, SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        async with store.begin() as tx:
            await tx.put(incident().model_copy(update={"opened_at": clock.now(), "updated_at": clock.now()}))
        api = SlackApi(make_client(slack.bot_token, slack.api_url), clock)
        report = reporter(store, clock, lambda: None)
        yield House(slack, store, clock, SlackDrawer(api, store, store, RULES, clock, draw=draw, report=report))


async def test_repeats_edit_the_board_once_in_five_seconds_and_none_is_lost(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.drawer.draw(INC)
        await h.fires()
        assert await h.drawer.draw(INC) is None
        until = h.clock.now() + timedelta(seconds=5)
        for _ in range(3):
            await h.fires()
            assert await h.drawer.draw(INC) == until
            h.clock.time += timedelta(seconds=1.6)
        assert (h.edits(), bool(await h.store.behind())) == (1, True)
        h.clock.time = until
        assert await h.drawer.draw(INC) is None
        assert (h.edits(), bool(await h.store.behind())) == (2, False)
        assert "received 5 times" in str(h.board().blocks)


async def test_a_persons_action_and_another_headline_wait_for_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.drawer.draw(INC)
        await h.fires()
        await h.drawer.draw(INC)
        await h.fires()
        assert await h.drawer.draw(INC, at_once=True) is None
        assert h.edits() == 2
        async with h.store.begin() as tx:
            await tx.put(diagnosis())
            await tx.touch(INC)
        assert await h.drawer.draw(INC) is None
        assert (h.edits(), "Critical" in h.board().text) == (3, True)


async def test_a_running_repair_shows_its_time_every_five_seconds_and_stops_when_it_is_over(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        run = Execution(
            id=ExecutionId("exec_1"),
            proposal_id=ProposalId("prop_1"),
            incident_id=INC,
            cluster="prod",
            state=ExecutionState.APPLYING,
            stages=(StageRun(index=0, state=StageState.INTENDED, operation_id=OperationId("op_1")),),
            started_at=h.clock.now(),
        )
        async with h.store.begin() as tx:
            for record in (diagnosis(), proposal().model_copy(update={"state": ProposalState.APPLYING}), run):
                await tx.put(record)
        projector = SlackProjector(h.drawer, h.store, h.store, h.clock)
        running = asyncio.create_task(projector.run())
        try:
            await h.slack.workspace.wait_until(lambda: h.edits() >= 6, 30)
            async with h.store.begin() as tx:
                ended = {"state": ExecutionState.DONE, "ended_at": h.clock.now()}
                await tx.put(run.model_copy(update=ended))
                await tx.touch(INC)
            await h.slack.workspace.wait_until(lambda: "stage 1 of 1" not in str(h.board().blocks), 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        versions = [edit.blocks for edit in h.board().history]
        times = [found[0] for blocks in versions if (found := re.findall(r"· (\d\d:\d\d)", str(blocks)))]
        assert len(times) == len(set(times)) >= 6
        assert all(time.endswith(("0", "5")) for time in times)
