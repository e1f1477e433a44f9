"""Databases with records go from revision to revision and keep them, on both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bot.adapters.database import SqlStore
from bot.adapters.database.revisions import OURS, Revisions, differences
from bot.errors import BadInput, StoreConflict, StoreError
from bot.flow.audit import verify
from bot.model import Incident
from tests.integration.migrating import everything, fill, made, opened, revision, run
from tests.integration.store_records import (
    FixedClock,
    alert,
    incident,
)

pytestmark = pytest.mark.timeout(120)


async def test_what_is_stored_survives_every_revision_there_and_back(url: str, grown: Revisions) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await fill(store)
        stored = await everything(store)
    lines: list[str] = []
    for id_ in grown.ids[grown.ids.index(OURS.newest) + 1 :]:
        async with opened(url, grown) as tables:
            lines += (await tables.upgrade(id_, "ada (terminal)")).revisions
        assert await revision(url) == id_
    assert [line[:13] for line in lines] == ["9001 (expand)", "9002 (contrac"]
    with pytest.raises((StoreConflict, StoreError)):
        await run(url, lambda connection: connection.execute(text("UPDATE incidents SET mood = NULL")))
    for id_ in reversed(OURS.ids):
        async with opened(url, grown) as tables:
            await tables.downgrade(id_, "ada (terminal)")
        assert await revision(url) == id_
    async with opened(url) as tables:
        await tables.upgrade(None, "ada (terminal)")
    assert await run(url, differences) == ()
    async with SqlStore.open(url, FixedClock()) as store:
        assert await everything(store) == stored
        rows = await store.audit_entries()
        assert verify(rows).intact
        told = [(row.kind, row.data["before"], row.data["after"]) for row in rows[3:]]
        assert told[:4] == [
            ("database.upgraded", OURS.newest, "9001"),
            ("database.upgraded", "9001", "9002"),
            ("database.downgraded", "9002", OURS.newest),
            *([("database.downgraded", OURS.newest, OURS.ids[-2])] if len(OURS.ids) > 1 else []),
        ]
        assert {row.actor for row in rows[3:]} == {"ada (terminal)"}


async def test_after_the_way_there_and_back_references_hold_and_audit_rows_can_not_change(
    url: str, grown: Revisions
) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await fill(store)
    async with opened(url, grown) as tables:
        await tables.upgrade(None, "ada")
        await tables.downgrade(OURS.newest, "ada")
    for statement in ("UPDATE audit SET sentence = 'other'", "DELETE FROM audit"):
        with pytest.raises(StoreConflict, match="append-only"):
            await run(url, lambda connection, said=statement: connection.execute(text(said)))
    async with SqlStore.open(url, FixedClock()) as store:
        with pytest.raises(StoreConflict):
            async with store.begin() as tx:
                await tx.put(alert("2", incident_id="inc_never_stored"))


async def test_a_revision_that_leaves_a_reference_to_nothing_changes_nothing(tmp_path: Path, grown: Revisions) -> None:
    url = f"sqlite:///{tmp_path}/n.db"
    async with SqlStore.open(url, FixedClock()) as store:
        await fill(store)
    file = next((tmp_path / "grown" / "versions").glob("9001*"))
    file.write_text(
        file.read_text().replace(
            'op.create_table("notes"', 'op.execute("DELETE FROM incidents")\n    op.create_table("notes"'
        )
    )
    async with opened(url, grown) as tables:
        with pytest.raises(StoreError, match="would refer to nothing"):
            await tables.upgrade("9001", "ada")
    assert await revision(url) == OURS.newest
    async with SqlStore.open(url, FixedClock()) as store:
        assert await store.get(Incident, "inc_1") == incident()


async def test_a_database_from_before_the_revisions_is_named_and_keeps_its_records(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await fill(store)
        stored = await everything(store)

    def unname(connection: Connection) -> None:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO schema_version VALUES (5)"))

    for id_ in reversed(OURS.ids[:-1]):
        async with opened(url) as tables:
            await tables.downgrade(id_, "ada")
    await run(url, unname)
    with pytest.raises(StoreError, match=r"schema 5 .* run `natsmedic db upgrade`"):
        await made(url)
    async with opened(url) as tables:
        assert (await tables.upgrade(None, "ada")).before == "schema 5"
    assert await run(url, differences) == ()
    async with SqlStore.open(url, FixedClock()) as store:
        assert await everything(store) == stored
        assert (await store.audit_entries())[-1].data["before"] == "schema 5"


async def test_tables_older_than_the_last_number_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE schema_version (version INTEGER)")
        raw.execute("INSERT INTO schema_version VALUES (4)")
    for work in (made, upgraded):
        with pytest.raises(StoreError, match=r"schema 4.*brings it to schema 5"):
            await work(f"sqlite:///{path}")


async def upgraded(url: str) -> None:
    async with opened(url) as tables:
        await tables.upgrade(None, "ada")


async def test_what_can_not_be_is_refused_with_the_way_out(url: str, grown: Revisions) -> None:
    async with opened(url, grown) as tables:
        assert (await tables.standing()).revision is None
        await tables.upgrade("9001", "ada")
        assert (await tables.upgrade("9001", "ada")).revisions == ()
        with pytest.raises(BadInput, match="no revision '7'"):
            await tables.upgrade("7", "ada")
        with pytest.raises(BadInput, match=f"db downgrade {OURS.newest}` goes back"):
            await tables.upgrade(OURS.newest, "ada")
        for lower in ("9001", "9002"):
            with pytest.raises(BadInput, match=f"no way back from 9001 to {lower}"):
                await tables.downgrade(lower, "ada")
    async with opened(url) as tables:
        with pytest.raises(StoreError, match="use the newer natsmedic"):
            await tables.upgrade(None, "ada")
