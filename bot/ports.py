"""Protocols for the outside. Adapters implement them; flow and actions know nothing else of the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from bot.model import (
    Again,
    Alert,
    Approval,
    AuditDraft,
    AuditEntry,
    AuditFilter,
    AuditLine,
    Chart,
    Checkpoint,
    Delivery,
    DeliveryId,
    Diagnosis,
    Endpoint,
    Execution,
    Freeze,
    Incident,
    IncidentId,
    JsonObject,
    KubernetesFacts,
    Person,
    Proposal,
    Record,
    SlackUser,
    Snapshot,
    SnapshotId,
)
from bot.model.kubernetes import Change, Kind, Rehearsal

R = TypeVar("R", Delivery, Alert, Incident, Diagnosis, Proposal, Approval, Execution, Freeze)

Stored = Delivery | Alert | Incident | Diagnosis | Proposal | Approval | Execution | Freeze
"""The records a transaction writes."""


EVERY: Final = AuditFilter()
"""Narrows nothing."""


class Clock(Protocol):
    """Time, so that a test can own it."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Readers(Protocol):
    """Reads one cluster. Raises `Unreadable` where a fact can't be had; never returns a guess."""

    @property
    def cluster(self) -> str: ...

    @property
    def api_timeout(self) -> float:
        """Seconds that an API request of this cluster waits for its answer."""
        ...

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        """Read all servers in one parallel pass. `again` judges that first look, on a thread, and may ask for further rounds of what moves
        (`TRENDS` of bot.model); where it asks for none, the very snapshot that it judged is returned. Never raises for a single fact (it becomes
        unknown); raises `Unreachable` where no server at all could be asked.
        """
        ...

    async def look_elsewhere(self) -> None:
        """Let the next look go through another server: in a broken mesh each one shows only those it has a route to."""
        ...

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        """Return `$JS.API.STREAM.INFO` raw; None is a definite *stream not found* (10059)."""
        ...

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        """Return `$JS.API.CONSUMER.INFO` raw; None is a definite *consumer not found* (10014)."""
        ...

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        """Return the account's streams, or one stream's consumers, that the meta leader knows and whose leader does not answer. What lives on a server that
        is away is named nowhere else.
        """
        ...

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        """Return the client connections that a server remembers as closed, as CONNZ has them: `stop` and `reason` say when and why. It remembers the
        last 10,000 (`max_closed_clients`). Raises `Unreadable`.
        """
        ...

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object of the cluster's namespace raw and whole; None is a definite *not found*. Never a Secret."""
        ...

    async def rehearse(self, change: Change) -> Rehearsal:
        """Return what the API server would make of a change (server-side dry run). Nothing is written.

        Kubernetes allows a dry run to whom it allows the write, so it goes under the applier's name; without one, or where it may not, the change stands
        in the answer as it would be sent. Raises `Unreadable` where the object can't be asked for, and `Refused` where the server would refuse.
        """
        ...


class ProbingReaders(Readers, Protocol):
    """Readers that may also send messages of their own, to see whether they arrive. A command that a person runs has them; no phase of flow does,
    so an alert never causes traffic.
    """

    async def probe_delivery(self, snapshot: Snapshot, tell: Callable[[str], None]) -> Snapshot:
        """Return the snapshot with `deliveries`: what was published on each server, counted on every other. `tell` hears in one sentence per account
        what is going to be sent. Raises `BadInput` where there is no login to send with.
        """
        ...


