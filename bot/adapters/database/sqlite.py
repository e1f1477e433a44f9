"""The SQLite file: how it is opened, locked, written and read.

One writing connection (SQLite has one writer anyway) that starts every transaction with BEGIN IMMEDIATE, and a few reading ones that can't write.
WAL lets both work side by side; synchronous=FULL makes a commit survive a power cut. What was asked for is read back at start: SQLite ignores a PRAGMA
that it can't honour.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from sqlalchemy import URL, Connection, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState
from sqlmodel import col

from bot.adapters.database.connection import BUSY_SECONDS, READERS, Database
from bot.adapters.database.rows import AUDIT_GAPS, QUEUE, SCHEMA_VERSION, SILENCES, Row, SchemaVersionRow
from bot.errors import SettingsError, StoreBusy, StoreConflict, StoreDown, StoreError

SQLITE_BUSY = 5
SQLITE_LOCKED = 6
"""Primary result codes, https://sqlite.org/rescode.html."""
SQLITE_DOWN = {8, 10, 13, 14}
"""READONLY, IOERR, FULL and CANTOPEN: what ails is the disk, not what is written."""
_PRIMARY_CODE = 0xFF
_GROWN_BY_TABLES = {1, 2, 3, 4}
"""Schema versions that lack only whole tables, and columns with a default; they are added when the database is opened for writing."""
_GROWN_BY_COLUMNS = {"urgent": "BOOLEAN NOT NULL DEFAULT 0", "progress": "TEXT NOT NULL DEFAULT '{}'"}
"""What `deliveries` lacks in those versions; some files of version 4 have it, which was written while that version was made."""


