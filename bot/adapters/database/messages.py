"""The chat's own rows, and its hints to the replica that draws (port `Messages`)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import select
from sqlmodel import col

from bot.adapters.database.behind import Threads
from bot.adapters.database.connection import Database
from bot.adapters.database.convert import message_row
from bot.adapters.database.rows import DrawnRow, MessageRow
from bot.adapters.database.upserts import SharedWrites
from bot.model import IncidentId
from bot.ports import Message

ACTED: Final = "natsmedic_acted"
"""The channel of PostgreSQL on which replicas say by its id on which incident a person has acted; each database has channels of its own."""
INCIDENT: Final = re.compile(r"inc_\w{1,64}", re.ASCII)


class SqlMessages:
    """Which messages exist in the chat, and how far each incident has been drawn."""

    def __init__(self, database: Database, threads: Threads) -> None:
        self._database = database
        self._threads = threads
        self._writes = SharedWrites(database)

    async def of(self, incident: IncidentId) -> Sequence[Message]:
        """Return the incident's messages, by key."""
        query = select(MessageRow).where(col(MessageRow.incident_id) == incident).order_by(col(MessageRow.key))
        async with self._database.read() as session:
            return [Message.model_validate_json(row.body) for row in await session.scalars(query)]

    async def at(self, channel: str, ts: str) -> Message | None:
        """Return the message at this place in the chat."""
        query = select(MessageRow).where(col(MessageRow.channel) == channel, col(MessageRow.ts) == ts).limit(1)
        async with self._database.read() as session:
            row = await session.scalar(query)
        return None if row is None else Message.model_validate_json(row.body)

    async def save(self, message: Message) -> None:
        """Insert or replace by key, committed on return."""
        await self._writes.put(message_row(message))

    async def behind(self) -> Sequence[tuple[IncidentId, int]]:
        """Return the incidents whose revision is above the drawn one, oldest change first; those that only a storm's message shows are not among them."""
        async with self._database.read() as session:
            return [(one.incident, one.revision) for one in await self._threads.behind(session)]

    async def caught_up(self, incident: IncidentId, revision: int) -> None:
        """Record that this revision is drawn; an older revision never takes back a newer one."""
        await self._writes.put(DrawnRow(incident_id=incident, revision=revision))

    async def hurry(self, incident: IncidentId) -> None:
        """Say to the replica that draws that a person has acted on this incident. Nothing is written, and nobody else waits for it."""
        await self._database.tell(ACTED, incident)

    @asynccontextmanager
    async def hurried(self) -> AsyncGenerator[AsyncIterator[IncidentId]]:
        """Hear on which incidents people act from the beginning of the block on, without end.

        Raises `StoreLost`, in the block too, where the connection breaks; `StoreError` where nobody else can serve.
        """
        async with self._database.listen(ACTED) as said:
            yield (IncidentId(words) async for words in said if INCIDENT.fullmatch(words))
