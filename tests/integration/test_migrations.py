"""The revisions of the tables: what they make is what `rows.py` describes, they keep what is stored, and who may run them when."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import textwrap
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bot.adapters.database import SqlStore, Tables, schema
from bot.adapters.database.opening import connect
from bot.adapters.database.revisions import FOLDER, OURS, Effect, Revisions, differences
from bot.adapters.database.rows import Row
from bot.bootstrap.replicas import DEAD_SECONDS
from bot.errors import BadInput, ReplicaExpelled, StoreConflict, StoreError
from bot.flow.audit import verify
from bot.lab.postgres import PostgresServer
from bot.model import Alert, Delivery, Diagnosis, Execution, Factor, Incident, Proposal, Record
from bot.ports import Clock, Store
from tests.integration.catalog import catalog
from tests.integration.store_records import (
    NOW,
    FixedClock,
    alert,
    draft,
    execution,
    filled,
    incident,
)

pytestmark = pytest.mark.timeout(60)

GROWN = {
    "9001_a_table_and_a_column.py": '''
        """A table, and a column of incidents."""
        from alembic.operations import Operations
        from sqlalchemy import Column, text
        from bot.adapters.database.migrations.columns import PLAIN, key, reference

        revision, down_revision, effect = "9001", "NEWEST", "expand"

        def upgrade(op: Operations) -> None:
            op.create_table("notes", key(), reference("incident_id", "incidents.id"))
            op.add_column("incidents", Column("mood", PLAIN, nullable=True))
            op.create_index("incidents_mood", "incidents", ["mood"], postgresql_where=text("mood IS NOT NULL"))

        def downgrade(op: Operations) -> None:
            op.drop_index("incidents_mood", "incidents")
            op.drop_column("incidents", "mood")
            op.drop_table("notes")
    ''',
    "9002_a_stricter_column.py": '''
        """Every incident has a mood."""
        from alembic.operations import Operations
        from bot.adapters.database.migrations.columns import PLAIN

        revision, down_revision, effect = "9002", "9001", "contract"

        def upgrade(op: Operations) -> None:
            op.execute("UPDATE incidents SET mood = 'calm' WHERE mood IS NULL")
            with op.batch_alter_table("incidents") as table:
                table.alter_column("mood", existing_type=PLAIN, nullable=False)

        def downgrade(op: Operations) -> None:
            with op.batch_alter_table("incidents") as table:
                table.alter_column("mood", existing_type=PLAIN, nullable=True)
    ''',
}
"""Two revisions of a natsmedic to come."""

ADDS = re.compile(
    r"CREATE (TABLE|TRIGGER|FUNCTION) |CREATE INDEX |ALTER TABLE \w+ ENABLE ALWAYS TRIGGER |INSERT INTO alembic_version |UPDATE alembic_version |BEGIN|COMMIT"
)
COLUMN = re.compile(r"ALTER TABLE \w+ ADD (COLUMN )?\w+ .*")
"""What a revision that expands consists of, besides unique indexes of tables that it makes."""


@pytest.fixture
def grown(tmp_path: Path) -> Revisions:
    """Ours, and two more."""
    folder = tmp_path / "grown"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, source in GROWN.items():
        (folder / "versions" / name).write_text(textwrap.dedent(source).strip().replace("NEWEST", OURS.newest))
    return Revisions(folder)


@asynccontextmanager
async def opened(url: str, revisions: Revisions = OURS, clock: Clock | None = None) -> AsyncGenerator[Tables]:
    database = await connect(url)
    try:
        yield Tables(database, clock or FixedClock(), revisions)
    finally:
        await database.close()


async def made(url: str) -> None:
    async with SqlStore.open(url, FixedClock()):
        pass


async def run(url: str, work: Callable[[Connection], object]) -> object:
    """Do something to a database in a transaction of its own."""
    database = await connect(url)
    try:
        async with database.rebuild() as session:
            return await session.run_sync(lambda sync: work(sync.connection()))
    finally:
        await database.close()


async def revision(url: str) -> object:
    return await run(url, schema.found_in)


async def everything(store: Store) -> list[Record | None]:
    return [
        await store.get(Incident, "inc_1"),
        await store.get(Delivery, "dlv_1"),
        await store.get(Alert, "alr_1"),
        await store.get(Diagnosis, "dia_1"),
        await store.get(Proposal, "prop_1"),
        await store.get(Execution, "exec_1"),
        await store.get(Factor, "ada"),
    ]


async def fill(store: SqlStore) -> None:
    await filled(store)
    async with store.begin() as tx:
        await tx.put(execution())
        await tx.put(Factor(id="ada", step=7))
        for _ in range(3):
            await tx.audit(draft())


def statements(sql: str) -> list[str]:
    """Return statements on one line each; those of a trigger or function in one."""
    bodies = re.sub(
        r"(\$\$.*?\$\$|\bBEGIN\s+SELECT.*?END)", lambda found: found.group().replace(";", ""), sql, flags=re.DOTALL
    )
    lines = (line for line in bodies.splitlines() if not line.startswith("--"))
    return [found for one in " ".join(lines).split(";") if (found := re.sub(r"\s+", " ", one).strip())]


def breaches(sql: str) -> list[str]:
    """Return the statements with which no program of the revision before could go on."""
    new = set(re.findall(r"CREATE TABLE (\w+)", sql))
    found = [one for one in statements(sql) if not ADDS.match(one)]
    unique = re.compile(r"CREATE UNIQUE INDEX \w+ ON (\w+)")
    found = [one for one in found if not ((match := unique.match(one)) and match[1] in new)]
    return [one for one in found if not (COLUMN.match(one) and ("NOT NULL" not in one or " DEFAULT " in one))]


def test_revisions_are_one_line_in_the_order_of_their_names_and_each_says_what_it_is() -> None:
    found = OURS.between(None, OURS.newest)
    assert tuple(one.id for one in found) == OURS.ids
    assert len(list((FOLDER / "versions").glob("*.py"))) == len(OURS.ids) + 1, "a file whose name no revision has"
    assert all(one.title.endswith(".") and one.effect in Effect for one in found)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_revision_that_expands_only_adds(dialect: str, grown: Revisions) -> None:
    before: str | None = None
    for one in OURS.between(None, OURS.newest):
        if one.effect is Effect.EXPAND:
            assert breaches(OURS.sql(dialect, before, one.id)) == []
        before = one.id
    assert breaches(grown.sql(dialect, before, "9001")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE alerts",
        "DROP INDEX incidents_episode",
        "ALTER TABLE alerts RENAME TO warnings",
        "ALTER TABLE alerts DROP COLUMN source",
        "ALTER TABLE alerts ADD COLUMN mood VARCHAR NOT NULL",
        "ALTER TABLE alerts ALTER COLUMN body SET NOT NULL",
        "CREATE UNIQUE INDEX one ON alerts (source)",
        "UPDATE alerts SET source = ''",
    ],
)
def test_a_statement_that_takes_something_away_does_not_pass_as_expanding(statement: str) -> None:
    assert breaches(f"CREATE TABLE notes (id VARCHAR);\n{statement};\nCREATE UNIQUE INDEX two ON notes (id);") == [
        statement
    ]


async def test_the_tables_that_the_revisions_make_are_those_that_the_rows_describe(
    url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    await made(url)
    assert await run(url, differences) == ()
    if url.startswith("sqlite"):
        other = f"sqlite:///{tmp_path}/described.db"
        await run(other, Row.metadata.create_all)
        assert await run(url, catalog) == await run(other, catalog)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database("described") as other:
        await run(other, Row.metadata.create_all)
        assert await run(url, catalog) == await run(other, catalog)


async def test_a_table_that_is_not_as_described_is_named_and_those_of_others_are_not(url: str) -> None:
    await made(url)
    before = await run(url, catalog)

    def meddle(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE workflow_status (id INTEGER)"))
        connection.execute(text("DROP INDEX incidents_episode"))
        connection.execute(text("DROP INDEX incidents_one_open"))
        connection.execute(text("CREATE UNIQUE INDEX incidents_one_open ON incidents (source, fingerprint)"))
        connection.execute(text("ALTER TABLE factors ADD COLUMN mood VARCHAR"))

    await run(url, meddle)
    named = await run(url, differences)
    assert isinstance(named, tuple)
    assert sorted(named) == ["add index incidents_episode", "remove column factors mood"]
    after = await run(url, catalog)
    assert isinstance(before, frozenset)
    assert isinstance(after, frozenset)
    assert any("incidents_one_open" in line for line in before - after), "its condition is gone"
    async with opened(url) as tables:
        assert (await tables.standing()).differences == named


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


class Beating(FixedClock):
    """While somebody waits, a replica says that it lives."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__()
        self.store = store

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self.store.beat("a", {})


async def serve(store: SqlStore) -> None:
    """Be a bot that serves."""
    await (store.join("a") if store.takes_several else store.acquire_process_lock())


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


async def test_two_databases_are_made_at_once_and_none_gets_tables_of_the_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(3)]
    await asyncio.gather(*(made(one) for one in urls))
    assert [await run(one, differences) for one in urls] == [()] * 3


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


def test_the_first_revision_has_no_way_back() -> None:
    (script,) = OURS._scripts.iterate_revisions(OURS.ids[0], "base")
    with pytest.raises(BadInput, match="would remove the audit log"):
        script.module.downgrade(None)
