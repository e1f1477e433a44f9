"""Records, audit chain, target locks, chat rows and evidence in one database: a SQLite file or PostgreSQL."""

from bot.adapters.database.backup import Backup, back_up
from bot.adapters.database.opening import open_tables, sqlite_path
from bot.adapters.database.schema import Moved, Standing, Tables
from bot.adapters.database.store import SqlStore

__all__ = ["Backup", "Moved", "SqlStore", "Standing", "Tables", "back_up", "open_tables", "sqlite_path"]
