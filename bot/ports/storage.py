"""Protocols for what is kept: the database, its transactions, and the places of checkpoints outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol, TypeVar

from bot.model import (
    Aged,
    Alert,
    Approval,
    AuditDraft,
    AuditEntry,
    AuditFilter,
    AuditLine,
    Checkpoint,
    Delivery,
    DeliveryId,
    Diagnosis,
    Dossier,
    Execution,
    Factor,
    Freeze,
    Horizon,
    Incident,
    IncidentId,
    Overdue,
    Progress,
    Proposal,
    Snapshot,
    SnapshotId,
    StormLine,
    StormMember,
)

R = TypeVar("R", Delivery, Alert, Incident, Diagnosis, Proposal, Approval, Execution, Freeze, StormMember, Factor)

Stored = Delivery | Alert | Incident | Diagnosis | Proposal | Approval | Execution | Freeze | StormMember | Factor
"""The records a transaction writes."""


EVERY: Final = AuditFilter()


class Brakes(Protocol):
    """What may stop a change: both a transaction and the store know it."""

    async def runs_since(self, cluster: str, since: datetime) -> Sequence[tuple[Execution, Proposal]]:
        """Return the executions of a cluster that were queued since then with what they run, oldest first."""
        ...

    async def freezes(self) -> Sequence[Freeze]:
        """Return the freezes that nobody has lifted, oldest first; some may be over."""
        ...

    async def audit_gap(self) -> AuditEntry | None:
        """Return the newest row that says that a checkpoint contradicts the chain, None once a person has acknowledged it."""
        ...


class Transaction(Brakes, Protocol):
    """One write transaction: everything in it commits together, audit entries included, or nothing does."""

    async def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002
        """Return the record as committed or as put in this transaction, locked for this transaction."""
        ...

    async def put(self, record: Stored) -> None:
        """Insert or replace a record by its id."""
        ...

    async def put_all(self, records: Sequence[Stored]) -> None:
        """Insert or replace many, in few statements; those of one kind in their order."""
        ...

    async def count_unprocessed(self) -> int:
        """Return how many deliveries wait."""
        ...

    async def deliveries(self, ids: Sequence[DeliveryId]) -> Sequence[Delivery]:
        """Return the deliveries that are there, in the order of `ids`, locked for this transaction."""
        ...

    async def progress(self, made: Mapping[DeliveryId, Progress]) -> None:
        """Record how far deliveries are, without writing their bodies again."""
        ...

    async def first_delivery(self, source: str, event: str, delivery: DeliveryId) -> DeliveryId:
        """Return the delivery that brought this event of this source first: `delivery` itself, which is remembered then, or an earlier one."""
        ...

    async def open_incident(self, source: str, fingerprint: str) -> Incident | None:
        """Return the one incident of this alert that is not closed."""
        ...

    async def incident_of_episode(self, source: str, fingerprint: str, starts_at: datetime) -> Incident | None:
        """Return the incident, closed or not, that this very episode belongs to."""
        ...

    async def incidents_of(self, source: str, fingerprints: Collection[str]) -> Sequence[Incident]:
        """Return of each of these alerts the one incident that is not closed, or the newest one where all are; none where there never was one."""
        ...

    async def awaiting(self, incidents: Collection[IncidentId]) -> frozenset[IncidentId]:
        """Return those of the incidents that have a proposal which people can still decide about."""
        ...

    async def threads_since(self, since: datetime) -> Sequence[Incident]:
        """Return the incidents with a thread of their own that were opened since then, oldest first."""
        ...

    async def in_storm(self, storm: IncidentId, cluster: str, title: str) -> bool:
        """Return whether the storm has an incident of this alert name on this cluster."""
        ...

    async def storm_size(self, storm: IncidentId, most: int) -> tuple[int, int]:
        """Return how many lines a storm's table has, and how many of its incidents have a thread of their own; each is counted up to `most`."""
        ...

    async def proposals(self, incident: IncidentId) -> Sequence[Proposal]: ...
    async def approvals(self, proposal: str) -> Sequence[Approval]: ...

    async def touch(self, incident: IncidentId) -> None:
        """Raise the incident's revision, so that the chat draws it again."""
        ...

    async def take_lock(self, cluster: str, execution: str) -> int | None:
        """Take the cluster's target lock and return its new fence number, the held one for the holder itself, None if another holds it."""
        ...

    async def release_lock(self, cluster: str, execution: str) -> None:
        """Release the lock if this execution holds it."""
        ...

    async def audit(self, draft: AuditDraft) -> AuditEntry:
        """Append to the chain."""
        ...

    async def audit_all(self, drafts: Sequence[AuditDraft]) -> Sequence[AuditEntry]:
        """Append many to the chain, in their order."""
        ...


