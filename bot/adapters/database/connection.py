"""The SQLite file: how it is opened, locked, written and read.

One writing connection (SQLite has one writer anyway) that starts every transaction with BEGIN IMMEDIATE, and a few reading ones that can't write.
WAL lets both work side by side; synchronous=FULL makes a commit survive a power cut. What was asked for is read back at start: SQLite ignores a PRAGMA
that it can't honour.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState
from sqlmodel import col

from bot.adapters.database.rows import AUDIT_GAPS, QUEUE, SCHEMA_VERSION, SILENCES, Row, SchemaVersionRow
from bot.errors import SettingsError, StoreBusy, StoreConflict, StoreDown, StoreError
from bot.flow.turns import Turns

BUSY_SECONDS = 2.0
"""How long a write transaction waits for another process's write lock (bot/ports/storage.py, Store.begin)."""
QUEUE_SECONDS = 10.0
"""How long it waits for this process's own writers before that. They take turns in order and hold the lock for a commit each (7 to 13 ms here), so a
burst of a hundred clicks waits its turn; what is not served by then is a writer that hangs, and the caller must hear of it."""
READERS = 4
"""Reading connections; each is a thread of its own in aiosqlite."""
SQLITE_BUSY = 5
SQLITE_LOCKED = 6
"""Primary result codes, https://sqlite.org/rescode.html."""
SQLITE_DOWN = {8, 10, 13, 14}
"""READONLY, IOERR, FULL and CANTOPEN: what ails is the disk, not what is written."""
_PRIMARY_CODE = 0xFF
_GROWN_BY_TABLES = {1, 2, 3}
"""Schema versions that lack only whole tables, and columns with a default; they are added when the database is opened for writing."""
_GROWN_BY_COLUMNS = ("urgent BOOLEAN NOT NULL DEFAULT 0", "progress TEXT NOT NULL DEFAULT '{}'")
"""What `deliveries` lacks in those versions."""


class Database:
    """One open SQLite file. Use `open_database`."""

    def __init__(self, path: Path, writer: AsyncEngine | None, reader: AsyncEngine) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._turns = Turns(1)
        self._lock_file: IO[str] | None = None

    @asynccontextmanager
    async def write(self, *, ahead: bool = False) -> AsyncGenerator[AsyncSession]:
        """Open a write transaction, `ahead` of others that wait; commit at the end of the block, roll back on any exception.

        Raises `StoreBusy` after `BUSY_SECONDS` of waiting for another process, or `QUEUE_SECONDS` for this one's other writers.
        """
        if self._writer is None:
            raise StoreError(f"The database {self.path} is open for reading only.")
        await self._take_turn(0 if ahead else 1)
        try:
            with _typed_errors(self.path):
                async with AsyncSession(self._writer, expire_on_commit=False) as session:
                    await session.connection()  # begins, and so takes the write lock, before anything is read
                    yield session
                    await session.commit()
        finally:
            self._turns.give_back()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """Open a session that sees the last commit and can't write."""
        with _typed_errors(self.path):
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                yield session

    def acquire_process_lock(self) -> None:
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
        if self._writer is not None:
            await self._writer.dispose()
        await self._reader.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    async def _take_turn(self, rank: int) -> None:
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._turns.take(rank)
        except TimeoutError as error:
            raise StoreBusy(
                f"The database {self.path} did not get to this write within {QUEUE_SECONDS:g} s: nothing was written."
            ) from error


async def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open the database of `sqlite:///PATH`, creating file and tables where they are missing and `read_only` is not set.

    Raises `SettingsError` for a URL that is none of ours; `StoreError` where the file can't be opened, is newer than this program, or refuses a setting that
    durability rests on.
    """
    path = sqlite_path(url)
    if read_only and not path.exists():
        raise StoreError(
            f"There is no database at {path}: start natsmedic once, or check `database` in the configuration."
        )
    if not path.parent.is_dir():
        raise StoreError(f"The folder {path.parent} of the database does not exist: create it first.")
    writer = None if read_only else _engine(path, writing=True)
    database = Database(path, writer, _engine(path, writing=False))
    try:
        with _typed_errors(path):
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


def sqlite_path(url: str) -> Path:
    """Return the file of `sqlite:///PATH`; raise `SettingsError` for any other URL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError("database: the value is not a database URL; write sqlite:///PATH.") from error
    if parsed.get_backend_name() != "sqlite":
        raise SettingsError(
            f"database: {parsed.get_backend_name()} is not supported by this version; write sqlite:///PATH."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise SettingsError("database: a database in memory would lose everything at a restart; write sqlite:///PATH.")
    return Path(parsed.database)


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
        for column in _GROWN_BY_COLUMNS:
            connection.execute(text(f"ALTER TABLE deliveries ADD COLUMN {column}"))
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


class _typed_errors:  # noqa: N801 - a context manager, used like a function
    """Turns SQLAlchemy's errors into ours, by result code."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, DBAPIError):
            return
        if isinstance(error, IntegrityError):
            raise StoreConflict(f"The database refused a row that contradicts another: {error.orig}.") from error
        if result_code(error.orig) in SQLITE_DOWN:
            raise StoreDown(f"The database {self._path} can't be written: {error.orig}.") from error
        if result_code(error.orig) in {SQLITE_BUSY, SQLITE_LOCKED}:
            raise StoreBusy(
                f"The database {self._path} was locked for more than {BUSY_SECONDS:g} s: nothing was written."
            ) from error
        raise StoreError(f"The database {self._path} failed: {error.orig}.") from error


def result_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code; the asyncio dialect may carry the driver's own error as the cause."""
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & _PRIMARY_CODE
        error = error.__cause__
    return None
