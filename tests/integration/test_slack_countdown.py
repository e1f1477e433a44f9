"""The time that is left to decide, redrawn in the thread and in App Home at a few steps and never else. On a clock that the test moves."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.chat import SlackProjector
from bot.adapters.slack.client import make_client
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.home import Home
from bot.flow.admission import Admission
from bot.lab.slack import Message
from bot.model import ProposalState, SlackUser
from tests.integration import store_records as records
from tests.integration.slack_adapter_support import ADA, OPS, RULES, diagnosis, key, proposal
from tests.integration.test_slack_pace import INC, House, house

pytestmark = pytest.mark.timeout(60)
BOUND = re.compile(r"at most (\d+) min left")


class Quick(records.FixedClock):
    """Runs ten times as fast as it is asked to wait: twelve minutes of looks are a second."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(10 * seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FixedClock", Quick)


async def offer(h: House) -> None:
    now = h.clock.now()
    times = {"created_at": now, "expires_at": now + timedelta(minutes=10)}
    async with h.store.begin() as tx:
        await tx.put(diagnosis())
        await tx.put(proposal().model_copy(update=times))
        await tx.touch(INC)


def shown(h: House, kind: str) -> Message:
    return next(one for one in h.slack.messages(OPS) if key(one).startswith(f"{kind}:"))


def bounds(message: Message) -> list[str]:
    """Every bound it has ever shown, in order."""
    versions = [*(edit.blocks for edit in message.history), message.blocks]
    return [found[1] for blocks in versions if (found := BOUND.search(str(blocks)))]


async def test_a_waiting_proposal_is_edited_at_the_steps_and_never_else(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await offer(h)
        over = h.clock.now() + timedelta(minutes=12)
        projector = SlackProjector(h.drawer, h.store, h.store, h.clock)
        running = asyncio.create_task(projector.run())
        try:
            async with asyncio.timeout(50):
                while h.clock.now() < over:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert bounds(shown(h, "proposal")) == bounds(shown(h, "board")) == ["10", "5", "1"]
        assert h.edits() == 4, "two messages, at two steps after they were posted"


async def test_a_process_that_starts_later_lowers_the_bound_that_it_finds(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await offer(h)
        await h.drawer.draw(INC)
        h.clock.time += timedelta(minutes=9, seconds=30)
        projector = SlackProjector(h.drawer, h.store, h.store, h.clock)
        running = asyncio.create_task(projector.run())
        try:
            await h.slack.workspace.wait_until(lambda: h.edits() >= 2, 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert bounds(shown(h, "proposal")) == bounds(shown(h, "board")) == ["10", "1"]


async def test_an_open_home_counts_down_at_the_same_steps(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        api = SlackApi(make_client(h.slack.bot_token, h.slack.api_url), h.clock)
        directory = SlackDirectory(api, ("T0LAB",), RULES, h.clock)
        home = Home(api, h.store, h.clock, directory, Admission(h.store, directory, RULES), RULES, ("prod",))
        await offer(h)
        await home.opened(SlackUser(team_id="T0LAB", user_id=ADA))
        said: list[str] = []
        for _ in range(60):
            view = h.slack.home(ADA)
            assert view is not None
            said += BOUND.findall(str(view.body))
            h.clock.time += timedelta(seconds=9.9)
            await home.refresh()
        assert list(dict.fromkeys(said)) == ["10", "5", "1"]
        assert len(h.slack.calls("views.publish")) == 3


async def test_what_is_decided_counts_no_further(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await offer(h)
        async with h.store.begin() as tx:
            decided = {"state": ProposalState.DENIED, "state_reason": "Denied by ada: no"}
            await tx.put(proposal().model_copy(update=decided))
            await tx.touch(INC)
        await h.drawer.draw(INC)
        assert bounds(shown(h, "proposal")) == bounds(shown(h, "board")) == []
