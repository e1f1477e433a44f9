"""Databases whose tables are brought to another revision, by this natsmedic or one to come, for tests."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection

from bot.adapters.database import SqlStore, Tables, schema
from bot.adapters.database.opening import connect
from bot.adapters.database.revisions import FOLDER, OURS, Revisions
from bot.model import Alert, Delivery, Diagnosis, Execution, Factor, Incident, Proposal, Record
from bot.ports import Clock, Store
from tests.integration.store_records import (
    FixedClock,
    draft,
    execution,
    filled,
)

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


def grown_in(folder: Path) -> Revisions:
    """Make a folder of our revisions and two more."""
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


async def serve(store: SqlStore) -> None:
    """Be a bot that serves."""
    await (store.join("a") if store.takes_several else store.acquire_process_lock())
