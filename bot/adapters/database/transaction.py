"""One write transaction (port `Transaction`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Select, bindparam, case, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.audit import gap_of
from bot.adapters.database.convert import (
    TABLE_OF,
    audit_row,
    plain_data,
    progress_text,
    record_in,
    record_of,
    row_of,
)
from bot.adapters.database.in_body import InBody
from bot.adapters.database.rows import (
    AlertRow,
    ApprovalRow,
    AuditRow,
    DeliveredEventRow,
    DeliveryRow,
    ExecutionRow,
    FreezeRow,
    IncidentRow,
    ProposalRow,
    Row,
    StormMemberRow,
    TargetLockRow,
    moment_text,
    without_null,
)
from bot.adapters.database.upserts import upsert
from bot.errors import StoreError
from bot.model import (
    GENESIS,
    Approval,
    AuditDraft,
    AuditEntry,
    Delivery,
    DeliveryId,
    Execution,
    Freeze,
    Incident,
    IncidentId,
    IncidentState,
    Progress,
    Proposal,
    ProposalState,
)
from bot.ports import Change, Clock, Commit, R, Stored

UNLIFTED = select(col(FreezeRow.body)).where(~col(FreezeRow.lifted)).order_by(col(FreezeRow.at), col(FreezeRow.id))
COUNT_WAITING = select(func.count()).select_from(DeliveryRow).where(col(DeliveryRow.processed).is_(False))
"""Not `NOT processed`, for which SQLite would walk through the index of all deliveries."""
_UNDECIDED = [ProposalState.PROPOSED.value, ProposalState.PENDING.value]
NOT_CLOSED = [state.value for state in IncidentState if state is not IncidentState.CLOSED]
"""Named one by one, which an index finds however many are closed; of `<> 'closed'` no index knows anything."""
HAS_THREAD = col(StormMemberRow.own_thread).is_(None) | col(StormMemberRow.own_thread)
"""Of incidents outer-joined with storm members: those that are not only a part of a storm's message."""


Runs = Select[str, str]
RUNS: Final[Runs] = select(col(ExecutionRow.body), col(ProposalRow.body)).join(
    ProposalRow, col(ProposalRow.id) == col(ExecutionRow.proposal_id)
)
"""Executions with what they run."""


def queued_since(cluster: str, since: datetime) -> Runs:
    """Return the question for those of a cluster since then, oldest first."""
    of_cluster = InBody(col(ExecutionRow.body), "cluster") == cluster
    since_then = col(ExecutionRow.started_at) >= moment_text(since)
    return RUNS.where(since_then, of_cluster).order_by(col(ExecutionRow.started_at), col(ExecutionRow.id))


