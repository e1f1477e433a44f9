"""What is kept no longer (port `Ageing`).

What may go is looked for beside other writers, and asked again, of a few at a time, under the write lock: what was opened again meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, delete, exists, func, select, union
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, aliased
from sqlmodel import col

from bot.adapters.database.connection import Database
from bot.adapters.database.in_body import InBody
from bot.adapters.database.rows import (
    AlertRow,
    DeliveryRow,
    DiagnosisRow,
    ExecutionRow,
    IncidentRow,
    ProposalRow,
    Row,
    SnapshotRow,
    StormMemberRow,
    TargetLockRow,
    moment_text,
)
from bot.model import Aged, ExecutionState, Horizon, IncidentState, Overdue, ProposalState

_UNFINISHED: Final = [state.value for state in ExecutionState if not state.terminal]
_LIVE: Final = [state.value for state in ProposalState if not state.terminal]

Condition = ColumnElement[bool]


class SqlRetention:
    """Counts, finds and removes what is too old."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def overdue(self, horizon: Horizon) -> Overdue:
        """Count what is too old now, in one moment. What goes with an incident counts with it."""
        found: dict[str, int] = {}
        async with self._database.read() as session:
            for aged in Aged:
                if (before := horizon.of(aged)) is not None:
                    old = _old(aged, before, horizon.incidents).subquery()
                    found[aged] = await session.scalar(select(func.count()).select_from(old)) or 0
        return Overdue.model_validate(found)

    async def too_old(self, aged: Aged, before: datetime, limit: int) -> Sequence[str]:
        """Return the oldest that may go, at most `limit`. A storm is among them once its last incident is gone."""
        async with self._database.read() as session:
            return list(await session.scalars(_removable(aged, before).order_by(*_AGE[aged]).limit(limit)))

    async def remove(self, aged: Aged, ids: Sequence[str], before: datetime) -> int:
        """Remove those of them that may still go, and return how many these were."""
        async with self._database.write() as session:
            still = list(await session.scalars(_removable(aged, before).where(_AGE[aged][-1].in_(ids))))
            if still:
                await _REMOVE[aged](session, still)
        return len(still)


async def _remove_incidents(session: AsyncSession, ids: list[str]) -> None:
    tables = Row.metadata.tables
    plans = select(tables["proposals"].c.id).where(tables["proposals"].c.incident_id.in_(ids))
    for name in ("approvals", "executions"):
        await session.execute(delete(tables[name]).where(tables[name].c.proposal_id.in_(plans)))
    for name in ("proposals", "diagnoses", "alerts", "messages", "drawn"):
        await session.execute(delete(tables[name]).where(tables[name].c.incident_id.in_(ids)))
    for name in ("storm_members", "incidents"):
        await session.execute(delete(tables[name]).where(tables[name].c.id.in_(ids)))


async def _remove_snapshots(session: AsyncSession, ids: list[str]) -> None:
    table = Row.metadata.tables["snapshots"]
    await session.execute(delete(table).where(table.c.id.in_(ids)))


async def _remove_deliveries(session: AsyncSession, ids: list[str]) -> None:
    """Remove them with the events that their senders number, and with alerts that were folded into no incident."""
    tables = Row.metadata.tables
    for name in ("delivered_events", "alerts"):
        await session.execute(delete(tables[name]).where(tables[name].c.delivery_id.in_(ids)))
    await session.execute(delete(tables["deliveries"]).where(tables["deliveries"].c.id.in_(ids)))


_REMOVE: Final = {
    Aged.INCIDENTS: _remove_incidents,
    Aged.SNAPSHOTS: _remove_snapshots,
    Aged.DELIVERIES: _remove_deliveries,
}
_AGE: Final[dict[Aged, tuple[Mapped[str], Mapped[str]]]] = {
    Aged.INCIDENTS: (col(IncidentRow.updated_at), col(IncidentRow.id)),
    Aged.SNAPSHOTS: (col(SnapshotRow.taken_at), col(SnapshotRow.id)),
    Aged.DELIVERIES: (col(DeliveryRow.received_at), col(DeliveryRow.id)),
}
"""What their age counts from, and their id."""


def _old(aged: Aged, before: datetime, incidents_before: datetime | None) -> Select[str]:
    """Select the ids of all that go, some of them only after others have gone. `incidents_before`: what of incidents goes meanwhile."""
    age, id_ = _AGE[aged]
    query = select(id_).where(age < moment_text(before))
    match aged:
        case Aged.INCIDENTS:
            return query.where(_prunable(IncidentRow, before))
        case Aged.SNAPSHOTS:
            return query.where(id_.not_in(_needed_snapshots()))
        case Aged.DELIVERIES:
            return query.where(col(DeliveryRow.processed), ~_rests_on(incidents_before))


def _removable(aged: Aged, before: datetime) -> Select[str]:
    """Select the ids of all that can go now."""
    query = _old(aged, before, None)
    if aged is not Aged.INCIDENTS:
        return query
    part = aliased(StormMemberRow)
    return query.where(~exists().where(col(part.storm) == col(IncidentRow.id)))


def _busy() -> CompoundSelect[str]:
    """Select the incidents to which something may still happen, by itself or by a person: open, undecided, running, or holding a cluster."""
    incident, plan, run, lock = (
        aliased(IncidentRow),
        aliased(ProposalRow),
        aliased(ExecutionRow),
        aliased(TargetLockRow),
    )
    runs = select(col(plan.incident_id)).join(run, col(run.proposal_id) == col(plan.id))
    return union(
        select(col(incident.id)).where(col(incident.state) == IncidentState.OPEN.value),
        select(col(plan.incident_id)).where(col(plan.state).in_(_LIVE)),
        runs.where(col(run.state).in_(_UNFINISHED)),
        runs.join(lock, col(lock.execution_id) == col(run.id)),
    )


def _over(incident: type[IncidentRow], before: datetime) -> Condition:
    """It is over, old, and nobody is silencing it."""
    return and_(
        col(incident.updated_at) < moment_text(before),
        col(incident.id).not_in(_busy()),
        InBody(col(incident.body), "silence") == "",
    )


def _prunable(incident: type[IncidentRow], before: datetime) -> Condition:
    """It is over and old; a storm with all of its incidents, and one of them unless its storm goes on."""
    member, part, other = aliased(StormMemberRow), aliased(StormMemberRow), aliased(IncidentRow)
    of_busy_storm = exists().where(col(member.id) == col(incident.id), col(member.storm).in_(_busy()))
    with_young_part = exists().where(
        col(part.storm) == col(incident.id), col(other.id) == col(part.id), ~_over(other, before)
    )
    return and_(_over(incident, before), ~of_busy_storm, ~with_young_part)


def _needed_snapshots() -> Select[str]:
    return select(InBody(col(DiagnosisRow.body), "snapshot_id")).where(col(DiagnosisRow.incident_id).in_(_busy()))


def _rests_on(incidents_before: datetime | None) -> Condition:
    """An alert of an incident came with the delivery; one that goes itself does not count."""
    alert, incident = aliased(AlertRow), aliased(IncidentRow)
    stays = () if incidents_before is None else (~_prunable(incident, incidents_before),)
    return exists().where(
        col(alert.delivery_id) == col(DeliveryRow.id), col(incident.id) == col(alert.incident_id), *stays
    )
