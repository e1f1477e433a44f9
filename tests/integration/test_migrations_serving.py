"""Tables that change while bots serve, begin to, or seem dead."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bot.adapters.database import SqlStore, schema
from bot.adapters.database.revisions import OURS, Revisions
from bot.bootstrap.replicas import DEAD_SECONDS
from bot.errors import ReplicaExpelled, StoreError
from tests.integration.migrating import everything, fill, made, opened, revision, serve
from tests.integration.store_records import (
    NOW,
    FixedClock,
    incident,
)

pytestmark = pytest.mark.timeout(120)


class Beating(FixedClock):
    """While somebody waits, a replica says that it lives."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__()
        self.store = store

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self.store.beat("a", {})


async def test_a_program_starts_on_its_own_revision_only(
    url: str, grown: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(url)
    monkeypatch.setattr(schema, "OURS", grown)
    for read_only in (False, True):
        older = rf"revision {OURS.newest} and this natsmedic needs 9002: run `natsmedic db upgrade`"
        with pytest.raises(StoreError, match=older):
            async with SqlStore.open(url, FixedClock(), read_only=read_only):
                pass
    async with opened(url, grown) as tables:
        await tables.upgrade(None, "ada")
    async with SqlStore.open(url, FixedClock(), read_only=True) as store:
        assert len(await store.audit_entries()) == 1
    monkeypatch.undo()
    for read_only in (False, True):
        newer = rf"revision 9002 and this natsmedic needs {OURS.newest}: use the newer natsmedic"
        with pytest.raises(StoreError, match=newer):
            async with SqlStore.open(url, FixedClock(), read_only=read_only):
                pass


async def test_a_bot_that_serves_goes_on_while_the_tables_grow_and_stops_a_contraction(
    url: str, grown: Revisions
) -> None:
    async with SqlStore.open(url, FixedClock()) as old:
        await serve(old)
        async with opened(url, grown, Beating(old)) as tables:
            await tables.upgrade("9001", "ada")
            await fill(old)
            assert (await everything(old))[0] == incident()
            with pytest.raises(StoreError, match="already serve"):
                await tables.upgrade("9002", "ada")
            with pytest.raises(StoreError, match="already serve"):
                await tables.downgrade(OURS.newest, "ada")
        assert await revision(url) == "9001"
        if old.takes_several:
            await old.leave("a")
    async with opened(url, grown) as tables:
        await tables.upgrade("9002", "ada")
        await tables.downgrade(OURS.newest, "ada")


async def test_replicas_that_were_killed_stop_no_contraction_and_can_write_no_more_when_they_wake(
    postgres_url: str, grown: Revisions
) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as killed:
        await killed.join("a")
        clock = FixedClock()
        async with opened(postgres_url, grown, clock) as tables:
            await tables.upgrade(None, "ada")
        assert clock.now() - NOW == timedelta(seconds=schema.SILENT_SECONDS)
        assert schema.SILENT_SECONDS > DEAD_SECONDS
        with pytest.raises(ReplicaExpelled):
            await fill(killed)
        kinds = [row.kind for row in await killed.audit_entries()]
        assert kinds == ["replica.lost", "database.upgraded"]


async def test_a_replica_that_joins_while_the_others_are_waited_for_stops_a_contraction(
    postgres_url: str, grown: Revisions
) -> None:
    class Joining(FixedClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if self.now() - NOW == timedelta(seconds=schema.SILENT_SECONDS):
                await other.join("b")

    async with SqlStore.open(postgres_url, FixedClock()) as killed, SqlStore.open(postgres_url, FixedClock()) as other:
        await killed.join("a")
        async with opened(postgres_url, grown, Joining()) as tables:
            with pytest.raises(StoreError, match=r"already serve .*\(b\): stop them first"):
                await tables.upgrade(None, "ada")
        await fill(killed)
    assert await revision(postgres_url) == OURS.newest


async def test_a_bot_that_looked_before_a_contraction_does_not_begin_to_serve_after_it(
    url: str, grown: Revisions
) -> None:
    async with SqlStore.open(url, FixedClock()) as late:
        async with opened(url, grown) as tables:
            await tables.upgrade(None, "ada")
        with pytest.raises(StoreError, match="use the newer natsmedic"):
            await serve(late)


async def test_two_who_upgrade_at_once_do_it_once(url: str, grown: Revisions) -> None:
    await made(url)

    async def one() -> bool:
        async with opened(url, grown) as tables:
            try:
                return bool((await tables.upgrade("9001", "ada")).revisions)
            except StoreError:
                return False

    assert sorted(await asyncio.gather(one(), one())) == [False, True]
    async with opened(url, grown) as tables:
        assert (await tables.standing()).revision == "9001"
