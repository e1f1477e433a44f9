"""Which database a URL means."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from bot.adapters.database.connection import Database
from bot.adapters.database.postgresql import open_postgresql
from bot.adapters.database.sqlite import open_sqlite, sqlite_file
from bot.errors import SettingsError

EXPECTED = "write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"


async def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open the database at `url`, creating its tables where it has none and `read_only` is not set.

    Raises `SettingsError` for a URL that is none of ours; `StoreError` where the database can't be opened, has another schema than this program, or refuses a
    setting that durability rests on.
    """
    parsed = parsed_url(url)
    if parsed.get_backend_name() == "postgresql":
        return await open_postgresql(parsed, read_only=read_only)
    return await open_sqlite(sqlite_file(parsed), read_only=read_only)


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
