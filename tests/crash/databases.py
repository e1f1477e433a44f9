"""Where the runs of the kill matrix keep their databases: one of its own for each run, copied from one whose tables are made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bot.lab.postgres import PostgresServer

TEMPLATE = "template"


class Databases(Protocol):
    """Makes and removes databases. Not safe for two callers at once."""

    def empty(self) -> str:
        """Return the URL of an empty database, which `copy` copies once its tables are made."""
        ...

    def copy(self, name: str) -> str:
        """Return the URL of a new copy of it."""
        ...

    def drop(self, name: str) -> None:
        """Remove the copy of this name."""
        ...


@dataclass(frozen=True)
class SqliteFiles:
    """SQLite files, each in a folder of its own."""

    folder: Path

    def empty(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{self.folder / TEMPLATE}.db"

    def copy(self, name: str) -> str:
        folder = self.folder / name
        folder.mkdir()
        for file in self.folder.glob(f"{TEMPLATE}.db*"):
            shutil.copy(file, folder / file.name.replace(TEMPLATE, "natsmedic"))
        return f"sqlite:///{folder / 'natsmedic.db'}"

    def drop(self, name: str) -> None:
        shutil.rmtree(self.folder / name)


@dataclass(frozen=True)
class PostgresDatabases:
    """Databases of one server."""

    server: PostgresServer

    def empty(self) -> str:
        self.server.create("crash_template")
        return self.server.url_of("crash_template")

    def copy(self, name: str) -> str:
        self.server.create(name, template="crash_template")
        return self.server.url_of(name)

    def drop(self, name: str) -> None:
        self.server.drop(name)
