"""What the database holds, counted for a scrape (port `Tallies`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.behind import Behind, Threads
from bot.adapters.database.connection import Database
from bot.adapters.database.in_body import InBody
from bot.adapters.database.rows import (
    AuditRow,
    DeliveryRow,
    DiagnosisRow,
    ExecutionRow,
    IncidentRow,
    ProposalRow,
    TargetLockRow,
)
from bot.adapters.database.transaction import NOT_CLOSED
from bot.model import ExecutionState, ProposalState
from bot.ports import Tally, Waiting

_LIVE = [state.value for state in ProposalState if not state.terminal]
_RUNNING = [state.value for state in ExecutionState if not state.terminal]


_SEVERITY = InBody(col(DiagnosisRow.body), "verdict", "severity")
_RISK = InBody(col(ProposalRow.body), "risk")

INCIDENTS = (
    select(col(IncidentRow.state), _SEVERITY, func.count())
    .outerjoin(DiagnosisRow, col(DiagnosisRow.id) == InBody(col(IncidentRow.body), "last_diagnosis"))
    .where(col(IncidentRow.state).in_(NOT_CLOSED))
    .group_by(col(IncidentRow.state), _SEVERITY)
)
"""Of incidents that are not closed, which an index finds however many are; only their JSON is looked into."""
PROPOSALS = (
    select(col(ProposalRow.state), _RISK, func.count())
    .where(col(ProposalRow.state).in_(_LIVE))
    .group_by(col(ProposalRow.state), _RISK)
)
EXECUTIONS = (
    select(col(ExecutionRow.state), func.count())
    .where(col(ExecutionRow.state).in_(_RUNNING))
    .group_by(col(ExecutionRow.state))
)
LOCKS = (
    select(col(ExecutionRow.state), func.count())
    .join(TargetLockRow, col(TargetLockRow.execution_id) == col(ExecutionRow.id))
    .group_by(col(ExecutionRow.state))
)
DELIVERIES = select(func.count(), func.min(col(DeliveryRow.received_at))).where(col(DeliveryRow.processed).is_(False))
AUDIT_ROWS = select(func.max(col(AuditRow.seq)))


class SqlTally:
    """Counts in one reading session, so that the numbers are of one moment."""

    def __init__(self, database: Database, threads: Threads) -> None:
        self._database = database
        self._threads = threads

    async def tally(self) -> Tally:
        """Count. Raises `StoreError`."""
        async with self._database.read() as session:
            return Tally(
                incidents={(s, v): n for s, v, n in await session.execute(INCIDENTS)},
                proposals={(s, r): n for s, r, n in await session.execute(PROPOSALS)},
                executions=await _by_state(session, EXECUTIONS),
                locks=await _by_state(session, LOCKS),
                deliveries=await _waiting(session, DELIVERIES),
                threads=_oldest(await self._threads.behind(session)),
                audit_rows=await session.scalar(AUDIT_ROWS) or 0,
            )


def _oldest(behind: Sequence[Behind]) -> Waiting:
    return Waiting(len(behind), datetime.fromisoformat(behind[0].updated_at) if behind else None)


async def _by_state(session: AsyncSession, query: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in await session.execute(query)}


async def _waiting(session: AsyncSession, query: Select[int, str]) -> Waiting:
    row = (await session.execute(query)).one()
    since = cast("str | None", row[1])  # the least of no rows is null, which the types do not say
    return Waiting(row[0], None if since is None else datetime.fromisoformat(since))
