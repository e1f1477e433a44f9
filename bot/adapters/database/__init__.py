"""Records, audit chain, target locks, chat rows and evidence in one SQLite file."""

from bot.adapters.database.connection import sqlite_path
from bot.adapters.database.store import SqlStore

__all__ = ["SqlStore", "sqlite_path"]
