"""The list of the processes that serve with one database, and which of them leads. Every change is made under the write lock."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.rows import ReplicaRow
from bot.model import AuditDraft
from bot.ports import Beat

LOST = "replica.lost"


async def join(session: AsyncSession, replica: str) -> None:
    """Put a replica on the list."""
    await session.execute(insert(ReplicaRow).values(id=replica, beats=0, leads=False))


async def leave(session: AsyncSession, replica: str) -> None:
    """Take it off."""
    await session.execute(delete(ReplicaRow).where(col(ReplicaRow.id) == replica))


async def listed(session: AsyncSession) -> frozenset[str]:
    """Return all of the list."""
    return frozenset(await session.scalars(select(col(ReplicaRow.id))))


async def beat(session: AsyncSession, replica: str, expelled: Mapping[str, int]) -> tuple[list[str], Beat]:
    """Count one more beat of a replica and strike off those that are still at these counts; return whom, and how things stand."""
    mine = col(ReplicaRow.id) == replica
    await session.execute(update(ReplicaRow).where(mine).values(beats=ReplicaRow.beats + 1))
    struck: list[str] = []
    for other, beats in sorted(expelled.items()):
        silent = (col(ReplicaRow.id) == other) & (col(ReplicaRow.beats) == beats)
        gone = await session.scalars(delete(ReplicaRow).where(silent).returning(col(ReplicaRow.id)))
        struck += gone.all()
    rows = (await session.execute(select(col(ReplicaRow.id), col(ReplicaRow.beats), col(ReplicaRow.leads)))).all()
    leader = next((name for name, _, leads in rows if leads), None)
    if leader is None:
        await session.execute(update(ReplicaRow).where(mine).values(leads=True))
        leader = replica
    return struck, Beat(leads=leader == replica, others={name: beats for name, beats, _ in rows if name != replica})


def struck_off(replica: str, by: str) -> AuditDraft:
    """Return the row of the audit log about a replica that is taken for dead."""
    sentence = f"Replica {replica} was silent for too long and is taken for dead; the others go on with its work."
    return AuditDraft(kind=LOST, actor="bot", subject=replica, sentence=sentence, data={"replica": replica, "by": by})
