"""What people do at a replica that does not draw reaches the one that does: over PostgreSQL, at once, and as a hint that may get lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from bot.adapters.charts import draw
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore, postgresql
from bot.adapters.database.messages import ACTED
from bot.adapters.slack import SlackAdapter
from bot.bootstrap.replicas import RETRY_SECONDS, hear
from bot.bootstrap.reporting import reporter
from bot.errors import StoreError
from bot.lab.postgres import PostgresServer
from bot.lab.slack import StandInSlack
from bot.model import IncidentId
from bot.settings import Transport
from tests.integration.slack_adapter_support import (
    ADA,
    GRACE,
    OPS,
    RULES,
    House,
    diagnosis,
    incident,
    key,
    proposal,
    settings,
    stand_in,
)
from tests.integration.store_records import FixedClock

pytestmark = pytest.mark.timeout(60)

INC = IncidentId("inc_1")
AT_ONCE = 0.2
"""Seconds in which the quickest of several hints is heard, on a busy machine too: it takes 5 ms."""
SHOWN = 2.0
"""Seconds in which a board shows a click. Held back as a repeat of an alert is, it would take up to five."""


@asynccontextmanager
async def listening(store: SqlStore) -> AsyncGenerator[asyncio.Queue[tuple[IncidentId, float]]]:
    """What is heard, and when, until the block ends."""
    heard: asyncio.Queue[tuple[IncidentId, float]] = asyncio.Queue()
    hearing = asyncio.create_task(hear(store, lambda one: heard.put_nowait((one, time.monotonic())), SystemClock()))
    try:
        yield heard
    finally:
        hearing.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(hearing, 1)


async def listeners(url: str, wanted: int) -> None:
    """Wait until so many connections listen."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    async with asyncio.timeout(5), await psycopg.AsyncConnection.connect(url, autocommit=True) as raw:
        while await (await raw.execute(count.encode())).fetchone() != (wanted,):
            await asyncio.sleep(0.02)


async def test_the_replica_that_listens_hears_at_once_of_an_action_whoever_holds_the_write_lock(
    postgres_url: str,
) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as draws, SqlStore.open(postgres_url, FixedClock()) as takes:
        async with listening(draws) as heard:
            await listeners(postgres_url, 1)
            with psycopg.connect(postgres_url) as raw:
                raw.execute("SELECT pg_advisory_xact_lock(%s)", (postgresql.WRITE_LOCK,))
                took: list[float] = []
                for number in range(3):
                    began = time.monotonic()
                    await takes.hurry(IncidentId(f"inc_{number}"))
                    one, at = await asyncio.wait_for(heard.get(), 5)
                    assert one == f"inc_{number}"
                    took.append(at - began)
                assert min(took) < AT_ONCE
        await listeners(postgres_url, 0)


async def test_what_is_no_incident_is_not_heard(postgres_url: str) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as store, listening(store) as heard:
        await listeners(postgres_url, 1)
        with psycopg.connect(postgres_url, autocommit=True) as raw:
            for words in ("", "prop_1", "inc_1; inc_2", "inc_ä", "inc_" + "1" * 4000):
                raw.execute("SELECT pg_notify(%s, %s)", (ACTED, words))
            raw.execute("SELECT pg_notify('another', 'inc_3')")
        await store.hurry(INC)
        assert (await asyncio.wait_for(heard.get(), 5))[0] == INC


async def test_it_is_heard_again_after_restarts_of_the_database_with_a_pause_between_attempts(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[float] = []
    connect = psycopg.AsyncConnection.connect

    async def counted(*args: object, **options: object) -> object:
        attempts.append(time.monotonic())
        return await connect(*args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", counted)
    async with SqlStore.open(postgres_url, FixedClock()) as store, listening(store) as heard:
        await listeners(postgres_url, 1)
        for number in range(2):
            try:
                await asyncio.to_thread(postgres.stop)
                with pytest.raises(StoreError):
                    await store.hurry(INC)
                attempts.clear()
                await asyncio.sleep(3 * RETRY_SECONDS)
                tried = list(attempts)
            finally:
                await asyncio.to_thread(postgres.start)
            assert len(tried) >= 2
            assert min(later - one for one, later in pairwise(tried)) >= RETRY_SECONDS
            await listeners(postgres_url, 1)
            await store.hurry(IncidentId(f"inc_{number}"))
            assert (await asyncio.wait_for(heard.get(), 5))[0] == f"inc_{number}"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_on_sqlite_nothing_is_said_and_nobody_listens(tmp_path: Path) -> None:
    clock = FixedClock()
    async with SqlStore.open(f"sqlite:///{tmp_path / 'natsmedic.db'}", clock) as store:
        before = contents(tmp_path)
        hearing = asyncio.create_task(hear(store, lambda _: None, clock))
        await store.hurry(INC)
        await asyncio.sleep(0.1)
        assert not hearing.done()
        assert clock.now() == FixedClock().now(), "it waits for nothing"
        assert contents(tmp_path) == before
        with pytest.raises(StoreError, match="one serving process"):
            async with store.hurried():
                pass
        hearing.cancel()


def replica(slack: StandInSlack, store: SqlStore, transport: Transport) -> House:
    report = reporter(store, SystemClock(), lambda: None)
    adapter = SlackAdapter(settings(slack, transport), RULES, store, store, SystemClock(), draw=draw, report=report)
    return House(slack, store, adapter)


async def test_a_board_shows_at_once_what_a_replica_took_that_does_not_draw(postgres_url: str) -> None:
    async with (
        stand_in() as slack,
        SqlStore.open(postgres_url, SystemClock()) as first,
        SqlStore.open(postgres_url, SystemClock()) as second,
    ):
        draws, takes = replica(slack, first, Transport.HTTP), replica(slack, second, Transport.SOCKET)
        leading = asyncio.Event()
        leading.set()
        try:
            await draws.adapter.start(draws.desk(), draws.office(), leading)
            await takes.adapter.start(takes.desk(), takes.office(), asyncio.Event())
            await slack.connected()
            async with asyncio.TaskGroup() as tasks:
                hearing = tasks.create_task(hear(first, draws.adapter.chat.hurry, SystemClock()))
                await listeners(postgres_url, 1)
                await draws.put(incident(), diagnosis(), proposal())
                await draws.drawn()
                board = draws.message("board")
                assert key(board) == "board:inc_1"
                for user in (ADA, GRACE, ADA, GRACE):
                    began = time.monotonic()
                    assert (await slack.person.click(user, OPS, board.ts, "take")).failure is None
                    await draws.until(lambda user=user: f"'user_id': '{user}'" in str(draws.message("board").blocks))
                    assert time.monotonic() - began < SHOWN
                hearing.cancel()
        finally:
            await takes.adapter.stop()
            await draws.adapter.stop()
