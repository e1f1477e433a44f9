"""Inserts or replaces rows by their key, many of them in one transaction.

A transaction costs a commit and the write lock of all processes, whatever it writes; the chat's own rows, of which one repair writes some thirty, would
keep those waiting who decide. So what waits for its turn shares one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Executable, inspect
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from bot.adapters.database.connection import Database
from bot.adapters.database.rows import Row
from bot.errors import StoreConflict, StoreError

RISING: Final = {"drawn": "revision"}
"""Columns whose value never falls: a lesser one leaves the row as it is."""
UNWRITTEN: Final = "natsmedic ends, and the row was not written."

Waiting = tuple[Row, asyncio.Future[None]]


async def upsert(session: AsyncSession, rows: Sequence[Row]) -> None:
    """Insert or replace these rows, a statement for each table; of two with the same key the later one stays, or the greater one (see `RISING`)."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault(str(inspect(type(row)).local_table), []).append(row.model_dump())
    for table, values in tables.items():
        await session.execute(_statement(table, session.get_bind().dialect.name), values)


@cache
def _statement(name: str, dialect: str) -> Executable:
    """The two dialects write it alike, but not SQLAlchemy."""
    table = Row.metadata.tables[name]
    keys = [column.name for column in table.primary_key]
    insert = postgresql_insert(table) if dialect == "postgresql" else sqlite_insert(table)
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    rising = RISING.get(name)
    where = None if rising is None else insert.excluded[rising] > table.columns[rising]
    return insert.on_conflict_do_update(index_elements=keys, set_=changed, where=where)


class SharedWrites:
    """Of one process. Whoever puts a row waits for a transaction that has it and all others that waited for their turn by then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[Waiting] = []
        self._taken: list[Waiting] = []
        """What the transaction under way has."""
        self._writing: asyncio.Task[None] | None = None

    async def put(self, row: Row) -> None:
        """Insert or replace it, committed on return. Raises what `Database.write` raises, and `StoreConflict`."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="shared writes")
        await written

    async def close(self) -> None:
        """End what is under way: nobody waits for it any more."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._commit()
        except BaseException as error:
            _tell(self._taken + self._take(), error if isinstance(error, Exception) else StoreError(UNWRITTEN))
            raise
        finally:
            self._writing = None

    async def _commit(self) -> None:
        self._taken = []
        try:
            async with self._database.write() as session:
                self._taken = self._take()
                await upsert(session, [row for row, _ in self._taken])
        except StoreConflict as error:
            if len(self._taken) == 1:
                _tell(self._taken, error)
            else:
                await self._one_by_one(self._taken)
        except StoreError as error:
            _tell(self._taken or self._take(), error)
        else:
            _tell(self._taken, None)

    def _take(self) -> list[Waiting]:
        """Return what is still waited for; whoever has gone away since is not written for."""
        taken, self._waiting = [one for one in self._waiting if not one[1].done()], []
        return taken

    async def _one_by_one(self, taken: Sequence[Waiting]) -> None:
        """One of them contradicts what is there, and only that one is to fail."""
        for one in taken:
            try:
                async with self._database.write() as session:
                    await upsert(session, [one[0]])
            except StoreError as error:
                _tell([one], error)
            else:
                _tell([one], None)


def _tell(taken: Sequence[Waiting], error: Exception | None) -> None:
    for _, written in taken:
        if written.done():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
