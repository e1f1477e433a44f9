"""The tables. A row holds the columns that are asked for or must be unique, and the record itself as JSON.

Table models skip validation, so rows stay in this package and convert to records on the way out. Times in columns are fixed-width UTC texts:
they sort as they stand, and no driver takes their zone away. Audit entries have no JSON body: each of their fields is a column, so that nothing in a row is
outside its hash. That they can't be changed is the work of triggers, which the revisions of the tables make.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel


def moment_text(moment: datetime) -> str:
    """Return an aware datetime as `2026-11-21T07:58:03.000000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class PlainText(TypeDecorator[str]):
    """A text that sorts by its bytes on every database, and that every database takes.

    PostgreSQL would sort by the language it was set up with, which looks past punctuation, and refuses U+0000, which SQLite stores: a replacement character
    stands for it, in what is written and in what is asked for.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type."""
        return dialect.type_descriptor(String(collation="C") if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is written or asked for."""
        del dialect
        return None if value is None else without_null(value)


def without_null(words: str) -> str:
    """Return the text with U+FFFD for each U+0000."""
    return words.replace("\0", "\ufffd")


class Row(SQLModel, registry=registry()):
    """Base of our tables; its metadata holds ours alone, so DBOS's tables in the same file are never touched."""

    metadata: ClassVar[MetaData] = MetaData()  # pyright: ignore[reportIncompatibleVariableOverride] - the metaclass declares it too


def _id() -> str:
    return Field(sa_column=Column("id", PlainText, primary_key=True))


def _body() -> str:
    return Field(sa_column=Column("body", Text, nullable=False))


def _text(name: str, *, index: bool = False, unique: bool = False) -> str:
    return Field(sa_column=Column(name, PlainText, nullable=False, index=index, unique=unique))


def _reference(name: str, target: str, *, nullable: bool = False) -> str | None:
    """A foreign key that is checked at commit, so that a transaction may write its records in any order."""
    key = ForeignKey(target, deferrable=True, initially="DEFERRED")
    return Field(default=None, sa_column=Column(name, PlainText, key, nullable=nullable, index=True))


class DeliveryRow(Row, table=True):
    """`progress` is the part of the record that changes, as JSON: a body may be large, and is written once."""

    __tablename__ = "deliveries"  # pyright: ignore[reportAssignmentType] - SQLModel declares it as a directive

    id: str = _id()
    received_at: str = _text("received_at", index=True)
    processed: bool = Field(default=False, index=True)
    urgent: bool = Field(default=False, sa_column=Column("urgent", Boolean, nullable=False))
    progress: str = Field(default="{}", sa_column=Column("progress", Text, nullable=False))
    body: str = _body()


class DeliveredEventRow(Row, table=True):
    """An event that its sender numbers, and the delivery that brought it first: whoever deletes deliveries keeps these 30 days (safety.md T3)."""

    __tablename__ = "delivered_events"  # pyright: ignore[reportAssignmentType]

    source: str = Field(sa_column=Column("source", PlainText, primary_key=True))
    event: str = Field(sa_column=Column("event", PlainText, primary_key=True))
    delivery_id: str | None = _reference("delivery_id", "deliveries.id")


class AlertRow(Row, table=True):
    __tablename__ = "alerts"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("alerts_episode", "source", "fingerprint", "starts_at"),)

    id: str = _id()
    delivery_id: str | None = _reference("delivery_id", "deliveries.id")
    incident_id: str | None = _reference("incident_id", "incidents.id", nullable=True)
    source: str = _text("source")
    fingerprint: str = _text("fingerprint")
    starts_at: str = _text("starts_at")
    received_at: str = _text("received_at")
    body: str = _body()


class IncidentRow(Row, table=True):
    __tablename__ = "incidents"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index(
            "incidents_one_open",
            "source",
            "fingerprint",
            unique=True,
            sqlite_where=text("state <> 'closed'"),
            postgresql_where=text("state <> 'closed'"),
        ),
        Index("incidents_episode", "source", "fingerprint", "starts_at"),
    )

    id: str = _id()
    source: str = _text("source")
    fingerprint: str = _text("fingerprint")
    starts_at: str = _text("starts_at")
    opened_at: str = _text("opened_at", index=True)
    updated_at: str = _text("updated_at", index=True)
    state: str = _text("state", index=True)
    revision: int = Field(sa_column=Column("revision", Integer, nullable=False))
    body: str = _body()


class StormMemberRow(Row, table=True):
    __tablename__ = "storm_members"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("storm_members_line", "storm", "cluster", "title"),
        Index("storm_members_threads", "storm", "own_thread"),
    )

    id: str = Field(
        sa_column=Column(
            "id", PlainText, ForeignKey("incidents.id", deferrable=True, initially="DEFERRED"), primary_key=True
        )
    )
    storm: str | None = _reference("storm", "incidents.id")
    cluster: str = _text("cluster")
    title: str = _text("title")
    page: bool = Field(sa_column=Column("page", Boolean, nullable=False))
    own_thread: bool = Field(sa_column=Column("own_thread", Boolean, nullable=False))
    at: str = _text("at")
    body: str = _body()


class DiagnosisRow(Row, table=True):
    __tablename__ = "diagnoses"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    incident_id: str | None = _reference("incident_id", "incidents.id")
    started_at: str = _text("started_at")
    body: str = _body()


class ProposalRow(Row, table=True):
    __tablename__ = "proposals"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    incident_id: str | None = _reference("incident_id", "incidents.id")
    state: str = _text("state", index=True)
    button: str = _text("button", unique=True)
    created_at: str = _text("created_at", index=True)
    body: str = _body()


class ApprovalRow(Row, table=True):
    __tablename__ = "approvals"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (UniqueConstraint("proposal_id", "person", name="approvals_one_per_person"),)

    id: str = _id()
    proposal_id: str | None = _reference("proposal_id", "proposals.id")
    person: str = _text("person")
    at: str = _text("at")
    body: str = _body()


class ExecutionRow(Row, table=True):
    __tablename__ = "executions"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (UniqueConstraint("proposal_id", name="executions_one_per_proposal"),)

    id: str = _id()
    proposal_id: str | None = _reference("proposal_id", "proposals.id")
    state: str = _text("state", index=True)
    started_at: str = _text("started_at", index=True)
    body: str = _body()


class FreezeRow(Row, table=True):
    __tablename__ = "freezes"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    lifted: bool = Field(sa_column=Column("lifted", Boolean, nullable=False, index=True))
    at: str = _text("at")
    body: str = _body()


class FactorRow(Row, table=True):
    __tablename__ = "factors"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    body: str = _body()


class SnapshotRow(Row, table=True):
    """A snapshot as its archive; `digest` is over its content, not over the ZIP's bytes."""

    __tablename__ = "snapshots"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    cluster: str = _text("cluster")
    taken_at: str = _text("taken_at", index=True)
    digest: str = _text("digest")
    archive: bytes = Field(sa_column=Column("archive", LargeBinary, nullable=False))


class AuditRow(Row, table=True):
    """One audit entry; `data` is canonical JSON, `at` is the text that was hashed."""

    __tablename__ = "audit"  # pyright: ignore[reportAssignmentType]

    seq: int = Field(sa_column=Column("seq", Integer, primary_key=True, autoincrement=False))
    at: str = _text("at")
    kind: str = _text("kind")
    actor: str = _text("actor")
    incident_id: str | None = Field(default=None, sa_column=Column("incident_id", PlainText, nullable=True, index=True))
    subject: str = _text("subject")
    sentence: str = _text("sentence")
    data: str = Field(sa_column=Column("data", Text, nullable=False))
    previous: str = _text("previous", unique=True)
    hash: str = _text("hash", unique=True)


class TargetLockRow(Row, table=True):
    """The lock of one cluster; the row stays when the lock is free, so that the fence never goes back."""

    __tablename__ = "target_locks"  # pyright: ignore[reportAssignmentType]

    cluster: str = Field(sa_column=Column("cluster", PlainText, primary_key=True))
    execution_id: str | None = Field(default=None, sa_column=Column("execution_id", PlainText, nullable=True))
    fence: int = Field(sa_column=Column("fence", Integer, nullable=False))


class MessageRow(Row, table=True):
    __tablename__ = "messages"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("messages_place", "channel", "ts"),)

    key: str = Field(sa_column=Column("key", PlainText, primary_key=True))
    incident_id: str | None = _reference("incident_id", "incidents.id")
    channel: str = _text("channel")
    ts: str | None = Field(default=None, sa_column=Column("ts", PlainText, nullable=True))
    body: str = _body()


class DrawnRow(Row, table=True):
    """How far the chat has drawn an incident."""

    __tablename__ = "drawn"  # pyright: ignore[reportAssignmentType]

    incident_id: str | None = Field(
        default=None,
        sa_column=Column(
            "incident_id",
            PlainText,
            ForeignKey("incidents.id", deferrable=True, initially="DEFERRED"),
            primary_key=True,
        ),
    )
    revision: int = Field(sa_column=Column("revision", Integer, nullable=False))


class ReplicaRow(Row, table=True):
    """A process that serves with a PostgreSQL database. Who has no row may not write."""

    __tablename__ = "replicas"  # pyright: ignore[reportAssignmentType]

    id: str = _id()
    beats: int = Field(sa_column=Column("beats", Integer, nullable=False))
    leads: bool = Field(sa_column=Column("leads", Boolean, nullable=False))


WAITING = text("NOT processed")
QUEUE = Index(
    "deliveries_queue",
    Row.metadata.tables["deliveries"].c.urgent.desc(),
    Row.metadata.tables["deliveries"].c.received_at,
    Row.metadata.tables["deliveries"].c.id,
    sqlite_where=WAITING,
    postgresql_where=WAITING,
)
"""The deliveries that wait, of all that there ever were: what the next ones are must not cost more as they become more."""
RARE = "kind IN ('audit.gap', 'audit.acknowledged')"
"""Rows that every change asks for; written out alike in index and query, or SQLite would not use the one for the other."""
AUDIT_GAPS = Index(
    "audit_gaps", Row.metadata.tables["audit"].c.seq, sqlite_where=text(RARE), postgresql_where=text(RARE)
)
POSTGRESQL_JSON = r"CAST(replace({body}, '\u0000', '\ufffd') AS JSON)"
"""A record's JSON, to look into: PostgreSQL gives out no text of a JSON in which U+0000 stands anywhere."""
SILENCED = {
    "sqlite": "json_extract(body, '$.silence') IS NOT NULL",
    "postgresql": f"({POSTGRESQL_JSON.format(body='body')} ->> 'silence') IS NOT NULL",
}
"""Incidents in which a silence holds, of all that there ever were; written out alike in index and query, as above. By dialect."""
SILENCES = Index(
    "incidents_silenced",
    Row.metadata.tables["incidents"].c.id,
    sqlite_where=text(SILENCED["sqlite"]),
    postgresql_where=text(SILENCED["postgresql"]),
)
