"""A file that checkpoints are appended to. It is outside as far as its folder is: on another machine's disk, or append-only by the file system.

One line of JSON per checkpoint, oldest first: `{"at":"…","hash":"…","seq":…}`. The last whole line counts; a line without its end was cut by a crash.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bot.errors import BadInput, NotApplied, Unreadable
from bot.model import Checkpoint, canonical_json

TAIL: Final = 4096
"""Bytes from the end that are read; a line has under 200."""
_MODE: Final = 0o640


class FileSink:
    """Implements `bot.ports.CheckpointSink`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Where the checkpoints go, for people."""
        return f"file {self._path}"

    async def newest(self) -> Checkpoint | None:
        """Return the last whole line; None where nothing was kept yet. Raises `Unreadable`."""
        try:
            return await asyncio.to_thread(_newest, self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"The checkpoints in {self._path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise Unreadable(f"The last line of {self._path} is not a checkpoint.") from error

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Append a line and wait until it is on the disk. Raises `NotApplied`."""
        try:
            await asyncio.to_thread(_append, self._path, line_of(checkpoint))
        except OSError as error:
            raise NotApplied(f"A checkpoint cannot be appended to {self._path}: {error.strerror}.") from error


def line_of(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as one line of canonical JSON."""
    return canonical_json(checkpoint.model_dump(mode="json"))


def newest_of(path: Path) -> Checkpoint:
    """Return the newest checkpoint of a file. Raises `BadInput` where there is none."""
    try:
        found = _newest(path)
    except OSError as error:
        raise BadInput(f"The checkpoints in {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise BadInput(f"The last line of {path} is not a checkpoint.") from None
    if found is None:
        raise BadInput(f"{path} holds no checkpoint.")
    return found


def _newest(path: Path) -> Checkpoint | None:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    try:
        return Checkpoint.model_validate_json(lines[-1]) if lines else None
    except ValidationError as error:
        raise ValueError(f"{path} ends in no checkpoint") from error


def _append(path: Path, line: str) -> None:
    """One write per line under a lock; a line that a crash cut off is ended first, so that it spoils no other."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + line.encode() + b"\n")
        os.fsync(descriptor)
        if size == 0:
            _sync_folder(path)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """A new file is only durable once its folder is."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
