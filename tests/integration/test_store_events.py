"""Events that their sender numbers, and the upgrade of a SQLite file that does not know them yet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import StoreConflict, StoreError
from bot.model import Delivery, DeliveryId, Factor
from tests.integration.store_records import FixedClock, delivery


async def first(store: SqlStore, source: str, name: str) -> str:
    async with store.begin() as tx:
        return await tx.first_delivery(source, "e1", DeliveryId(name))


async def test_the_first_delivery_of_an_event_is_remembered_per_source_and_only_if_committed(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        async with store.begin() as tx:
            await tx.put(delivery("1"))
            await tx.put(delivery("2"))
        with pytest.raises(StoreConflict):
            await first(store, "am", "dlv_that_is_never_stored")
        assert await first(store, "am", "dlv_1") == "dlv_1"
        assert await first(store, "am", "dlv_2") == "dlv_1"
        assert await first(store, "pd", "dlv_2") == "dlv_2"


async def test_a_database_of_schema_1_gains_the_new_table_and_keeps_its_records(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store, store.begin() as tx:
        await tx.put(delivery("1"))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TABLE delivered_events")
        raw.execute("DROP INDEX deliveries_queue")
        raw.execute("ALTER TABLE deliveries DROP COLUMN urgent")
        raw.execute("ALTER TABLE deliveries DROP COLUMN progress")
        raw.execute("UPDATE schema_version SET version = 1")
    with pytest.raises(StoreError, match=r"schema version 1 .* start `natsmedic serve` once"):
        async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True):
            pass
    for _ in range(2):
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
            assert await store.get(Delivery, "dlv_1") == delivery("1")
            assert await first(store, "am", "dlv_1") == "dlv_1"


@pytest.mark.parametrize("made_late", [False, True], ids=["before its columns", "with its columns"])
async def test_a_database_of_schema_4_gains_what_it_lacks_whichever_day_it_was_made_on(
    tmp_path: Path, made_late: bool
) -> None:
    path = tmp_path / "n.db"
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store, store.begin() as tx:
        await tx.put(delivery("1"))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TABLE factors")
        if not made_late:
            raw.execute("DROP INDEX deliveries_queue")
            raw.execute("ALTER TABLE deliveries DROP COLUMN urgent")
            raw.execute("ALTER TABLE deliveries DROP COLUMN progress")
        raw.execute("UPDATE schema_version SET version = 4")
    for _ in range(2):
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
            assert await store.get(Delivery, "dlv_1") == delivery("1")
            async with store.begin() as tx:
                await tx.put(Factor(id="ada", step=7))
            assert await store.get(Factor, "ada") == Factor(id="ada", step=7)
