"""What the store needs of a database, whichever it is: writers one after the other, readers that see the last commit, errors of ours.

Every write transaction of every process waits its turn before it reads anything, on SQLite and on PostgreSQL alike. What a transaction has read is so still
true when it commits, the audit chain cannot fork, and no transaction of ours ever ends in a deadlock or a serialisation failure.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from bot.adapters.database.rows import ReplicaRow
from bot.errors import ReplicaExpelled, StoreBusy, StoreError
from bot.flow.turns import Turns

BUSY_SECONDS = 2.0
"""How long a write transaction waits for another process's write lock (bot/ports/storage.py, Store.begin)."""
QUEUE_SECONDS = 10.0
"""How long it waits for this process's own writers before that. They take turns in order and hold the lock for a commit each (7 to 13 ms here), so a
burst of a hundred clicks waits its turn; what is not served by then is a writer that hangs, and the caller must hear of it. Readers wait as long for a
connection."""
READERS = 4
"""Reading connections; on SQLite each is a thread of its own in aiosqlite."""


class Database(ABC):
    """One open database. Use `open_database`."""

    def __init__(self, name: str, writer: AsyncEngine | None, reader: AsyncEngine) -> None:
        self.name = name
        """For people; holds no password."""
        self._writer = writer
        self._reader = reader
        self._turns = Turns(1)
        self._replica: str | None = None
        """As which replica this process serves; None where it only looks or acts beside one."""

    @asynccontextmanager
    async def write(self, *, ahead: bool = False) -> AsyncGenerator[AsyncSession]:
        """Open a write transaction, `ahead` of others that wait; commit at the end of the block, roll back on any exception.

        Raises `StoreBusy` after `BUSY_SECONDS` of waiting for another process, or `QUEUE_SECONDS` for this one's other writers.
        """
        if self._writer is None:
            raise StoreError(f"The database {self.name} is open for reading only.")
        await self._take_turn(0 if ahead else 1)
        try:
            with self.typed_errors():
                async with AsyncSession(self._writer, expire_on_commit=False) as session:
                    await self._lock_writing(session)
                    if self._replica is not None:
                        await self._insist_on_membership(session, self._replica)
                    yield session
                    await session.commit()
        finally:
            self._turns.give_back()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """Open a session that sees the last commit, one and the same for all its questions, and can't write."""
        with self.typed_errors():
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                yield session

    @contextmanager
    def typed_errors(self) -> Generator[None]:
        """Turn SQLAlchemy's errors into ours."""
        try:
            yield
        except DBAPIError as error:
            raise self._typed(error) from error
        except PoolTimeout as error:
            raise StoreBusy(
                f"The database {self.name} had no connection free within {QUEUE_SECONDS:g} s: nothing was read or written."
            ) from error

    @property
    @abstractmethod
    def takes_several(self) -> bool:
        """Whether several processes may serve with it at once."""

    @abstractmethod
    def rebuild(self) -> AbstractAsyncContextManager[AsyncSession]:
        """As `write`, for a change of the tables themselves, which may take a while and may move a table that others refer to."""

    @property
    @abstractmethod
    def dialect(self) -> str:
        """SQLAlchemy's name of it."""

    @abstractmethod
    async def tell(self, channel: str, words: str) -> None:
        """Say something to every process that listens to this channel now; whoever does not, never hears it."""

    @abstractmethod
    def listen(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Hear all that is said from the beginning of the block on, without end.

        Raises `StoreError` where nobody else can serve; and `StoreLost`, in the block too, where the connection breaks.
        """

    @abstractmethod
    async def acquire_process_lock(self) -> None:
        """Become the one serving process of this database, until `close` or the end of the process.

        Raises `StoreError` where there is one already, or where several may serve.
        """

    def write_as(self, replica: str) -> None:
        """Write from now on only for as long as this replica is on the list."""
        self._replica = replica

    @abstractmethod
    def is_undecodable(self, error: DBAPIError) -> bool:
        """Return whether the driver failed because what is stored is no text, rather than the database."""

    async def close(self) -> None:
        """Close all connections and free the process lock."""
        if self._writer is not None:
            await self._writer.dispose()
        await self._reader.dispose()

    @abstractmethod
    async def _lock_writing(self, session: AsyncSession) -> None:
        """Begin the transaction and take the write lock of all processes, before anything is read."""

    async def _insist_on_membership(self, session: AsyncSession, replica: str) -> None:
        """Inside the write lock, so that nobody is struck off between this look and the commit."""
        if await session.scalar(select(col(ReplicaRow.id)).where(col(ReplicaRow.id) == replica)) is None:
            raise ReplicaExpelled(
                f"Replica {replica} was silent for so long that the others took it for dead and go on with its work: it writes nothing any more and must end."
            )

    @abstractmethod
    def _typed(self, error: DBAPIError) -> StoreError:
        """Return our error for the database's own."""

    async def _take_turn(self, rank: int) -> None:
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._turns.take(rank)
        except TimeoutError as error:
            raise StoreBusy(
                f"The database {self.name} did not get to this write within {QUEUE_SECONDS:g} s: nothing was written."
            ) from error
