"""Snapshots, kept as the archives that people and `nats audit analyze` read."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from sqlmodel import col

from bot.adapters.archive import content_digest, read_archive, write_archive
from bot.adapters.database.connection import Database
from bot.adapters.database.rows import SnapshotRow, moment_text
from bot.model import Snapshot, SnapshotId


class SqlSnapshots:
    """Evidence by snapshot id. Packing and unpacking run on a thread: a big cluster's snapshot takes a second."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save_snapshot(self, snapshot: Snapshot) -> str:
        """Keep the evidence, secrets redacted, and return the digest of its content; of the kept one where this id is there already."""
        async with self._database.read() as session:
            kept = await session.scalar(select(col(SnapshotRow.digest)).where(col(SnapshotRow.id) == snapshot.id))
        if kept is not None:
            return kept
        archive = await asyncio.to_thread(write_archive, snapshot)
        digest = await asyncio.to_thread(content_digest, snapshot)
        async with self._database.write() as session:
            row = await session.get(SnapshotRow, snapshot.id)
            if row is not None:
                return row.digest
            session.add(
                SnapshotRow(
                    id=snapshot.id,
                    cluster=snapshot.cluster,
                    taken_at=moment_text(snapshot.taken_at),
                    digest=digest,
                    archive=archive,
                )
            )
        return digest

    async def snapshot(self, id: SnapshotId) -> Snapshot | None:  # noqa: A002 - the port's word
        """Return the snapshot as it was kept."""
        archive = await self.snapshot_archive(id)
        return None if archive is None else await asyncio.to_thread(read_archive, archive)

    async def snapshot_archive(self, id: SnapshotId) -> bytes | None:  # noqa: A002
        """Return the bytes of the ZIP."""
        async with self._database.read() as session:
            return await session.scalar(select(col(SnapshotRow.archive)).where(col(SnapshotRow.id) == id))
