"""The SQLite file: how it is opened, locked, written and read.

One writing connection (SQLite has one writer anyway) that starts every transaction with BEGIN IMMEDIATE, and a few reading ones that can't write.
WAL lets both work side by side; synchronous=FULL makes a commit survive a power cut. What was asked for is read back at start: SQLite ignores a PRAGMA
that it can't honour.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from bot.adapters.database.connection import BUSY_SECONDS, QUEUE_SECONDS, READERS, Database
from bot.errors import SettingsError, StoreBusy, StoreConflict, StoreDown, StoreError

SQLITE_BUSY = 5
SQLITE_LOCKED = 6
"""Primary result codes, https://sqlite.org/rescode.html."""
SQLITE_DOWN = {8, 10, 13, 14}
"""READONLY, IOERR, FULL and CANTOPEN: what ails is the disk, not what is written."""
_PRIMARY_CODE = 0xFF


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

    async def tell(self, channel: str, words: str) -> None:
        """Do nothing: nobody else serves, so nobody listens."""

    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Raise: nobody else serves."""
        raise StoreError(f"On {channel} of the database {self.name} nobody speaks: it has one serving process.")

    async def acquire_process_lock(self) -> None:
        """Become the one serving process of this database, until `close` or the end of the process.

        Raises `StoreError` where another process serves already; the kernel frees the lock of a process that dies.
        """
        if self._lock_file is not None:
            return
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

    @asynccontextmanager
    async def rebuild(self) -> AsyncGenerator[AsyncSession]:
        """As `write`, with references checked once, at its end: SQLite changes a column by copying its table, and dropping the old one is a breach else.

        They can be switched off outside of a transaction only (https://sqlite.org/lang_altertable.html, section 7).
        """
        if self._writer is None:
            raise StoreError(f"The database {self.name} is open for reading only.")
        with self.typed_errors():
            async with self._writer.connect() as connection:
                await connection.run_sync(_stop_checking_references)
        try:
            async with self.write() as session:
                yield session
                if broken := (await session.execute(text("PRAGMA foreign_key_check"))).all():
                    raise StoreError(f"{len(broken)} rows would refer to nothing, so nothing was changed.")
        finally:
            await self._writer.dispose()  # the next connection checks references as all do

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of it."""
        return "sqlite"

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


def connect_sqlite(path: Path, *, read_only: bool) -> Database:
    """Return the file's database, whatever tables it has. Raises `StoreError` where there can't be one."""
    _insist_on_place(path, read_only=read_only)
    return SqliteDatabase(path, None if read_only else _engine(path, writing=True), _engine(path, writing=False))


def sqlite_file(url: URL) -> Path:
    """Return the file of `sqlite:///PATH`; raise `SettingsError` where it names none."""
    if not url.database or url.database == ":memory:":
        raise SettingsError("database: a database in memory would lose everything at a restart; write sqlite:///PATH.")
    return Path(url.database)


def _engine(path: Path, *, writing: bool) -> AsyncEngine:
    size = 1 if writing else READERS
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}", pool_size=size, max_overflow=0, pool_timeout=QUEUE_SECONDS
    )
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


def _stop_checking_references(connection: Connection) -> None:
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys = 0")
    cursor.close()


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


def result_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code; the asyncio dialect may carry the driver's own error as the cause."""
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & _PRIMARY_CODE
        error = error.__cause__
    return None