async def runs_of(session: AsyncSession, query: Runs) -> list[tuple[Execution, Proposal]]:
    """Return what the question finds, as records."""
    return [(record_of(Execution, run), record_of(Proposal, plan)) for run, plan in await session.execute(query)]


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
        return None if row is None else record_in(kind, row)

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

    async def put_all(self, records: Sequence[Stored]) -> None:
        """Insert or replace by id, a statement for each kind; raises `StoreConflict` at once where another record has the unique key of one."""
        await self._remember(records)
        self._after.update(((type(record), record.id), record) for record in records)
        await upsert(self._session, [row_of(record) for record in records])
        self._session.expire_all()  # what it has read before may be what was just written

    async def _remember(self, records: Sequence[Stored]) -> None:
        """Keep the bodies of these records as they were before this transaction wrote them."""
        ids: dict[type[Stored], list[str]] = {}
        for record in records:
            ids.setdefault(type(record), []).append(record.id)
        for kind, wanted in ids.items():
            table = TABLE_OF[kind]
            known = {
                one.id: one.body for one in await self._session.scalars(select(table).where(col(table.id).in_(wanted)))
            }
            for id_ in wanted:
                self._before.setdefault((kind, id_), known.get(id_))

    async def count_unprocessed(self) -> int:
        """Return how many deliveries wait."""
        return await self._session.scalar(COUNT_WAITING) or 0

    async def deliveries(self, ids: Sequence[DeliveryId]) -> Sequence[Delivery]:
        """Return the deliveries that are there, in the order of `ids`, locked until this transaction ends."""
        query = select(DeliveryRow).where(col(DeliveryRow.id).in_(ids)).order_by(col(DeliveryRow.id)).with_for_update()
        rows = {row.id: row for row in await self._session.scalars(query)}
        return [record_in(Delivery, rows[one]) for one in ids if one in rows]

    async def progress(self, made: Mapping[DeliveryId, Progress]) -> None:
        """Record how far deliveries are; their bodies are not written again."""
        if not made:
            return
        table = Row.metadata.tables["deliveries"]
        changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("processed", "urgent", "progress")}
        values = [
            {
                "of": delivery,
                "new_processed": progress.processed_at is not None,
                "new_urgent": progress.urgent,
                "new_progress": progress_text(progress),
            }
            for delivery, progress in made.items()
        ]
        await self._session.execute(update(table).where(table.c.id == bindparam("of")).values(changed), values)
        self._session.expire_all()

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

    async def incidents_of(self, source: str, fingerprints: Collection[str]) -> Sequence[Incident]:
        """Return of each of these alerts the one incident that is not closed, or the newest one where all are."""
        closed = case((col(IncidentRow.state) == IncidentState.CLOSED.value, 1), else_=0)
        place = func.row_number().over(
            partition_by=col(IncidentRow.fingerprint),
            order_by=(closed, col(IncidentRow.opened_at).desc(), col(IncidentRow.id)),
        )
        ranked = (
            select(col(IncidentRow.id), place.label("place"))
            .where(col(IncidentRow.source) == source, col(IncidentRow.fingerprint).in_(fingerprints))
            .subquery()
        )
        chosen = select(ranked.c.id).where(ranked.c.place == 1)
        query = (
            select(IncidentRow).where(col(IncidentRow.id).in_(chosen)).order_by(col(IncidentRow.id)).with_for_update()
        )
        return [record_of(Incident, row.body) for row in await self._session.scalars(query)]

    async def awaiting(self, incidents: Collection[IncidentId]) -> frozenset[IncidentId]:
        """Return those of the incidents that have a proposal which people can still decide about."""
        query = (
            select(col(ProposalRow.incident_id))
            .where(col(ProposalRow.incident_id).in_(incidents), col(ProposalRow.state).in_(_UNDECIDED))
            .distinct()
        )
        return frozenset(IncidentId(str(one)) for one in await self._session.scalars(query))

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

    async def runs_since(self, cluster: str, since: datetime) -> Sequence[tuple[Execution, Proposal]]:
        """Return the executions of a cluster that were queued since then with what they run, oldest first."""
        return await runs_of(self._session, queued_since(cluster, since))

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
        return (await self.audit_all((draft,)))[0]

    async def audit_all(self, drafts: Sequence[AuditDraft]) -> Sequence[AuditEntry]:
        """Append many to the chain, in their order, with one look at its end and one statement."""
        if not drafts:
            return []
        newest = select(col(AuditRow.seq), col(AuditRow.hash)).order_by(col(AuditRow.seq).desc()).limit(1)
        last = (await self._session.execute(newest)).first()
        seq, previous = (0, GENESIS) if last is None else (last[0], last[1])
        entries: list[AuditEntry] = []
        for draft in drafts:
            seq += 1
            said = plain_data(draft.model_dump(mode="json"))
            fields = {name: without_null(one) if isinstance(one, str) else one for name, one in said.items()}
            at = self._clock.now().astimezone(UTC)
            unsealed = AuditEntry.model_validate({**fields, "seq": seq, "at": at, "previous": previous, "hash": ""})
            entry = unsealed.model_copy(update={"hash": unsealed.computed_hash()})
            entries.append(entry)
            previous = entry.hash
        self._session.add_all([audit_row(entry) for entry in entries])
        await self._session.flush()
        self._audited += entries
        return entries
