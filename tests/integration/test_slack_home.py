"""App Home over the stand-in Slack: what each person sees, who is refused, and that it follows what happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.client import make_client
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.home import Home
from bot.adapters.slack.render_home import HomeFacts, home_view, refusal_view
from bot.flow.admission import Admission
from bot.flow.freeze import freeze
from bot.lab.slack.limits import check_view
from bot.model import Freeze, FreezeId, SlackUser
from tests.integration.slack_adapter_support import (
    ADA,
    GUEST,
    RULES,
    STRANGER,
    House,
    diagnosis,
    house,
    incident,
    offer,
    proposal,
)
from tests.integration.store_records import FixedClock
from tests.unit.adapters.slack import slack_records as records
from tests.unit.adapters.slack.test_render import CORPUS, assert_inert

pytestmark = pytest.mark.timeout(60)


def shown(running: House, user: str) -> str:
    view = running.slack.home(user)
    return str(view.body["blocks"]) if view is not None else ""


async def open_home(running: House, user: str) -> str:
    running.slack.person.open_home(user)
    await running.until(lambda: bool(shown(running, user)))
    return shown(running, user)


@pytest.mark.parametrize("words", CORPUS)
def test_a_home_with_any_words_is_inert_and_within_slacks_limits(words: str) -> None:
    one, plan, run = records.incident(words), records.proposal(words), records.execution(words)
    held = Freeze(id=FreezeId("frz_1"), reason=words or "?", person=words or "?", at=records.NOW)
    facts = HomeFacts(
        words or "?", ((one, words),) * 40, 4_000, ((plan, words), (plan, "")) * 20, (held,) * 20, ((run, plan),) * 20
    )
    for view in (home_view(facts), home_view(HomeFacts("You.")), refusal_view(words)):
        check_view(view)
        assert_inert(view["blocks"], "", set())


async def test_home_shows_what_is_open_what_waits_for_whom_and_what_is_frozen(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await freeze(running.store, FixedClock(), "ada", "release night")
        home = await open_home(running, ADA)
        for words in (
            "Consumer stuck",
            "Waits for you (1)",
            "release night",
            "On prod you may approve: low, medium, destructive",
        ):
            assert words in home
        nobody = await open_home(running, "U0NOONE")
        assert "Waits for others (1)" in nobody
        assert "On prod you may approve: nothing" in nobody


@pytest.mark.parametrize(("user", "because"), [(GUEST, "Guests"), (STRANGER, "Only members of this workspace")])
async def test_guests_and_strangers_see_a_refusal_and_no_incident(tmp_path: Path, user: str, because: str) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        home = await open_home(running, user)
        assert because in home
        assert "Consumer stuck" not in home
        assert len(await running.audited("command.refused")) == 1


async def test_an_open_home_follows_what_happens_for_an_hour_and_is_published_only_when_it_changes(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, start=False) as running:
        clock = FixedClock()
        clock.time = datetime.now(UTC)
        api = SlackApi(make_client(running.slack.bot_token, running.slack.api_url), clock)
        directory = SlackDirectory(api, ("T0LAB",), RULES, clock)
        home = Home(api, running.store, clock, directory, Admission(running.store, directory, RULES), RULES, ("prod",))

        def published() -> int:
            return len(running.slack.calls("views.publish"))

        await home.refresh()
        assert published() == 0
        await home.opened(SlackUser(team_id="T0LAB", user_id=ADA))
        await home.refresh()
        assert published() == 1
        await running.put(incident(), diagnosis(), proposal())
        await home.refresh()
        await home.refresh()
        assert (published(), "Consumer stuck" in shown(running, ADA)) == (2, True)
        for wait, expected in ((timedelta(minutes=59, seconds=59), 3), (timedelta(seconds=1), 3)):
            clock.time += wait
            await freeze(running.store, clock, "ada", f"reason {wait}", lasts=timedelta(days=1))
            await home.refresh()
            assert published() == expected
