"""Records, audit chain, target locks, chat rows and evidence in one database: a SQLite file or PostgreSQL."""

from bot.adapters.database.opening import sqlite_path
from bot.adapters.database.store import SqlStore

__all__ = ["SqlStore", "sqlite_path"]
