"""The database as the flow and the chat see it (ports `Store` and `Messages`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

import structlog
from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database import replicas
from bot.adapters.database.audit import AuditQuery, gap_of, narrowed
from bot.adapters.database.behind import Threads
from bot.adapters.database.connection import Database
from bot.adapters.database.convert import TABLE_OF, audit_entry, delivery_of, record_in, record_of
from bot.adapters.database.dossiers import SqlDossiers
from bot.adapters.database.in_body import InBody
from bot.adapters.database.messages import SqlMessages
from bot.adapters.database.opening import open_database
from bot.adapters.database.retention import SqlRetention
from bot.adapters.database.rows import (
    RARE,
    SILENCED,
    WAITING,
    AlertRow,
    ApprovalRow,
    AuditRow,
    DeliveryRow,
    DiagnosisRow,
    ExecutionRow,
    IncidentRow,
    ProposalRow,
    StormMemberRow,
    TargetLockRow,
)
from bot.adapters.database.schema import check
from bot.adapters.database.snapshots import SqlSnapshots
from bot.adapters.database.storms import SqlStorms
from bot.adapters.database.tally import SqlTally
from bot.adapters.database.transaction import (
    COUNT_WAITING,
    HAS_THREAD,
    NOT_CLOSED,
    RUNS,
    UNLIFTED,
    SqlTransaction,
    queued_since,
    runs_of,
)
from bot.adapters.timed import timing
from bot.errors import AuditBroken
from bot.model import (
    STORM,
    Alert,
    Approval,
    AuditEntry,
    AuditFilter,
    AuditLine,
    Delivery,
    DeliveryId,
    Diagnosis,
    Execution,
    ExecutionState,
    Freeze,
    Incident,
    IncidentId,
    Proposal,
    ProposalState,
)
from bot.ports import EVERY, UNMETERED, Beat, Clock, Meter, R, System, Transaction

log = structlog.get_logger(__name__)

_UNFINISHED = [state.value for state in ExecutionState if not state.terminal]
_ACTIVE = [state.value for state in ProposalState if not state.terminal]


class SqlStore(SqlMessages, SqlDossiers, SqlRetention, SqlSnapshots, SqlStorms, SqlTally):
    """Reads see the last commit; writes go through `begin`."""

    def __init__(self, database: Database, clock: Clock, meter: Meter = UNMETERED) -> None:
        super().__init__(database, Threads(clock))
        self._clock = clock
        self._meter = meter

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, clock: Clock, *, read_only: bool = False, meter: Meter = UNMETERED
    ) -> AsyncGenerator[Self]:
        """Open the database at this URL for the length of the block (see `open_database` for what it raises)."""
        database = await open_database(url, read_only=read_only)
        store = cls(database, clock, meter)
        try:
            yield store
        finally:
            await store.close()

    async def close(self) -> None:
        """End what is still being written for nobody, close all connections, and free the process lock."""
        await self._writes.close()
        await self._database.close()

    @property
    def takes_several(self) -> bool:
        """Whether several processes may serve with this database: PostgreSQL."""
        return self._database.takes_several

    async def acquire_process_lock(self) -> None:
        """Become the one serving process of a database that takes no several; raises `StoreError` where there is one already."""
        await self._database.acquire_process_lock()
        async with self._database.read() as session:
            await self._insist_on_tables(session)

    async def join(self, replica: str) -> None:
        """Serve as one of several, under a name that no other process has or had."""
        async with self._database.write() as session:
            await self._insist_on_tables(session)
            await replicas.join(session, replica)
        self._database.write_as(replica)

    async def _insist_on_tables(self, session: AsyncSession) -> None:
        """Whoever contracts the tables made sure that nobody serves; a bot that was opened before that may not begin to."""
        await session.run_sync(lambda sync: check(sync.connection(), self._database.name))

    async def beat(self, replica: str, expelled: Mapping[str, int]) -> Beat:
        """See the port `Roster`. Who is struck off is on record."""
        async with self._database.write(ahead=True) as session:
            struck, beat = await replicas.beat(session, replica, expelled)
            await SqlTransaction(session, self._clock).audit_all([replicas.struck_off(one, replica) for one in struck])
        return beat

    async def leave(self, replica: str) -> None:
        """Serve no more: the others go on with what this replica has begun."""
        async with self._database.write() as session:
            await replicas.leave(session, replica)

    async def replicas(self) -> frozenset[str]:
        """Return the replicas that are on the list."""
        async with self._database.read() as session:
            return await replicas.listed(session)

    @asynccontextmanager
    async def begin(self, *, ahead: bool = False) -> AsyncGenerator[Transaction]:
        """Open a write transaction, `ahead` of others that wait. It holds the database's only write lock: nothing slow belongs inside, no network at all."""
        with timing(self._meter, System.DATABASE, "write"):
            async with self._database.write(ahead=ahead) as session:
                transaction = SqlTransaction(session, self._clock)
                yield transaction
        self._tell(transaction)

    def _tell(self, transaction: SqlTransaction) -> None:
        """Let the meter see what is committed by now: nothing that goes wrong here may look like a failed write."""
        if self._meter is UNMETERED:
            return
        try:
            commit = transaction.written()
        except ValidationError:
            log.exception("a record as it was before does not read back, so its change is not counted")
        else:
            self._meter.committed(commit)

    async def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002 - the port's word
        """Return the record with this id."""
        table = TABLE_OF[kind]
        async with self._database.read() as session:
            row = await session.get(table, id)
        return None if row is None else record_in(kind, row)

    async def unprocessed_deliveries(self) -> Sequence[Delivery]:
        """Return the deliveries whose alerts are not in incidents yet, oldest first."""
        query = (
            select(col(DeliveryRow.body), col(DeliveryRow.progress))
            .where(WAITING)
            .order_by(col(DeliveryRow.received_at), col(DeliveryRow.id))
        )
        async with self._database.read() as session:
            return [delivery_of(body, progress) for body, progress in await session.execute(query)]

    async def count_unprocessed(self) -> int:
        """Return how many deliveries wait."""
        async with self._database.read() as session:
            return await session.scalar(COUNT_WAITING) or 0

    async def waiting(self, limit: int) -> Sequence[DeliveryId]:
        """Return the deliveries whose turn it is: urgent ones first, then in the order in which they came in."""
        query = (
            select(col(DeliveryRow.id))
            .where(WAITING)
            .order_by(col(DeliveryRow.urgent).desc(), col(DeliveryRow.received_at), col(DeliveryRow.id))
            .limit(limit)
        )
        async with self._database.read() as session:
            return [DeliveryId(one) for one in await session.scalars(query)]

    async def incidents(
        self,
        *,
        open_only: bool = False,
        limit: int = 100,
        threads_only: bool = False,
        source: str | None = None,
        fingerprint: str | None = None,
    ) -> Sequence[Incident]:
        """Return incidents, newest first; `threads_only` leaves out those that are only a part of a storm's message."""
        query = (
            select(col(IncidentRow.body)).order_by(col(IncidentRow.opened_at).desc(), col(IncidentRow.id)).limit(limit)
        )
        if open_only:
            query = query.where(col(IncidentRow.state).in_(NOT_CLOSED))
        if threads_only:
            query = query.outerjoin(StormMemberRow, col(StormMemberRow.id) == col(IncidentRow.id)).where(HAS_THREAD)
        if source is not None:
            query = query.where(col(IncidentRow.source) == source)
        if fingerprint is not None:
            query = query.where(col(IncidentRow.fingerprint) == fingerprint)
        async with self._database.read() as session:
            return [record_of(Incident, body) for body in await session.scalars(query)]

    async def count_open(self) -> int:
        """Return how many incidents with a thread of their own are not closed."""
        query = (
            select(func.count())
            .select_from(IncidentRow)
            .outerjoin(StormMemberRow, col(StormMemberRow.id) == col(IncidentRow.id))
            .where(col(IncidentRow.state).in_(NOT_CLOSED), HAS_THREAD)
        )
        async with self._database.read() as session:
            return await session.scalar(query) or 0

    async def undiagnosed(self) -> Sequence[IncidentId]:
        """Return the incidents with a thread that are not closed and were never diagnosed, though their cluster is known; the oldest first."""
        body = col(IncidentRow.body)
        query = (
            select(col(IncidentRow.id))
            .outerjoin(StormMemberRow, col(StormMemberRow.id) == col(IncidentRow.id))
            .where(col(IncidentRow.state).in_(NOT_CLOSED), col(IncidentRow.source) != STORM, HAS_THREAD)
            .where(InBody(body, "last_diagnosis") == "", InBody(body, "cluster") != "")
            .order_by(col(IncidentRow.opened_at), col(IncidentRow.id))
        )
        async with self._database.read() as session:
            return [IncidentId(one) for one in await session.scalars(query)]

    async def silenced(self) -> Sequence[Incident]:
        """Return the incidents, closed ones too, in which a silence holds."""
        async with self._database.read() as session:
            bodies = await session.scalars(
                select(col(IncidentRow.body)).where(text(SILENCED[session.get_bind().dialect.name]))
            )
            return [record_of(Incident, body) for body in bodies]

    async def alerts(self, incident: IncidentId) -> Sequence[Alert]:
        """Return the alerts folded into an incident, oldest first."""
        query = (
            select(col(AlertRow.body))
            .where(col(AlertRow.incident_id) == incident)
            .order_by(col(AlertRow.received_at), col(AlertRow.id))
        )
        async with self._database.read() as session:
            return [record_of(Alert, body) for body in await session.scalars(query)]

    async def diagnoses(self, incident: IncidentId) -> Sequence[Diagnosis]:
        """Return the incident's diagnoses, oldest first."""
        query = (
            select(col(DiagnosisRow.body))
            .where(col(DiagnosisRow.incident_id) == incident)
            .order_by(col(DiagnosisRow.started_at), col(DiagnosisRow.id))
        )
        async with self._database.read() as session:
            return [record_of(Diagnosis, body) for body in await session.scalars(query)]

    async def proposals(self, incident: IncidentId | None = None, *, active_only: bool = False) -> Sequence[Proposal]:
        """Return proposals, of one incident or of all, oldest first; `active_only` leaves out those in a terminal state."""
        query = select(col(ProposalRow.body)).order_by(col(ProposalRow.created_at), col(ProposalRow.id))
        if incident is not None:
            query = query.where(col(ProposalRow.incident_id) == incident)
        if active_only:
            query = query.where(col(ProposalRow.state).in_(_ACTIVE))
        async with self._database.read() as session:
            return [record_of(Proposal, body) for body in await session.scalars(query)]

    async def proposal_by_button(self, button: str) -> Proposal | None:
        """Return the proposal whose buttons carry this id."""
        async with self._database.read() as session:
            body = await session.scalar(select(col(ProposalRow.body)).where(col(ProposalRow.button) == button))
        return None if body is None else record_of(Proposal, body)

    async def approvals(self, proposal: str) -> Sequence[Approval]:
        """Return the proposal's approvals and denials, oldest first."""
        query = (
            select(col(ApprovalRow.body))
            .where(col(ApprovalRow.proposal_id) == proposal)
            .order_by(col(ApprovalRow.at), col(ApprovalRow.id))
        )
        async with self._database.read() as session:
            return [record_of(Approval, body) for body in await session.scalars(query)]

    async def execution_of(self, proposal: str) -> Execution | None:
        """Return the proposal's one execution."""
        async with self._database.read() as session:
            body = await session.scalar(select(col(ExecutionRow.body)).where(col(ExecutionRow.proposal_id) == proposal))
        return None if body is None else record_of(Execution, body)

    async def runs(self, limit: int) -> Sequence[tuple[Execution, Proposal]]:
        """Return executions with what they run, the newest first."""
        query = RUNS.order_by(col(ExecutionRow.started_at).desc(), col(ExecutionRow.id)).limit(limit)
        async with self._database.read() as session:
            return await runs_of(session, query)

    async def runs_since(self, cluster: str, since: datetime) -> Sequence[tuple[Execution, Proposal]]:
        """Return the executions of a cluster that were queued since then with what they run, oldest first."""
        async with self._database.read() as session:
            return await runs_of(session, queued_since(cluster, since))

    async def unfinished_executions(self) -> Sequence[Execution]:
        """Return the executions in a state that is not terminal, oldest first."""
        query = (
            select(col(ExecutionRow.body))
            .where(col(ExecutionRow.state).in_(_UNFINISHED))
            .order_by(col(ExecutionRow.started_at), col(ExecutionRow.id))
        )
        async with self._database.read() as session:
            return [record_of(Execution, body) for body in await session.scalars(query)]

    async def freezes(self) -> Sequence[Freeze]:
        """Return the freezes that nobody has lifted, oldest first; some may be over."""
        async with self._database.read() as session:
            return [record_of(Freeze, body) for body in await session.scalars(UNLIFTED)]

    async def fence(self, cluster: str) -> tuple[str | None, int]:
        """Return the holder of the cluster's lock and the current fence number; (None, 0) where it was never taken."""
        async with self._database.read() as session:
            row = await session.get(TargetLockRow, cluster)
        return (None, 0) if row is None else (row.execution_id, row.fence)

    async def audit_entries(
        self, *, after: int = 0, limit: int = 1000, incident: str | None = None
    ) -> Sequence[AuditEntry]:
        """Return entries with seq above `after`, in order; raises `AuditBroken` at a row that does not read as an entry."""
        query = select(AuditRow).where(col(AuditRow.seq) > after).order_by(col(AuditRow.seq)).limit(limit)
        if incident is not None:
            query = query.where(col(AuditRow.incident_id) == incident)
        async with self._database.read() as session:
            return [audit_entry(row) for row in await session.scalars(query)]

    async def audit_lines(
        self, *, after: int = 0, limit: int = 1000, wanted: AuditFilter = EVERY
    ) -> Sequence[AuditLine]:
        """Return rows with seq above `after`, in order, as their texts. Raises `AuditBroken` at a row that is no text."""
        query = narrowed(wanted).where(col(AuditRow.seq) > after).order_by(col(AuditRow.seq)).limit(limit)
        return await self._lines(query)

    async def newest_audit_lines(self, *, limit: int, wanted: AuditFilter = EVERY) -> Sequence[AuditLine]:
        """Return the newest of the wanted rows, in order. SQLite reads from the end and stops at the last one wanted."""
        query = narrowed(wanted).order_by(col(AuditRow.seq).desc()).limit(limit)
        return (await self._lines(query))[::-1]

    async def audit_line(self, seq: int) -> AuditLine | None:
        """Return one row as its texts. Raises `AuditBroken` where it is no text."""
        return next(iter(await self._lines(narrowed(EVERY).where(col(AuditRow.seq) == seq))), None)

    async def audit_gap(self) -> AuditEntry | None:
        """Return the newest row that says that a checkpoint contradicts the chain, None once a person has acknowledged it."""
        async with self._database.read() as session:
            return await gap_of(session)

    async def audit_entries_of(self, kind: str) -> Sequence[AuditEntry]:
        """Return all rows of a rare kind, oldest first."""
        query = select(AuditRow).where(text(RARE), col(AuditRow.kind) == kind).order_by(col(AuditRow.seq))
        async with self._database.read() as session:
            return [audit_entry(row) for row in await session.scalars(query)]

    async def _lines(self, query: AuditQuery) -> list[AuditLine]:
        async with self._database.read() as session:
            try:
                # Past the ORM, which would look at each row three times.
                found = await (await session.connection()).execute(query)
                return [AuditLine._make(row) for row in found]
            except OperationalError as error:
                if not self._database.is_undecodable(error):
                    raise
                raise AuditBroken("An audit row was altered: it holds bytes that are no text.") from error
