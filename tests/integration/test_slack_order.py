"""What is drawn first where Slack takes one message a second: what a person waits for, then decisions, then first messages. Against the stand-in Slack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.adapters.slack.api import EDIT_BURST, EDITS_SPARED, POST_BURST, POSTS_SPARED, SlackApi
from bot.adapters.slack.client import make_client
from bot.adapters.slack.pacer import patiently
from bot.adapters.slack.projector import SlackDrawer
from bot.lab.slack import StandInSlack
from bot.model import STORM, Diagnosis, IncidentId, Proposal
from tests.integration import store_records as records
from tests.integration.slack_adapter_support import OPS, House, diagnosis, house, incident, proposal, stand_in

pytestmark = pytest.mark.timeout(60)
INC = IncidentId("inc_1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is what counts here, not the pace."""
    monkeypatch.setattr("bot.adapters.slack.api.POSTS_PER_SECOND", 200.0)


def posted(slack: StandInSlack) -> list[str]:
    """The keys of the messages in the order in which they were sent."""
    calls = slack.calls("chat.postMessage")
    return [str(call.args["metadata"]["event_payload"]["key"]) for call in calls if "metadata" in call.args]


def of(record: Diagnosis | Proposal, name: str) -> Diagnosis | Proposal:
    return record.model_copy(
        update={"id": f"{record.id[:-2]}_{name}", "incident_id": IncidentId(f"inc_{name}")}
        | ({"button": f"btn_{name}", "diagnosis_id": f"diag_{name}"} if isinstance(record, Proposal) else {})
    )


async def test_first_messages_come_before_the_rest_of_threads_storms_and_pages_before_others(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        for name in ("1", "2"):
            await running.put(incident(name=name), of(diagnosis(), name))
        page = incident(name="3").model_copy(update={"labels": {"severity": "critical"}})
        storm = incident(name="4").model_copy(update={"source": STORM, "fingerprint": OPS})
        await running.put(page, of(diagnosis(), "3"), storm)
        await start(running)
        await running.drawn()
        keys = posted(running.slack)
        assert keys[:4] == ["board:inc_4", "board:inc_3", "board:inc_1", "board:inc_2"]
        assert [key.partition(":")[0] for key in keys[4:]] == ["verdict"] * 3
        assert keys[4] == "verdict:diag_3", "the page-worthy one goes on first"


async def test_a_decision_comes_before_the_first_message_of_anything_else(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        for name in ("1", "2", "3"):
            await running.put(incident(name=name), of(diagnosis(), name))
        await running.put(of(proposal(), "3"))
        await start(running)
        await running.drawn()
        keys = posted(running.slack)
        assert keys[0] == "board:inc_3"
        before = keys[: keys.index("proposal:prop_3")]
        assert len([key for key in before if key.partition("_")[2] != "3"]) <= 2, (
            "one message of others in between each"
        )


async def test_a_person_does_not_wait_until_a_thread_is_drawn_to_its_end(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        for name in ("1", "2", "3"):
            await running.put(incident(name=name), of(diagnosis(), name), of(proposal(), name))
        await running.put(incident(name="9"), of(diagnosis(), "9"))
        chat = running.adapter.chat
        drawer = chat._drawer  # pyright: ignore[reportPrivateUsage] - to act while it draws
        draws: list[str] = []

        async def once(one: IncidentId, **how: object) -> object:
            draws.append(one)
            if len(draws) == 1:
                chat.hurry(IncidentId("inc_9"))
            return await SlackDrawer.draw(drawer, one, **how)  # pyright: ignore[reportArgumentType]

        drawer.draw = once  # type: ignore[method-assign]
        await start(running)
        await running.drawn()
        assert draws[1] == "inc_9"
        keys = posted(running.slack)
        assert keys[1:3] == ["board:inc_9", "verdict:diag_9"], "and is shown everything at once"


@pytest.mark.parametrize("waits", [False, True])
async def test_who_acts_while_the_thread_is_drawn_is_shown_by_the_next_drawing(tmp_path: Path, *, waits: bool) -> None:
    """What was read before that may lack it, whether somebody waited for this drawing already or not."""
    async with house(tmp_path, start=False) as running:
        await running.put(incident(), diagnosis())
        chat = running.adapter.chat
        drawer = chat._drawer  # pyright: ignore[reportPrivateUsage] - to act while it draws
        draws: list[bool] = []

        async def once(one: IncidentId, *, at_once: bool = False, posts: int | None = None) -> object:
            draws.append(at_once)
            until = await SlackDrawer.draw(drawer, one, at_once=at_once, posts=posts)
            if len(draws) == 1:
                await acts(running)
            return until

        drawer.draw = once  # type: ignore[method-assign]
        if waits:
            chat.hurry(INC)
        await start(running)
        await running.until(lambda: len(draws) > 1)
        assert draws[:2] == [waits, True]


async def test_who_acts_after_the_database_was_asked_what_is_behind_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, start=False) as running:
        await running.put(incident())
        await start(running)
        await running.drawn()
        asked = running.store.unfinished_executions
        drawn: list[bool] = []
        draw = SlackDrawer.draw

        async def after() -> object:
            found = await asked()
            if not drawn:
                monkeypatch.setattr(running.store, "unfinished_executions", asked)
                await acts(running)
            return found

        async def once(
            drawer: SlackDrawer, one: IncidentId, *, at_once: bool = False, posts: int | None = None
        ) -> object:
            drawn.append(at_once)
            return await draw(drawer, one, at_once=at_once, posts=posts)

        monkeypatch.setattr(SlackDrawer, "draw", once)
        monkeypatch.setattr(running.store, "unfinished_executions", after)
        await running.until(lambda: bool(drawn))
        assert drawn[0]


async def acts(running: House) -> None:
    """Somebody takes the incident."""
    await running.put(incident("another headline"))
    running.adapter.chat.hurry(INC)


async def start(running: House) -> None:
    await running.adapter.start(running.desk(), running.office())


Call = Callable[[SlackApi, str], Awaitable[object]]


async def a_post(api: SlackApi, ts: str) -> str:
    del ts
    return await api.post(OPS, "words", [], "board:inc_1", None)


async def an_edit(api: SlackApi, ts: str) -> None:
    await api.edit(OPS, ts, "words", [])


@pytest.mark.parametrize(
    ("call", "burst", "spared"), [(a_post, POST_BURST, POSTS_SPARED), (an_edit, EDIT_BURST, EDITS_SPARED)]
)
async def test_whoever_is_patient_leaves_the_last_calls_at_hand_to_what_people_wait_for(
    call: Call, burst: float, spared: float
) -> None:
    clock = records.FixedClock()
    async with stand_in() as slack:
        api = SlackApi(make_client(slack.bot_token, slack.api_url), clock)
        ts = await api.post(OPS, "words", [], "board:inc_1", None)
        clock.time += clock.time - clock.time.replace(hour=0)  # hours later every bucket is full
        full = clock.time
        with patiently():
            for _ in range(int(burst - spared)):
                await call(api, ts)
            assert clock.time == full
        for _ in range(int(spared)):
            await call(api, ts)
        assert clock.time == full, "a person waits for nothing"
        with patiently():
            await call(api, ts)
        waited = clock.time - full
        assert waited.total_seconds() > 0
        await call(api, ts)
        assert clock.time == full + waited, "one who is patient has waited for the spared ones, too"