class SqliteDatabase(Database):
    """One open SQLite file."""

    def __init__(self, path: Path, writer: AsyncEngine | None, reader: AsyncEngine) -> None:
        super().__init__(str(path), writer, reader)
        self.path = path
        self._lock_file: IO[str] | None = None

    @property
    def takes_several(self) -> bool:
        """Return False: a second process could not know whether the first, which it can't see on another machine, is dead."""
        return False

    async def acquire_process_lock(self) -> None:
        """Become the one serving process of this database, until `close` or the end of the process.

        Raises `StoreError` where another process serves already; the kernel frees the lock of a process that dies.
        """
        lock = self.path.with_name(self.path.name + ".lock")
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise StoreError(
                f"Another natsmedic (process {holder}) already serves with the database {self.path}: stop it, or give this one a database of its own."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._lock_file = file

    async def close(self) -> None:
        """Close all connections and free the process lock."""
        await super().close()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def is_undecodable(self, error: DBAPIError) -> bool:
        """Return whether SQLite has no objection: then Python could not decode what stands there, and natsmedic wrote UTF-8."""
        return result_code(error.orig) is None

    async def _lock_writing(self, session: AsyncSession) -> None:
        await session.connection()  # begins, and so takes the write lock

    def _typed(self, error: DBAPIError) -> StoreError:
        if isinstance(error, IntegrityError):
            return StoreConflict(f"The database refused a row that contradicts another: {error.orig}.")
        if result_code(error.orig) in SQLITE_DOWN:
            return StoreDown(f"The database {self.path} can't be written: {error.orig}.")
        if result_code(error.orig) in {SQLITE_BUSY, SQLITE_LOCKED}:
            return StoreBusy(
                f"The database {self.path} was locked for more than {BUSY_SECONDS:g} s: nothing was written."
            )
        return StoreError(f"The database {self.path} failed: {error.orig}.")


async def open_sqlite(path: Path, *, read_only: bool) -> Database:
    """Open the file, creating it and its tables where they are missing and `read_only` is not set. Raises `StoreError`."""
    _insist_on_place(path, read_only=read_only)
    writer = None if read_only else _engine(path, writing=True)
    database = SqliteDatabase(path, writer, _engine(path, writing=False))
    try:
        with database.typed_errors():
            if writer is not None:
                async with writer.connect() as connection:
                    await connection.run_sync(_prepare, path)
                    await connection.commit()
            async with database.read() as session:
                await session.run_sync(lambda sync: _check_version(sync.connection(), path))
    except BaseException:
        await database.close()
        raise
    return database


def sqlite_file(url: URL) -> Path:
    """Return the file of `sqlite:///PATH`; raise `SettingsError` where it names none."""
    if not url.database or url.database == ":memory:":
        raise SettingsError("database: a database in memory would lose everything at a restart; write sqlite:///PATH.")
    return Path(url.database)


def _engine(path: Path, *, writing: bool) -> AsyncEngine:
    size = 1 if writing else READERS
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=size, max_overflow=0)
    wanted = {
        "busy_timeout": int(BUSY_SECONDS * 1000),
        "foreign_keys": 1,
        "synchronous": 2,
        "query_only": 0 if writing else 1,
    }

    def connected(dbapi: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        dbapi.isolation_level = None  # transactions are begun below, not guessed by the driver
        cursor = dbapi.cursor()
        if writing:
            cursor.execute("PRAGMA journal_mode = WAL")
            _insist(path, "journal_mode", "wal", cursor.fetchone())
        for name, value in wanted.items():
            cursor.execute(f"PRAGMA {name} = {value}")
            cursor.execute(f"PRAGMA {name}")
            _insist(path, name, value, cursor.fetchone())
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    def returned(dbapi: sqlite3.Connection, _: ConnectionPoolEntry, __: PoolResetState) -> None:
        dbapi.rollback()  # a COMMIT that failed on a deferred reference leaves its transaction open, and SQLAlchemy takes it for ended

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
    event.listen(engine.sync_engine, "reset", returned)
    return engine


def _insist_on_place(path: Path, *, read_only: bool) -> None:
    if read_only and not path.exists():
        raise StoreError(
            f"There is no database at {path}: start natsmedic once, or check `database` in the configuration."
        )
    if not path.parent.is_dir():
        raise StoreError(f"The folder {path.parent} of the database does not exist: create it first.")


def _insist(path: Path, name: str, wanted: object, answer: tuple[object] | None) -> None:
    if answer is None or answer[0] != wanted:
        raise StoreError(
            f"The database {path} does not take {name}={wanted} (it says {answer and answer[0]}): put it on a local disk."
        )


def _prepare(connection: Connection, path: Path) -> None:
    if not inspect(connection).has_table("schema_version"):
        Row.metadata.create_all(connection)
        connection.execute(text("INSERT INTO schema_version (version) VALUES (:version)"), {"version": SCHEMA_VERSION})
    elif connection.execute(select(col(SchemaVersionRow.version))).scalar() in _GROWN_BY_TABLES:
        Row.metadata.create_all(connection)
        there = {column["name"] for column in inspect(connection).get_columns("deliveries")}
        for name, kind in _GROWN_BY_COLUMNS.items():
            if name not in there:
                connection.execute(text(f"ALTER TABLE deliveries ADD COLUMN {name} {kind}"))
        connection.execute(text("UPDATE schema_version SET version = :version"), {"version": SCHEMA_VERSION})
    _check_version(connection, path)
    for index in (AUDIT_GAPS, SILENCES, QUEUE):  # an index changes no answer, so it needs no version
        index.create(connection, checkfirst=True)


def _check_version(connection: Connection, path: Path) -> None:
    if not inspect(connection).has_table("schema_version"):
        raise StoreError(f"The file {path} holds no natsmedic database.")
    found = connection.execute(select(col(SchemaVersionRow.version))).scalar()
    if found != SCHEMA_VERSION:
        way_out = (
            "use the newer natsmedic"
            if found is not None and found > SCHEMA_VERSION
            else "start `natsmedic serve` once, which upgrades it"
            if found in _GROWN_BY_TABLES
            else "restore it from a backup"
        )
        raise StoreError(
            f"The database {path} has schema version {found} and this natsmedic knows {SCHEMA_VERSION}: {way_out}."
        )


def result_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code; the asyncio dialect may carry the driver's own error as the cause."""
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & _PRIMARY_CODE
        error = error.__cause__
    return None
