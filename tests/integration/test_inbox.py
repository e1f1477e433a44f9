"""Deliveries become durable together, and each hears of its own fate. On a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import StoreBusy
from bot.flow.inbox import BYTES_TOGETHER, TOGETHER, Inbox, QueueFull
from bot.model import Delivery
from bot.ports import Transaction
from tests.integration import store_records as records


class Counting(SqlStore):
    """Counts its write transactions; the next `busy` of them find the database locked."""

    writes = 0
    busy = 0

    @asynccontextmanager
    async def begin(self, *, ahead: bool = False) -> AsyncGenerator[Transaction]:
        self.writes += 1
        if self.busy:
            self.busy -= 1
            raise StoreBusy("another process writes")
        async with super().begin(ahead=ahead) as tx:
            yield tx


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Counting]:
    async with Counting.open(f"sqlite:///{folder / 'n.db'}", records.FixedClock()) as store:
        yield store


def delivery(number: int, body: str = "{}") -> Delivery:
    return records.delivery(f"{number:04d}").model_copy(update={"body": body})


@pytest.mark.parametrize(("count", "commits"), [(1, 1), (TOGETHER, 1), (TOGETHER + 1, 2), (3 * TOGETHER, 3)])
async def test_deliveries_that_come_at_once_share_a_commit(tmp_path: Path, count: int, commits: int) -> None:
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 10_000)
        ids = await asyncio.gather(*(inbox.put(delivery(n), None) for n in range(count)))
        assert store.writes == commits
        assert ids == [delivery(n).id for n in range(count)]
        assert await store.count_unprocessed() == count


async def test_large_bodies_share_no_commit_beyond_its_size(tmp_path: Path) -> None:
    half = "x" * (BYTES_TOGETHER // 2)
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 10_000)
        await asyncio.gather(*(inbox.put(delivery(n, half), None) for n in range(3)))
        assert store.writes == 2
        await inbox.put(delivery(9, half * 3), None)
        assert await store.count_unprocessed() == 4


async def test_not_one_more_than_the_cap_is_stored_however_many_come_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 7)
        outcomes = await asyncio.gather(*(inbox.put(delivery(n), None) for n in range(20)), return_exceptions=True)
        assert [isinstance(one, QueueFull) for one in outcomes] == [False] * 7 + [True] * 13
        assert await store.count_unprocessed() == 7


async def test_an_event_that_comes_twice_at_once_is_stored_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 2)
        ids = await asyncio.gather(*(inbox.put(delivery(n), "evt-1") for n in range(5)))
        assert ids == [delivery(0).id] * 5
        assert await store.count_unprocessed() == 1


async def test_a_busy_database_refuses_what_waited_for_it_and_takes_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 10)
        store.busy = 1
        outcomes = await asyncio.gather(*(inbox.put(delivery(n), None) for n in range(5)), return_exceptions=True)
        assert [type(one) for one in outcomes] == [StoreBusy] * 5
        assert await store.count_unprocessed() == 0
        assert await inbox.put(delivery(9), None) == delivery(9).id


async def test_a_sender_that_hung_up_before_its_turn_leaves_nothing_and_the_others_are_stored(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inbox = Inbox(store, 10)
        gone, stays = (asyncio.create_task(inbox.put(delivery(n), None)) for n in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == delivery(1).id
        assert [one.id for one in await store.unprocessed_deliveries()] == [delivery(1).id]
