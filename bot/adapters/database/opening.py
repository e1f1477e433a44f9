"""Which database a URL means."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from bot.adapters.database.connection import Database
from bot.adapters.database.postgresql import connect_postgresql
from bot.adapters.database.schema import Tables, check, found_in, prepare
from bot.adapters.database.sqlite import connect_sqlite, sqlite_file
from bot.errors import SettingsError, StoreBusy
from bot.ports import Clock

CREATE_ATTEMPTS = 15
"""Of `BUSY_SECONDS` each. Creating takes a tenth of a second, and several where the machine is busy."""
EXPECTED = "write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"


async def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open the database at `url`, creating its tables where it has none and `read_only` is not set.

    Raises `SettingsError` for a URL that is none of ours; `StoreError` where the database can't be opened, has other tables than this program needs, or refuses
    a setting that durability rests on.
    """
    database = await connect(url, read_only=read_only)
    try:
        if not read_only:
            await _give_tables(database)
        async with database.read() as session:
            await session.run_sync(lambda sync: check(sync.connection(), database.name))
    except BaseException:
        await database.close()
        raise
    return database


async def _give_tables(database: Database) -> None:
    """Create the tables where there are none. Where another process does so right now, wait for it."""
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        async with database.read() as session:
            if await session.run_sync(lambda sync: found_in(sync.connection())) is not None:
                return
        try:
            async with database.write() as session:
                await session.run_sync(lambda sync: prepare(sync.connection()))
        except StoreBusy:
            if attempt == CREATE_ATTEMPTS:
                raise


@asynccontextmanager
async def open_tables(url: str, clock: Clock, *, read_only: bool = False) -> AsyncGenerator[Tables]:
    """Open the tables of the database at `url` for the length of the block, whatever they are; raises as `open_database`."""
    database = await connect(url, read_only=read_only)
    try:
        yield Tables(database, clock)
    finally:
        await database.close()


async def connect(url: str, *, read_only: bool = False) -> Database:
    """Return the database at `url`, whatever tables it has; raises as `open_database`."""
    parsed = parsed_url(url)
    if parsed.get_backend_name() == "postgresql":
        return await connect_postgresql(parsed, read_only=read_only)
    return connect_sqlite(sqlite_file(parsed), read_only=read_only)


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite database, None for PostgreSQL."""
    parsed = parsed_url(url)
    return None if parsed.get_backend_name() == "postgresql" else sqlite_file(parsed)


def parsed_url(url: str) -> URL:
    """Return the parts of `url`. Raises `SettingsError`, which never repeats the password."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(f"database: the value is not a database URL; {EXPECTED}.") from error
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise SettingsError(f"database: {parsed.get_backend_name()} is not supported; {EXPECTED}.")
    return parsed
