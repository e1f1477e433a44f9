"""What only a SQLite file does: its locks, its refusals, what it says of a bad place."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import SettingsError, StoreBusy, StoreError
from bot.model import (
    Incident,
)
from tests.integration.store_process import other_process
from tests.integration.store_records import (
    FixedClock,
    draft,
    filled,
    incident,
    proposal,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "natsmedic.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqlStore]:
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as opened:
        yield opened


def test_kill_9_inside_a_transaction_leaves_nothing_of_it(path: Path) -> None:
    with other_process(f"sqlite:///{path}", "half") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "half"
        process.send_signal(signal.SIGKILL)

    async def look() -> tuple[int, int]:
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
            async with store.begin() as tx:
                await tx.put(incident())
            return len(await store.incidents()), len(await store.audit_entries())

    assert asyncio.run(look()) == (1, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET sentence = 'other' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT 9, at, kind, actor, incident_id, subject, sentence, data, 'p', 'h' FROM audit WHERE seq = 1",
    ],
)
async def test_the_database_itself_refuses_to_change_audit_entries(store: SqlStore, path: Path, statement: str) -> None:
    async with store.begin() as tx:
        entries = [await tx.audit(draft()), await tx.audit(draft())]
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="audit entries are append"):
        raw.execute(statement)
    assert await store.audit_entries() == entries


async def test_a_writer_gives_up_after_two_seconds_of_a_foreign_lock(store: SqlStore, path: Path) -> None:
    await filled(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreBusy, match="nothing was written"):
            async with store.begin() as tx:
                await tx.put(proposal("2"))
        assert 1.8 < time.monotonic() - began < 4.0
        assert await store.get(Incident, "inc_1") == incident(), "readers do not wait for writers"
        raw.execute("ROLLBACK")
    async with store.begin() as tx:
        await tx.put(proposal("2"))


async def test_a_second_server_is_refused_and_a_reader_is_not(path: Path) -> None:
    with other_process(f"sqlite:///{path}", "serve") as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "serving\n"
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as second:
            with pytest.raises(StoreError, match=rf"Another natsmedic \(process {process.pid}\) already serves"):
                await second.acquire_process_lock()
        async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as reader:
            assert await reader.incidents() == []
            with pytest.raises(StoreError, match="reading only"):
                async with reader.begin():
                    pass
        process.send_signal(signal.SIGKILL)
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as third:
        await third.acquire_process_lock()


async def test_bad_places_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and it is long enough to be looked at " * 20)
    cases: list[tuple[str, bool, type[StoreError | SettingsError], str]] = [
        ("mysql://u:secret@h/d", False, SettingsError, "not supported"),
        ("sqlite://", False, SettingsError, "in memory"),
        ("not a url", False, SettingsError, "not a database URL"),
        (f"sqlite:///{tmp_path}/none/db", False, StoreError, "does not exist"),
        (f"sqlite:///{tmp_path}/none", True, StoreError, "no database at"),
        (f"sqlite:///{tmp_path}/text", False, StoreError, "not a database"),
    ]
    for url, read_only, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            async with SqlStore.open(url, FixedClock(), read_only=read_only):
                pass
        assert "secret" not in str(caught.value)


async def test_the_settings_that_durability_rests_on_are_in_force(store: SqlStore, path: Path) -> None:
    from sqlalchemy import text

    async with store._database.write() as session:
        for name, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert await session.scalar(text(f"PRAGMA {name}")) == wanted
    async with store._database.read() as session:
        assert await session.scalar(text("PRAGMA query_only")) == 1
