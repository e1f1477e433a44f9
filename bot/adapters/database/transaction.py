"""One write transaction (port `Transaction`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.audit import gap_of
from bot.adapters.database.convert import TABLE_OF, audit_row, plain_data, record_of, row_of
from bot.adapters.database.rows import (
    AlertRow,
    ApprovalRow,
    AuditRow,
    DeliveredEventRow,
    ExecutionRow,
    FreezeRow,
    IncidentRow,
    ProposalRow,
    StormMemberRow,
    TargetLockRow,
    moment_text,
    without_null,
)
from bot.errors import StoreError
from bot.model import (
    GENESIS,
    Approval,
    AuditDraft,
    AuditEntry,
    DeliveryId,
    Execution,
    Freeze,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
)
from bot.ports import Change, Clock, Commit, R, Stored

UNLIFTED = select(col(FreezeRow.body)).where(~col(FreezeRow.lifted)).order_by(col(FreezeRow.at), col(FreezeRow.id))
HAS_THREAD = col(StormMemberRow.own_thread).is_(None) | col(StormMemberRow.own_thread)
"""Of incidents outer-joined with storm members: those that are not only a part of a storm's message."""


class SqlTransaction:
    """Works on the session of one `Database.write` block; whoever opened the block commits."""

    def __init__(self, session: AsyncSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._before: dict[tuple[type[Stored], str], str | None] = {}
        """Bodies of the written records as they were, in the order of their first writing."""
        self._after: dict[tuple[type[Stored], str], Stored] = {}
        self._audited: list[AuditEntry] = []

    def written(self) -> Commit:
        """Return what this transaction has written so far. Raises ValidationError where a record as it was before does not read back."""
        changes = tuple(
            Change(None if body is None else type(after).model_validate_json(body), after)
            for body, after in ((body, self._after[key]) for key, body in self._before.items())
        )
        return Commit(changes, tuple(self._audited))

    async def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002 - the port's word
        """Return the record as this transaction sees it, locked until it ends."""
        row = await self._session.get(TABLE_OF[kind], id, with_for_update=True)
        return None if row is None else record_of(kind, row.body)

    async def put(self, record: Stored) -> None:
        """Insert or replace by id; raises `StoreConflict` at once where another record has its unique key."""
        key = (type(record), record.id)
        known = await self._session.get(TABLE_OF[type(record)], record.id)
        self._before.setdefault(key, None if known is None else known.body)
        if known is None:
            self._session.add(row_of(record))
        else:
            await self._session.merge(row_of(record))
        await self._session.flush()
        self._after[key] = record

    async def first_delivery(self, source: str, event: str, delivery: DeliveryId) -> DeliveryId:
        """Return the first delivery of this event; it is remembered as long as its delivery is kept. The key makes two at once impossible."""
        known = await self._session.get(DeliveredEventRow, (source, event))
        if known is not None:
            return DeliveryId(str(known.delivery_id))
        self._session.add(DeliveredEventRow(source=source, event=event, delivery_id=delivery))
        await self._session.flush()
        return delivery

    async def open_incident(self, source: str, fingerprint: str) -> Incident | None:
        """Return the one incident of this alert that is not closed."""
        query = select(IncidentRow).where(
            col(IncidentRow.source) == source,
            col(IncidentRow.fingerprint) == fingerprint,
            col(IncidentRow.state) != IncidentState.CLOSED.value,
        )
        row = await self._session.scalar(query)
        return None if row is None else record_of(Incident, row.body)

    async def incident_of_episode(self, source: str, fingerprint: str, starts_at: datetime) -> Incident | None:
        """Return the incident that an alert of this episode was folded into, or that this episode opened; the newest one if several."""
        folded = select(col(AlertRow.incident_id)).where(
            col(AlertRow.source) == source,
            col(AlertRow.fingerprint) == fingerprint,
            col(AlertRow.starts_at) == moment_text(starts_at),
            col(AlertRow.incident_id).is_not(None),
        )
        opened = (
            (col(IncidentRow.source) == source)
            & (col(IncidentRow.fingerprint) == fingerprint)
            & (col(IncidentRow.starts_at) == moment_text(starts_at))
        )
        query = (
            select(IncidentRow)
            .where(col(IncidentRow.id).in_(folded) | opened)
            .order_by(col(IncidentRow.opened_at).desc())
            .limit(1)
        )
        row = await self._session.scalar(query)
        return None if row is None else record_of(Incident, row.body)

    async def last_incident(self, source: str, fingerprint: str) -> Incident | None:
        """Return the newest incident of this alert, whatever its state."""
        query = (
            select(col(IncidentRow.body))
            .where(col(IncidentRow.source) == source, col(IncidentRow.fingerprint) == fingerprint)
            .order_by(col(IncidentRow.opened_at).desc(), col(IncidentRow.id))
            .limit(1)
        )
        body = await self._session.scalar(query)
        return None if body is None else record_of(Incident, body)

    async def threads_since(self, since: datetime) -> Sequence[Incident]:
        """Return the incidents with a thread of their own that were opened since then, oldest first."""
        query = (
            select(col(IncidentRow.body))
            .outerjoin(StormMemberRow, col(StormMemberRow.id) == col(IncidentRow.id))
            .where(col(IncidentRow.opened_at) >= moment_text(since), HAS_THREAD)
            .order_by(col(IncidentRow.opened_at), col(IncidentRow.id))
        )
        return [record_of(Incident, body) for body in await self._session.scalars(query)]

    async def in_storm(self, storm: IncidentId, cluster: str, title: str) -> bool:
        """Return whether the storm has an incident of this alert name on this cluster."""
        line = exists().where(
            col(StormMemberRow.storm) == storm,
            col(StormMemberRow.cluster) == cluster,
            col(StormMemberRow.title) == title,
        )
        return bool(await self._session.scalar(select(line)))

    async def storm_size(self, storm: IncidentId, most: int) -> tuple[int, int]:
        """Return how many lines a storm's table has, and how many of its incidents have a thread of their own; each is counted up to `most`."""
        of_storm = col(StormMemberRow.storm) == storm
        lines = select(col(StormMemberRow.cluster), col(StormMemberRow.title)).where(of_storm).distinct().limit(most)
        threads = select(col(StormMemberRow.id)).where(of_storm, col(StormMemberRow.own_thread)).limit(most)
        counted = [
            await self._session.scalar(select(func.count()).select_from(query.subquery())) for query in (lines, threads)
        ]
        return counted[0] or 0, counted[1] or 0

    async def proposals(self, incident: IncidentId) -> Sequence[Proposal]:
        """Return the incident's proposals, oldest first."""
        query = (
            select(ProposalRow)
            .where(col(ProposalRow.incident_id) == incident)
            .order_by(col(ProposalRow.created_at), col(ProposalRow.id))
        )
        return [record_of(Proposal, row.body) for row in await self._session.scalars(query)]

    async def approvals(self, proposal: str) -> Sequence[Approval]:
        """Return the proposal's approvals and denials, oldest first."""
        query = (
            select(ApprovalRow)
            .where(col(ApprovalRow.proposal_id) == proposal)
            .order_by(col(ApprovalRow.at), col(ApprovalRow.id))
        )
        return [record_of(Approval, row.body) for row in await self._session.scalars(query)]

    async def executions(self, cluster: str, since: datetime) -> Sequence[Execution]:
        """Return the executions of a cluster that were queued since then, oldest first."""
        query = (
            select(col(ExecutionRow.body))
            .where(col(ExecutionRow.started_at) >= moment_text(since))
            .order_by(col(ExecutionRow.started_at), col(ExecutionRow.id))
        )
        found = [record_of(Execution, body) for body in await self._session.scalars(query)]
        return [execution for execution in found if execution.cluster == cluster]

    async def freezes(self) -> Sequence[Freeze]:
        """Return the freezes that nobody has lifted, oldest first; some may be over."""
        return [record_of(Freeze, body) for body in await self._session.scalars(UNLIFTED)]

    async def touch(self, incident: IncidentId) -> None:
        """Raise the incident's revision and the time of its last change; raises `StoreError` where there is no such incident."""
        found = await self.get(Incident, incident)
        if found is None:
            raise StoreError(f"There is no incident {incident} to touch.")
        await self.put(found.model_copy(update={"revision": found.revision + 1, "updated_at": self._clock.now()}))

    async def take_lock(self, cluster: str, execution: str) -> int | None:
        """Take the target lock; the fence grows whenever a free lock is taken, so no two holds ever share a number."""
        row = await self._session.get(TargetLockRow, cluster, with_for_update=True)
        if row is None:
            row = TargetLockRow(cluster=cluster, execution_id=None, fence=0)
            self._session.add(row)
        if row.execution_id == execution:
            return row.fence
        if row.execution_id is not None:
            return None
        row.execution_id = execution
        row.fence += 1
        await self._session.flush()
        return row.fence

    async def release_lock(self, cluster: str, execution: str) -> None:
        """Free the lock if this execution holds it; the fence stays."""
        row = await self._session.get(TargetLockRow, cluster, with_for_update=True)
        if row is not None and row.execution_id == execution:
            row.execution_id = None
            await self._session.flush()

    async def audit_gap(self) -> AuditEntry | None:
        """Return the newest row that says that a checkpoint contradicts the chain, None once a person has acknowledged it."""
        return await gap_of(self._session)

    async def audit(self, draft: AuditDraft) -> AuditEntry:
        """Append to the chain, at the store's own time. The unique seq and previous keep two writers from forking it."""
        last = await self._session.scalar(select(AuditRow).order_by(col(AuditRow.seq).desc()).limit(1))
        fields = plain_data(draft.model_dump(mode="json"))
        unsealed = AuditEntry.model_validate(
            {
                **{name: without_null(v) if isinstance(v, str) else v for name, v in fields.items()},
                "seq": 1 if last is None else last.seq + 1,
                "at": self._clock.now().astimezone(UTC),
                "previous": GENESIS if last is None else last.hash,
                "hash": "",
            }
        )
        entry = unsealed.model_copy(update={"hash": unsealed.computed_hash()})
        self._session.add(audit_row(entry))
        await self._session.flush()
        self._audited.append(entry)
        return entry
