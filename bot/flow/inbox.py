"""Makes deliveries durable, as many per transaction as came in while the one before was committed.

A commit waits for the disk, so one per delivery would bound a storm to a hundred deliveries a second; together they cost as much as one. The cap of the
queue is looked at in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from bot.errors import StoreError
from bot.model import Delivery, DeliveryId
from bot.ports import Store, Transaction

TOGETHER: Final = 100
"""Deliveries per transaction; their insertion takes some 10 ms."""
GATHER_SECONDS: Final = 0.02
"""From one commit to the next: what comes in meanwhile shares it. At rest nothing waits for that."""
BYTES_TOGETHER: Final = 4 * 1024 * 1024
"""Characters of bodies per transaction, so that it stays short; a single body may be larger."""


UNSTORED: Final = "natsmedic ends, and the delivery was not stored."


class QueueFull(StoreError):
    """More deliveries wait than the configured cap; the sender must try again later."""

    retry_helps = True


@dataclass(frozen=True, slots=True)
class _Letter:
    delivery: Delivery
    event: str | None
    stored: asyncio.Future[DeliveryId]


class Inbox:
    """Of one process. `most` deliveries wait at most."""

    def __init__(self, store: Store, most: int) -> None:
        self._store = store
        self._most = most
        self._letters: deque[_Letter] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def put(self, delivery: Delivery, event: str | None) -> DeliveryId:
        """Return the id under which it is stored: an earlier one where this event came before. Raises QueueFull and other StoreErrors."""
        letter = _Letter(delivery, event, asyncio.get_running_loop().create_future())
        self._letters.append(letter)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="inbox")
        return await letter.stored

    async def _write(self) -> None:
        try:
            while self._letters:
                await self._commit(self._next())
                if len(self._letters) < TOGETHER:
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._writer = None

    def _next(self) -> list[_Letter]:
        chosen: list[_Letter] = []
        size = 0
        while self._letters and len(chosen) < TOGETHER:
            size += len(self._letters[0].delivery.body)
            if chosen and size > BYTES_TOGETHER:
                break
            letter = self._letters.popleft()
            if not letter.stored.done():  # its sender has hung up otherwise, and will send again
                chosen.append(letter)
        return chosen

    async def _commit(self, letters: list[_Letter]) -> None:
        """Store them, and say to each how it ended, whatever happens."""
        if not letters:
            return
        try:
            async with self._store.begin(ahead=True) as tx:
                outcomes = await self._stored(tx, letters)
        except BaseException as error:
            for letter in letters:
                if not letter.stored.done():
                    letter.stored.set_exception(error if isinstance(error, Exception) else StoreError(UNSTORED))
            if not isinstance(error, Exception):
                raise
            return
        for letter, outcome in zip(letters, outcomes, strict=True):
            if letter.stored.done():
                continue
            if isinstance(outcome, QueueFull):
                letter.stored.set_exception(outcome)
            else:
                letter.stored.set_result(outcome)

    async def _stored(self, tx: Transaction, letters: list[_Letter]) -> list[DeliveryId | QueueFull]:
        room = self._most - await tx.count_unprocessed()
        outcomes: list[DeliveryId | QueueFull] = []
        kept: list[Delivery] = []
        for letter in letters:
            if room <= 0:
                outcomes.append(QueueFull(f"{self._most} deliveries wait to be processed; the sender must retry."))
                continue
            delivery = letter.delivery
            first = delivery.id
            if letter.event is not None:
                first = await tx.first_delivery(delivery.source, letter.event, delivery.id)
            if first == delivery.id:
                kept.append(delivery)
                room -= 1
            outcomes.append(first)
        await tx.put_all(kept)
        return outcomes
