"""A copy of a SQLite file as of one moment, made while others read and write it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bot.errors import BadInput, StoreError
from bot.model import Record


class Backup(Record):
    """A copy that reads back. `rows` and `head` are the end of its audit log."""

    file: Path
    bytes: int
    rows: int
    head: str


def back_up(source: Path, target: Path) -> Backup:
    """Copy the database. Blocks for as long as the disk needs; writers of the source do not wait.

    `target` appears when it is whole and on the disk, readable by its owner alone. Raises `BadInput` where it is there already or can't be written,
    `StoreError` where the source can't be read or the copy is not sound.
    """
    if not source.exists():
        raise StoreError(f"There is no database at {source}.")
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise BadInput(f"{part} cannot be made: {error.strerror}.") from None
    try:
        if target.exists():
            raise BadInput(f"{target} is there already: a backup overwrites nothing.")
        rows, head = _copy(source, part)
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return Backup(file=target, bytes=target.stat().st_size, rows=rows, head=head)


def _copy(source: Path, part: Path) -> tuple[int, str]:
    """Copy, look whether the copy is sound, and return the seq and hash of its last audit row."""
    try:
        address = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")  # the file stands alone, with no journal beside it
            found = new.execute("PRAGMA quick_check(1)").fetchone()
            last = new.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"The database {source} could not be copied: {error}.") from error
    if found != ("ok",):
        raise StoreError(f"The database {source} is damaged: {found and found[0]}.")
    return last or (0, "")


def _sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
