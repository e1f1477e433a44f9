"""How many bytes of bodies are held in memory at once, all requests together: the bot's memory is bounded however many senders come at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class NoRoom(Exception):
    """Too many bytes are held already; the sender must try again later."""


class Room:
    """Counts what is held. Everything runs in one event loop, so nothing is locked."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def hold(self) -> Generator[Held]:
        """Hold bytes for the length of the block."""
        held = Held(self)
        try:
            yield held
        finally:
            self._held -= held.size

    def take(self, size: int) -> None:
        """Raise NoRoom where that many bytes more are too many."""
        if self._held + size > self._limit:
            raise NoRoom
        self._held += size


class Held:
    """What one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def add(self, size: int) -> None:
        """Hold so many bytes more; raises NoRoom."""
        self._room.take(size)
        self.size += size