class KubernetesReader(Protocol):
    """Reads the Kubernetes side of one cluster."""

    async def gather(self) -> KubernetesFacts:
        """Read everything in one parallel pass. Never raises for the world: what can't be read is unknown, with the verb and the resource."""
        ...

    async def object(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object raw and whole; None is a definite *not found*. Raises `Unreadable`."""
        ...


class KubernetesWriter(Protocol):
    """Changes the Kubernetes side of one cluster, as the applier."""

    async def rehearse(self, change: Change) -> Rehearsal:
        """Return what the API server would make of the change. Raises `Unreadable` or `Refused`."""
        ...

    async def write(self, change: Change) -> JsonObject:
        """Send the one change and return the object as it was stored. Raises `NotApplied` or `OutcomeUnknown`; never sends twice."""
        ...


class Writers(Protocol):
    """Changes one cluster. Only actions hold one. Raises `NotApplied` or `OutcomeUnknown`; never resends by itself."""

    async def create_consumer(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Create with `"action":"create"`; `config` is the complete raw configuration with its `durable_name` or `name`."""
        ...

    async def delete_consumer(self, account: str, stream: str, consumer: str) -> None:
        """Delete through the meta leader."""
        ...

    async def step_down_consumer(self, account: str, stream: str, consumer: str, preferred: str = "") -> None:
        """Ask the consumer's Raft leader to step down, for the member `preferred` where one is named (2.11.0)."""
        ...

    async def reload_server(self, server_id: str) -> None:
        """Ask one server to load its configuration file again (`$SYS.REQ.SERVER.<id>.RELOAD`, 2.10.0). A server that refuses the file keeps the
        configuration it has, and says so: `ServerRefused`.
        """
        ...

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Replace a stream's configuration; `config` is complete and raw, for the server takes what is left out for a default. Returns the answer, raw."""
        ...

    async def create_trial(self, account: str, config: JsonObject) -> JsonObject:
        """Create the one stream that natsmedic may create and delete, `TRIAL_STREAM`; `config` is complete but for its name. Returns the answer, raw."""
        ...

    async def delete_trial(self, account: str) -> None:
        """Delete that stream, through the meta leader. There is no way to name another one."""
        ...

    async def kick_client(self, server_id: str, cid: int) -> None:
        """Close one client connection of a server (`$SYS.REQ.SERVER.<id>.KICK`, 2.10.0). Raises `ServerRefused` where it has none of this id."""
        ...

    async def warn_client(self, server_id: str, cid: int) -> None:
        """Tell one client that its server goes into lame-duck mode (`$SYS.REQ.SERVER.<id>.LDM`, 2.10.0), so that it may leave by itself. Raises
        `ServerRefused` where it is not there, or where its protocol has no such message, as MQTT.
        """
        ...

    async def write_object(self, change: Change) -> JsonObject:
        """Change one Kubernetes object of the cluster's namespace and return it as it was stored."""
        ...

    async def step_down_stream(self, account: str, stream: str, preferred: str = "") -> None:
        """Ask the stream's Raft leader to step down, for the member `preferred` where one is named (2.11.0)."""
        ...

    async def step_down_meta(self, preferred: str = "") -> None:
        """Ask the meta leader to step down, for the server `preferred` where one is named (2.11.0)."""
        ...

    async def remove_stream_peer(self, account: str, stream: str, peer: str) -> None:
        """Replace the member `peer` of a stream by another server. An `ApiRefused` of 10075 does not say that the member stays (before 2.15)."""
        ...

    async def remove_server(self, server: str, peer_id: str = "") -> None:
        """Remove a server from the meta group: by its peer id where one is given, else by its name."""
        ...

    async def reset_consumer(self, account: str, stream: str, consumer: str, seq: int | None = None) -> JsonObject:
        """Let a consumer start again at a stream sequence, behind its ack floor where none is given (2.14.0); the answer, raw."""
        ...

    async def pause_consumer(self, account: str, stream: str, consumer: str, until: str = "") -> JsonObject:
        """Pause a consumer until a moment (RFC 3339), or end its pause where none is given (2.11.0); the answer, raw."""
        ...

    async def unpin_consumer(self, account: str, stream: str, consumer: str, group: str) -> None:
        """Let go of the client that is pinned in a priority group of a consumer (2.11.0)."""
        ...


class Transaction(Protocol):
    """One write transaction: everything in it commits together, audit entries included, or nothing does."""

    async def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002
        """Return the record as committed or as put in this transaction, locked for this transaction."""
        ...

    async def put(self, record: Stored) -> None:
        """Insert or replace a record by its id."""
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

    async def proposals(self, incident: IncidentId) -> Sequence[Proposal]: ...
    async def approvals(self, proposal: str) -> Sequence[Approval]: ...

    async def executions(self, cluster: str, since: datetime) -> Sequence[Execution]:
        """Return the executions of a cluster that were queued since then, oldest first."""
        ...

    async def freezes(self) -> Sequence[Freeze]:
        """Return the freezes that nobody has lifted, oldest first; some may be over."""
        ...

    async def touch(self, incident: IncidentId) -> None:
        """Raise the incident's revision, so that the chat draws it again."""
        ...

    async def take_lock(self, cluster: str, execution: str) -> int | None:
        """Take the cluster's target lock and return its new fence number, the held one for the holder itself, None if another holds it."""
        ...

    async def release_lock(self, cluster: str, execution: str) -> None:
        """Release the lock if this execution holds it."""
        ...

    async def audit_gap(self) -> AuditEntry | None:
        """Return the newest row that says that a checkpoint contradicts the chain, None once a person has acknowledged it."""
        ...

    async def audit(self, draft: AuditDraft) -> AuditEntry:
        """Append to the chain."""
        ...


class Store(Protocol):
    """The database. Reads see the last commit."""

    def begin(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a write transaction; leaving the block commits, an exception rolls back. Raises `StoreBusy` after 2 s of waiting for another process."""
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
    async def incidents(self, *, open_only: bool = False, limit: int = 100) -> Sequence[Incident]: ...

    async def alerts(self, incident: IncidentId) -> Sequence[Alert]: ...

    async def diagnoses(self, incident: IncidentId) -> Sequence[Diagnosis]: ...

    async def proposals(
        self, incident: IncidentId | None = None, *, active_only: bool = False
    ) -> Sequence[Proposal]: ...

    async def proposal_by_button(self, button: str) -> Proposal | None: ...

    async def approvals(self, proposal: str) -> Sequence[Approval]: ...

    async def execution_of(self, proposal: str) -> Execution | None: ...

    async def unfinished_executions(self) -> Sequence[Execution]: ...

    async def freezes(self) -> Sequence[Freeze]:
        """Return the freezes that nobody has lifted, oldest first; some may be over."""
        ...

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

    async def audit_gap(self) -> AuditEntry | None:
        """Return the newest row that says that a checkpoint contradicts the chain, None once a person has acknowledged it."""
        ...

    async def audit_entries_of(self, kind: str) -> Sequence[AuditEntry]:
        """Return all rows of a kind that is rare: `GAP` or `ACKNOWLEDGED`."""
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


class Phase(StrEnum):
    """Units of durable work; each reads its record by id."""

    INTAKE = "intake"
    DIAGNOSIS = "diagnosis"
    EXECUTION = "execution"


class Steps(Protocol):
    """Checkpoints inside a durable phase: a completed step is not run again after a crash; an interrupted one is."""

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Run `work` at least once, remember its result."""
        ...


PhaseHandler = Callable[[str, Steps], Awaitable[None]]


class Engine(Protocol):
    """Durable execution. `start` is idempotent per (phase, key): a second start finds the first."""

    async def start(self, phase: Phase, key: str) -> None: ...


class Directory(Protocol):
    """Knows people. Never caches longer than 60 s, and not at all at apply."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        """Return what is true now; a look-up that fails returns a Person with `problem` set and no groups."""
        ...


class Chat(Protocol):
    """Draws incidents. State lives in the store; `nudge` only says that there is something to draw."""

    def nudge(self, incident: IncidentId) -> None: ...


Draw = Callable[[Chart], Awaitable[bytes]]
"""Draws a chart as a PNG. May raise anything a drawing library raises: whoever shows it goes on without it."""


class Message(Record):
    """A chat message the bot keeps: `key` (e.g. `board:inc_…`, `proposal:prop_…`) is also its metadata in the chat."""

    key: str
    incident_id: IncidentId
    channel: str
    ts: str | None = None
    """None while a post is reserved or in doubt: look before posting again."""
    digest: str | None = None
    """Digest of what was last drawn; equal means nothing to do."""


class Messages(Protocol):
    """The chat adapter's own rows: which messages exist, and how far each incident has been drawn."""

    async def of(self, incident: IncidentId) -> Sequence[Message]: ...

    async def at(self, channel: str, ts: str) -> Message | None: ...

    async def save(self, message: Message) -> None:
        """Insert or replace by key; committed before it returns, so that a reserved post survives a crash."""
        ...

    async def behind(self) -> Sequence[tuple[IncidentId, int]]:
        """Return the incidents whose revision is above the drawn one, with that revision, oldest change first."""
        ...

    async def caught_up(self, incident: IncidentId, revision: int) -> None:
        """Record that this revision is drawn completely."""
        ...
