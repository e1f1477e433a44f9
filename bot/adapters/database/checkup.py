"""Whether a database file can be written, without changing anything in it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bot.adapters.database.connection import BUSY_SECONDS


class Writability(NamedTuple):
    """`exists` says whether there is a file; `problem` why it, or its folder, can't be written (empty where it can); `holder` is the process that serves."""

    exists: bool
    problem: str
    holder: int | None


def try_to_write(path: Path) -> Writability:
    """Take SQLite's write lock and give it back. Blocks for at most `BUSY_SECONDS`."""
    if not path.exists():
        writable = path.parent.is_dir() and os.access(path.parent, os.W_OK)
        return Writability(exists=False, problem="" if writable else "its folder can't be written", holder=None)
    problem = ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as file:
            file.isolation_level = None
            file.execute("BEGIN IMMEDIATE")
            file.execute("ROLLBACK")
    except sqlite3.Error as error:
        problem = str(error)
    return Writability(exists=True, problem=problem, holder=_holder(path))


def _holder(path: Path) -> int | None:
    """Return the process that wrote itself into the lock file, while it lives. The lock is not tried: a bot that starts at that moment would find it held."""
    try:
        number = int(path.with_name(path.name + ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    try:
        os.kill(number, 0)
    except PermissionError:
        return number  # it lives, as somebody else
    except (OSError, OverflowError):
        return None
    return number
