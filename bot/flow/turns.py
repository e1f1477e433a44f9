"""Who goes next where only so many may run at once: the most important one, and of those the one that has waited longest."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """Of one event loop. Nothing is taken away from whoever runs."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, rank: int) -> AsyncGenerator[None]:
        """Wait for a turn and hold it for the length of the block; the lowest rank goes first."""
        await self.take(rank)
        try:
            yield
        finally:
            self.give_back()

    async def take(self, rank: int) -> None:
        """Wait for a turn; whoever got it gives it back."""
        if self._free > 0:
            self._free -= 1
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), called))
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                self.give_back()  # it was called and can't come
            raise

    def give_back(self) -> None:
        """End a turn."""
        while self._waiting:
            _, _, called = heapq.heappop(self._waiting)
            if not called.done():
                called.set_result(None)
                return
        self._free += 1
