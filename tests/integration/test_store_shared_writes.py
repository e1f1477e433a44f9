"""The chat's own rows share transactions: all that waits for its turn is one, and whatever happens to one row happens to no other."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from bot.adapters.database import SqlStore
from bot.errors import StoreBusy, StoreConflict, StoreError, StoreLost
from bot.model import IncidentId
from bot.ports import Message
from tests.integration.store_records import FixedClock, filled

pytestmark = pytest.mark.timeout(60)
INCIDENT = IncidentId("inc_1")
MANY = 20


def message(number: int, ts: str | None = None, incident: str = INCIDENT) -> Message:
    return Message(key=f"m{number:02d}", incident_id=IncidentId(incident), channel="C1", ts=ts)


@contextmanager
def commits(store: SqlStore) -> Generator[list[object]]:
    """Within the block, keep the commits of the store's writer."""
    made: list[object] = []

    def keep(connection: object) -> None:
        made.append(connection)

    writer = store._database._writer  # pyright: ignore[reportPrivateUsage]
    assert writer is not None
    event.listen(writer.sync_engine, "commit", keep)
    try:
        yield made
    finally:
        event.remove(writer.sync_engine, "commit", keep)


async def settled() -> None:
    """Let every task come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_waits_for_its_turn_is_one_transaction(store: SqlStore) -> None:
    await filled(store)
    wanted = [message(number, f"{number}.1") for number in range(MANY)]
    with commits(store) as made:
        async with asyncio.TaskGroup() as saving, store.begin():
            for one in wanted:
                saving.create_task(store.save(one))
            saving.create_task(store.caught_up(INCIDENT, 1))
            await settled()
    assert len(made) == 2, "the one that they waited for, and theirs"
    assert await store.of(INCIDENT) == wanted
    assert await store.behind() == []


async def test_of_two_saves_of_a_message_in_one_transaction_the_later_one_stays(store: SqlStore) -> None:
    await filled(store)
    async with asyncio.TaskGroup() as saving, store.begin():
        for one in (message(1), message(1, "1.1"), message(1, "1.2")):
            saving.create_task(store.save(one))
        for revision in (1, 3, 2):
            saving.create_task(store.caught_up(INCIDENT, revision))
        await settled()
    assert await store.of(INCIDENT) == [message(1, "1.2")]
    async with store.begin() as tx:
        await tx.touch(INCIDENT)
        await tx.touch(INCIDENT)
    assert await store.behind() == [], "revision 3 was drawn, and the one that came after it took nothing back"


async def test_a_row_that_contradicts_what_is_there_fails_alone(store: SqlStore) -> None:
    await filled(store)
    saves = [store.save(one) for one in (message(1), message(2, incident="inc_gone"), message(3))]
    async with store.begin():
        waiting = [asyncio.create_task(one) for one in saves]
        await settled()
    first, second, third = await asyncio.gather(*waiting, return_exceptions=True)
    assert (first, third) == (None, None)
    assert isinstance(second, StoreConflict)
    assert await store.of(INCIDENT) == [message(1), message(3)]


async def test_a_commit_that_fails_is_told_to_all_who_wait_for_it_and_the_next_one_works(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store)
    real, left = AsyncSession.commit, 2

    async def commit(session: AsyncSession) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise StoreLost("The connection broke.")
        await real(session)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncSession, "commit", commit)
        async with store.begin():
            waiting = [asyncio.create_task(store.save(message(number))) for number in range(3)]
            await settled()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, StoreLost) for one in ended), ended
    assert await store.of(INCIDENT) == []
    await store.save(message(9))
    assert await store.of(INCIDENT) == [message(9)]


async def test_those_who_wait_too_long_hear_of_it_and_nothing_of_theirs_is_written_later(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store)
    monkeypatch.setattr("bot.adapters.database.connection.QUEUE_SECONDS", 0.2)
    async with store.begin():
        with pytest.raises(StoreBusy):
            await store.save(message(1))
    await store.save(message(2))
    assert await store.of(INCIDENT) == [message(2)]


async def test_who_goes_away_takes_their_row_along_and_no_other(store: SqlStore) -> None:
    await filled(store)
    async with store.begin():
        gone, stays = (asyncio.create_task(store.save(message(number))) for number in (1, 2))
        await settled()
        gone.cancel()
        await settled()
    await stays
    assert gone.cancelled()
    assert await store.of(INCIDENT) == [message(2)]


@pytest.mark.parametrize("commits_before", [0, 1, 2], ids=["shared", "first alone", "second alone"])
async def test_a_store_that_is_closed_says_so_to_all_who_wait(
    url: str, monkeypatch: pytest.MonkeyPatch, commits_before: int
) -> None:
    real, left, stuck = AsyncSession.commit, commits_before, asyncio.Event()

    async def commit(session: AsyncSession) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            stuck.set()
            await asyncio.Event().wait()
        await real(session)

    async with SqlStore.open(url, FixedClock()) as store:
        await filled(store)
        monkeypatch.setattr(AsyncSession, "commit", commit)
        rows = message(1, incident="inc_gone"), message(2), message(3)
        waiting = [asyncio.create_task(store.save(one)) for one in rows]
        await stuck.wait()
        await store._writes.close()  # pyright: ignore[reportPrivateUsage]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        monkeypatch.undo()
        kept = await store.of(INCIDENT)
    assert all(isinstance(one, StoreError) for one in ended), ended
    assert [one for one in ended if "natsmedic ends" in str(one)]
    assert kept == []
