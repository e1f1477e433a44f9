"""Calls of Slack are measured by method and end, those that were only held back here are none; and when people first see a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from slack_sdk.errors import SlackApiError

from bot.adapters.charts import draw
from bot.adapters.database import SqlStore
from bot.adapters.slack.api import RESPONSE, Doubtful, Limited, NotSent, RefusedBySlack, SlackApi
from bot.adapters.slack.client import make_client, make_hooks
from bot.adapters.slack.projector import SlackDrawer
from bot.bootstrap.reporting import reporter
from bot.lab.whole import free_port
from bot.ports import End, System
from tests.integration import store_records as records
from tests.integration.slack_adapter_support import RULES, incident, stand_in
from tests.unit.adapters.metrics.test_seams import Heard


@dataclass
class Response:
    """What slack_sdk hands over with an error."""

    status_code: int
    data: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict[str, str])


def ends(heard: Heard) -> list[tuple[System, str, End]]:
    return [(call.system, call.operation, call.end) for call in heard.calls]


async def test_calls_that_worked_were_refused_or_met_nobody() -> None:
    heard, clock = Heard(), records.FixedClock()
    async with stand_in() as slack:
        await SlackApi(make_client(slack.bot_token, slack.api_url), clock, meter=heard).identity()
        with pytest.raises(RefusedBySlack):
            await SlackApi(make_client("xoxb-wrong", slack.api_url), clock, meter=heard).identity()
    with pytest.raises(NotSent):
        await SlackApi(make_client("xoxb", f"http://127.0.0.1:{free_port()}/api/"), clock, meter=heard).identity()
    assert ends(heard) == [(System.SLACK, "auth.test", end) for end in (End.OK, End.REFUSED, End.UNREACHABLE)]
    assert all(call.seconds > 0 for call in heard.calls)


async def test_a_429_is_one_call_and_what_is_held_back_after_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, clock = Heard(), records.FixedClock()
    client = make_client("xoxb", "http://127.0.0.1:1/api/")

    async def limited() -> None:
        raise SlackApiError("", Response(429, {"error": "ratelimited"}, {"Retry-After": "7"}))

    async def broken() -> None:
        raise SlackApiError("", Response(503, {}))

    monkeypatch.setattr(client, "auth_test", limited)
    api = SlackApi(client, clock, meter=heard)
    for _ in range(3):
        with pytest.raises(Limited):
            await api.identity()
    assert ends(heard) == [(System.SLACK, "auth.test", End.LIMITED)]
    clock.time += timedelta(seconds=7)
    monkeypatch.setattr(client, "auth_test", broken)
    with pytest.raises(Doubtful):
        await api.identity()
    assert ends(heard)[1:] == [(System.SLACK, "auth.test", End.UNKNOWN)]


async def test_an_answer_to_a_gesture_is_a_call_without_its_address() -> None:
    heard = Heard()
    address = f"http://127.0.0.1:{free_port()}"
    api = SlackApi(make_client("xoxb", f"{address}/api/"), records.FixedClock(), make_hooks(f"{address}/api/"), heard)
    with pytest.raises(NotSent):
        await api.respond(f"{address}/actions/T1/secret", {"text": "x"})
    with pytest.raises(RefusedBySlack):
        await api.respond("https://elsewhere.example/secret", {"text": "x"})
    assert ends(heard) == [(System.SLACK, RESPONSE, End.UNREACHABLE)]


async def test_a_thread_is_seen_for_the_first_time_once(tmp_path: Path) -> None:
    clock, heard = records.FixedClock(), Heard()
    async with stand_in() as slack, SqlStore.open(f"sqlite:///{tmp_path / 'n.db'}", clock) as store:
        shown = incident().model_copy(update={"opened_at": clock.now(), "updated_at": clock.now()})
        async with store.begin() as tx:
            await tx.put(shown)
        api = SlackApi(make_client(slack.bot_token, slack.api_url), clock)
        report = reporter(store, clock, lambda: None)
        drawer = SlackDrawer(api, store, store, RULES, clock, draw=draw, report=report, meter=heard)
        for _ in range(3):
            clock.time += timedelta(seconds=10)
            await drawer.draw(shown.id)
            async with store.begin() as tx:
                await tx.touch(shown.id)
    assert [(one.id, at) for one, at in heard.threads] == [(shown.id, records.NOW + timedelta(seconds=10))]