class Store(Brakes, Protocol):
    """The database. Reads see the last commit."""

    def begin(self, *, ahead: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Open a write transaction; leaving the block commits, an exception rolls back. Raises `StoreBusy` after 2 s of waiting for another process.

        This process's own writers take turns in order; one that somebody outside waits for, and of which there is one at a time, goes `ahead`.
        """
        ...

    async def get(self, kind: type[R], id: str) -> R | None: ...  # noqa: A002

    async def save_snapshot(self, snapshot: Snapshot) -> str:
        """Keep a snapshot's evidence (idempotent by id) and return its SHA-256 digest."""
        ...

    async def snapshot(self, id: SnapshotId) -> Snapshot | None: ...  # noqa: A002

    async def snapshot_archive(self, id: SnapshotId) -> bytes | None:  # noqa: A002
        """Return the stored evidence as the bytes of a ZIP in the format of reference/audit-archive.md."""
        ...

    async def unprocessed_deliveries(self) -> Sequence[Delivery]: ...
    async def count_unprocessed(self) -> int: ...
    async def waiting(self, limit: int) -> Sequence[DeliveryId]:
        """Return the deliveries whose turn it is: urgent ones first, then in the order in which they came in."""
        ...

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
        ...

    async def count_open(self) -> int:
        """Return how many incidents with a thread of their own are not closed."""
        ...

    async def undiagnosed(self) -> Sequence[IncidentId]:
        """Return the incidents with a thread that are not closed and were never diagnosed, though their cluster is known; the oldest first."""
        ...

    async def storm_lines(self, storm: IncidentId) -> Sequence[StormLine]:
        """Return the lines of a storm's table: page-worthy ones first, then those with the most incidents."""
        ...

    async def rolled_up(self, storm: IncidentId, limit: int) -> Sequence[StormMember]:
        """Return incidents of a storm that have no thread of their own: open ones, page-worthy ones, then the oldest first."""
        ...

    async def silenced(self) -> Sequence[Incident]:
        """Return the incidents, closed ones too, in which a silence holds."""
        ...

    async def alerts(self, incident: IncidentId) -> Sequence[Alert]: ...

    async def dossier(self, incident: IncidentId) -> Dossier | None:
        """Return all that is stored about an incident, as of one commit; None where there is no such incident."""
        ...

    async def diagnoses(self, incident: IncidentId) -> Sequence[Diagnosis]: ...

    async def proposals(
        self, incident: IncidentId | None = None, *, active_only: bool = False
    ) -> Sequence[Proposal]: ...

    async def proposal_by_button(self, button: str) -> Proposal | None: ...

    async def approvals(self, proposal: str) -> Sequence[Approval]: ...

    async def execution_of(self, proposal: str) -> Execution | None: ...

    async def runs(self, limit: int) -> Sequence[tuple[Execution, Proposal]]:
        """Return executions with what they run, the newest first."""
        ...

    async def unfinished_executions(self) -> Sequence[Execution]: ...

    async def fence(self, cluster: str) -> tuple[str | None, int]:
        """Return who holds the cluster's lock (execution id) and the current fence number."""
        ...

    async def audit_entries(
        self, *, after: int = 0, limit: int = 1000, incident: str | None = None
    ) -> Sequence[AuditEntry]: ...

    async def audit_lines(
        self, *, after: int = 0, limit: int = 1000, wanted: AuditFilter = EVERY
    ) -> Sequence[AuditLine]:
        """Return rows with seq above `after`, in order, as their texts. Raises `AuditBroken` at a row that is no text."""
        ...

    async def newest_audit_lines(self, *, limit: int, wanted: AuditFilter = EVERY) -> Sequence[AuditLine]:
        """Return the newest of the wanted rows, in order."""
        ...

    async def audit_line(self, seq: int) -> AuditLine | None: ...

    async def audit_entries_of(self, kind: str) -> Sequence[AuditEntry]:
        """Return all rows of a kind that is rare: `GAP` or `ACKNOWLEDGED`."""
        ...


class Ageing(Protocol):
    """The part of the database that forgets. Audit rows stay for ever, and so does what is open, undecided or unfinished."""

    def begin(self) -> AbstractAsyncContextManager[Transaction]: ...

    async def overdue(self, horizon: Horizon) -> Overdue:
        """Count what is too old now."""
        ...

    async def too_old(self, aged: Aged, before: datetime, limit: int) -> Sequence[str]:
        """Return the oldest that may go now, at most `limit`, by their ids. A storm is among them once its last incident is gone."""
        ...

    async def remove(self, aged: Aged, ids: Sequence[str], before: datetime) -> int:
        """Remove, with all that is theirs, those that may still go; return how many these were."""
        ...


class CheckpointSink(Protocol):
    """A place outside that keeps heads of the audit chain. What was kept there the bot can't take back."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    async def newest(self) -> Checkpoint | None:
        """Return what was kept last, None where nothing was yet. Raises `Unreadable`."""
        ...

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint; returning means that it lasts. Raises `NatsmedicError`."""
        ...
