"""PostgreSQL 15 or newer: how it is reached, locked, written and read.

The write lock is an advisory lock of the transaction, taken before its first question: under READ COMMITTED every question after that sees what the
transaction before it committed. Readers stand on one snapshot each (REPEATABLE READ) and can't write.

Several processes may serve at once. Each is a row of `replicas`, and every transaction of its looks for that row once it holds the write lock. So whoever was
struck off by the others, because it was silent for too long, can never commit beside its successor, even if it was only stopped and goes on later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from bot.adapters.database.connection import BUSY_SECONDS, QUEUE_SECONDS, READERS, Database
from bot.errors import StoreBusy, StoreConflict, StoreDown, StoreError, StoreLost

OLDEST_SERVER = 150_000
"""PostgreSQL 15.0 as `server_version_num` says it."""
WRITE_LOCK = 0x6E_61_74_73_6D_77
"""Key of an advisory lock, which are one space per database: `natsmw` in ASCII, so that no other program has it by chance."""
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 10
"""No question of ours takes longer than a second on 100,000 incidents; one that does hangs, and holds the write lock."""
REBUILD_SECONDS = 600
"""One that changes the tables, while nobody else writes."""
IDLE_SECONDS = 10
"""Between two statements of a transaction. A process that is stopped in one would keep all others from writing: the server ends its session instead."""
KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 2}
"""After 20 s of a dead network the server ends the session and so frees its locks; Linux's own default takes more than two hours."""
REACHING = {
    "connect_timeout": CONNECT_SECONDS,
    **{name.removeprefix("tcp_"): value for name, value in KEEPALIVES.items()},
    "tcp_user_timeout": 20_000,
}
"""Options of libpq: this side of a dead network is told of it as early. Who waits for an answer is told by keep-alives; what was sent and never acknowledged is
given up after 20,000 ms, for which Linux's own default takes a quarter of an hour."""
LISTENING = {**REACHING, "application_name": "natsmedic listens"}

BUSY_STATES = {
    "55P03": "it was locked for too long",
    "57014": "a statement took too long",
    "25P03": "the transaction stood still for too long",
    "40001": "another transaction came between",
    "40P01": "another transaction waited for this one",
    "57P01": "it is being shut down",
    "57P02": "it was restarted after a crash",
    "57P03": "it is starting up",
    "53300": "it has no connection left",
}
"""SQLSTATEs after which the same transaction may succeed, https://www.postgresql.org/docs/15/errcodes-appendix.html."""

DOWN_STATES = {"25006", "53100", "58030"}
"""Read-only (a standby), disk full, I/O error: what ails is the server, not what is written."""


class PostgresqlDatabase(Database):
    """One open PostgreSQL database."""

    @property
    def takes_several(self) -> bool:
        """Return True."""
        return True

    async def tell(self, channel: str, words: str) -> None:
        """NOTIFY, in a transaction that only reads: it waits for no writer."""
        async with self.read() as session:
            await session.execute(text("SELECT pg_notify(:channel, :words)"), {"channel": channel, "words": words})
            await session.commit()

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncGenerator[AsyncIterator[str]]:
        """LISTEN, on a connection of its own: one of the pool would be out of it for good."""
        _, given = self._reader.dialect.create_connect_args(self._reader.url)
        options: dict[str, Any] = {**given, **LISTENING}
        try:
            async with await psycopg.AsyncConnection.connect(**options, autocommit=True) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                yield _said(connection)
        except psycopg.Error as error:
            raise StoreLost(f"The connection to the database {self.name} failed: {str(error).strip()}") from error

    async def acquire_process_lock(self) -> None:
        """Raise: several may serve."""
        raise StoreError(f"The database {self.name} has no one serving process: join its replicas.")

    @asynccontextmanager
    async def rebuild(self) -> AsyncGenerator[AsyncSession]:
        """As `write`, with statements that may take longer: an index of a big table does."""
        async with self.write() as session:
            await session.execute(text(f"SET LOCAL statement_timeout = '{REBUILD_SECONDS}s'"))
            yield session

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of it."""
        return "postgresql"

    def is_undecodable(self, error: DBAPIError) -> bool:
        """Return False: the server itself lets in nothing but valid UTF-8."""
        del error
        return False

    async def _lock_writing(self, session: AsyncSession) -> None:
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})

    def _typed(self, error: DBAPIError) -> StoreError:
        return typed(self.name, error)


async def connect_postgresql(url: URL, *, read_only: bool) -> Database:
    """Return the database, whatever tables it has. Raises `StoreError` where it can't be reached or is none that natsmedic can use."""
    name = f"{url.host or 'localhost'}/{url.database or url.username or ''}"
    writer = None if read_only else _engine(url, writing=True)
    database = PostgresqlDatabase(name, writer, _engine(url, writing=False))
    try:
        async with database.read() as session:
            await session.run_sync(lambda sync: _insist_on_server(sync.connection(), name))
    except BaseException:
        await database.close()
        raise
    return database


def typed(name: str, error: DBAPIError) -> StoreError:
    """Return our error for the server's or the driver's own."""
    cause = cast("psycopg.Error | None", error.orig)
    state = None if cause is None else cause.sqlstate
    if isinstance(error, IntegrityError):
        said = None if cause is None else cause.diag.message_primary
        return StoreConflict(f"The database refused a row that contradicts another: {said}.")
    if state in DOWN_STATES:
        return StoreDown(f"The database {name} can't be written: {str(cause).strip()}")
    if state in BUSY_STATES:
        return StoreBusy(f"The database {name} did not take the write, {BUSY_STATES[state]}: nothing was written.")
    if error.connection_invalidated or isinstance(cause, psycopg.OperationalError):
        return StoreLost(f"The connection to the database {name} failed: {str(cause).strip()}")
    return StoreError(f"The database {name} failed: {str(cause).strip()}")


def _engine(url: URL, *, writing: bool) -> AsyncEngine:
    settings = {
        "application_name": "natsmedic",
        "timezone": "UTC",
        "lock_timeout": f"{BUSY_SECONDS:g}s",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "default_transaction_read_only": "off" if writing else "on",
        "synchronous_commit": "on",  # a commit that was answered survives, whatever the server's own default is
        **KEEPALIVES,
    }
    engine = create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=1 if writing else READERS,
        max_overflow=0,
        pool_timeout=QUEUE_SECONDS,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
        connect_args=REACHING,
    )

    def connected(dbapi: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = dbapi.cursor()
        for setting, value in settings.items():
            cursor.execute(sql.SQL("SET {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
        cursor.close()
        dbapi.commit()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


async def _said(connection: psycopg.AsyncConnection) -> AsyncIterator[str]:
    """Yield the payloads that arrive, asleep in between: psycopg's own `notifies()` wakes up ten times a second. Raises `psycopg.OperationalError`."""
    while True:
        connection.pgconn.consume_input()
        while (notify := connection.pgconn.notifies()) is not None:
            yield notify.extra.decode(errors="replace")
        await _readable(connection.fileno())


async def _readable(socket: int) -> None:
    """Wait until there is something to read."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(socket, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(socket)


def _insist_on_server(connection: Connection, name: str) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < OLDEST_SERVER:
        raise StoreError(f"The database {name} is PostgreSQL {version // 10_000}: natsmedic needs 15 or newer.")
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise StoreError(f"The database {name} has encoding {encoding}: create one with ENCODING 'UTF8'.")
