"""A blocked event loop is noticed from outside it, at its exact seconds and in reality."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from structlog.testing import capture_logs

from bot.adapters.webhooks import webhook_app
from bot.bootstrap.watchdog import BEAT_SECONDS, DUMP_SECONDS, FAIL_SECONDS, Watchdog
from bot.model import DeliveryId
from bot.settings import WebhookSettings


class Time:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.mark.parametrize(
    ("late", "dumped"), [(DUMP_SECONDS - 0.1, False), (DUMP_SECONDS, True), (DUMP_SECONDS + 0.1, True)]
)
def test_the_stacks_are_logged_from_ten_seconds_on(now: Time, late: float, dumped: bool) -> None:
    dog = Watchdog(now)
    now.seconds += BEAT_SECONDS + late
    with capture_logs() as logs:
        dog.look()
    assert [one["event"] for one in logs] == (["the event loop is blocked"] if dumped else [])


@pytest.mark.parametrize(
    ("late", "dead"), [(FAIL_SECONDS - 0.1, False), (FAIL_SECONDS, True), (FAIL_SECONDS + 0.1, True)]
)
def test_the_process_counts_as_dead_from_thirty_seconds_on(now: Time, late: float, dead: bool) -> None:
    dog = Watchdog(now)
    now.seconds += BEAT_SECONDS + late
    assert (dog.problem() is not None) is dead


async def test_they_are_logged_once_for_each_time_and_the_end_is_said(now: Time) -> None:
    dog = Watchdog(now)
    with capture_logs() as logs:
        for _ in range(2):
            now.seconds += 2 * DUMP_SECONDS
            dog.look()
            dog.look()
            beating = asyncio.create_task(dog.beat())
            await asyncio.sleep(0)
            beating.cancel()
            dog.look()
            dog.look()
    assert [one["event"] for one in logs] == ["the event loop is blocked", "the event loop goes on"] * 2


async def test_a_loop_that_is_really_blocked_is_logged_with_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.bootstrap.watchdog.DUMP_SECONDS", 0.05)
    monkeypatch.setattr("bot.bootstrap.watchdog.BEAT_SECONDS", 0.01)
    dog = Watchdog()
    beating = asyncio.create_task(dog.beat())
    with capture_logs() as logs, dog.watching(every=0.01):
        await asyncio.sleep(0.1)
        assert logs == [], "a loop that moves is left alone"
        blocks(0.3)
        await asyncio.sleep(0.05)
    beating.cancel()
    (blocked,) = [one for one in logs if one["event"] == "the event loop is blocked"]
    assert blocked["log_level"] == "error"
    main = next(frames for name, frames in blocked["stacks"].items() if name.startswith("MainThread"))
    assert main[-1].endswith(" blocks")


def blocks(seconds: float) -> None:
    time.sleep(seconds)


class Never:
    async def accept(self, source: str, body: str) -> DeliveryId:
        raise AssertionError(f"{source} {body}")


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_liveness_fails_with_the_watchdog_and_with_nothing_else(now: Time, path: str) -> None:
    async def never_ready() -> list[str]:
        return ["The database does not answer."]

    dog = Watchdog(now)
    app = webhook_app(WebhookSettings(), Never(), never_ready, alive=dog.problem)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://natsmedic") as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get(path)).status_code == 200
        now.seconds += BEAT_SECONDS + FAIL_SECONDS
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["problem"]) == (503, "The event loop is 30 s late.")
