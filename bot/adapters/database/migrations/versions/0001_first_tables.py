"""Records, evidence, the audit chain, locks and the chat's rows: all tables of the first release."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Text, UniqueConstraint, text

from bot.adapters.database.migrations.columns import PLAIN, deferred, key, plain, reference
from bot.errors import BadInput

revision, down_revision, effect = "0001", None, "expand"

_RARE = "kind IN ('audit.gap', 'audit.acknowledged')"

_SQLITE_TRIGGERS = (
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END",
    """CREATE TRIGGER audit_in_order BEFORE INSERT ON audit WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit)
    BEGIN SELECT RAISE(ABORT, 'audit entries are appended without a gap'); END""",
)
"""The last one also stops INSERT OR REPLACE, which removes a row without firing a delete trigger."""

_POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'audit entries are append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    """CREATE FUNCTION audit_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit) THEN
            RAISE EXCEPTION 'audit entries are appended without a gap' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$""",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_in_order BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_in_order()",
    "ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_change",
    "ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_truncate",
    "ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_in_order",
)
"""ALWAYS: `session_replication_role = replica` switches off plain triggers."""


def upgrade(op: Operations) -> None:
    _intake(op)
    _incidents(op)
    _repairs(op)
    _standing(op)
    _audit(op)
    _chat(op)


def downgrade(op: Operations) -> None:
    del op
    raise BadInput("0001 is the first revision: a way back from it would remove the audit log, so there is none.")


def _body() -> Column[str]:
    return Column("body", Text, nullable=False)


def _intake(op: Operations) -> None:
    op.create_table(
        "deliveries",
        key(),
        plain("received_at", index=True),
        Column("processed", Boolean, nullable=False, index=True),
        Column("urgent", Boolean, nullable=False),
        Column("progress", Text, nullable=False),
        _body(),
    )
    waiting = text("NOT processed")
    op.create_index(
        "deliveries_queue",
        "deliveries",
        [text("urgent DESC"), "received_at", "id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_table("delivered_events", key("source"), key("event"), reference("delivery_id", "deliveries.id"))


def _incidents(op: Operations) -> None:
    op.create_table(
        "incidents",
        key(),
        plain("source"),
        plain("fingerprint"),
        plain("starts_at"),
        plain("opened_at", index=True),
        plain("updated_at", index=True),
        plain("state", index=True),
        Column("revision", Integer, nullable=False),
        _body(),
    )
    still_open = text("state <> 'closed'")
    op.create_index(
        "incidents_one_open",
        "incidents",
        ["source", "fingerprint"],
        unique=True,
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
    op.create_index("incidents_episode", "incidents", ["source", "fingerprint", "starts_at"])
    op.create_index(
        "incidents_silenced",
        "incidents",
        ["id"],
        sqlite_where=text("json_extract(body, '$.silence') IS NOT NULL"),
        postgresql_where=text(r"(CAST(replace(body, '\u0000', '\ufffd') AS JSON) ->> 'silence') IS NOT NULL"),
    )
    op.create_table(
        "alerts",
        key(),
        reference("delivery_id", "deliveries.id"),
        reference("incident_id", "incidents.id", nullable=True),
        plain("source"),
        plain("fingerprint"),
        plain("starts_at"),
        plain("received_at"),
        _body(),
    )
    op.create_index("alerts_episode", "alerts", ["source", "fingerprint", "starts_at"])
    op.create_table(
        "storm_members",
        Column("id", PLAIN, deferred("incidents.id"), primary_key=True),
        reference("storm", "incidents.id"),
        plain("cluster"),
        plain("title"),
        Column("page", Boolean, nullable=False),
        Column("own_thread", Boolean, nullable=False),
        plain("at"),
        _body(),
    )
    op.create_index("storm_members_line", "storm_members", ["storm", "cluster", "title"])
    op.create_index("storm_members_threads", "storm_members", ["storm", "own_thread"])
    op.create_table("diagnoses", key(), reference("incident_id", "incidents.id"), plain("started_at"), _body())


def _repairs(op: Operations) -> None:
    op.create_table(
        "proposals",
        key(),
        reference("incident_id", "incidents.id"),
        plain("state", index=True),
        plain("button", unique=True),
        plain("created_at", index=True),
        _body(),
    )
    op.create_table(
        "approvals",
        key(),
        reference("proposal_id", "proposals.id"),
        plain("person"),
        plain("at"),
        _body(),
        UniqueConstraint("proposal_id", "person", name="approvals_one_per_person"),
    )
    op.create_table(
        "executions",
        key(),
        reference("proposal_id", "proposals.id"),
        plain("state", index=True),
        plain("started_at"),
        _body(),
        UniqueConstraint("proposal_id", name="executions_one_per_proposal"),
    )
    op.create_table(
        "target_locks",
        key("cluster"),
        Column("execution_id", PLAIN, nullable=True),
        Column("fence", Integer, nullable=False),
    )


def _standing(op: Operations) -> None:
    op.create_table("freezes", key(), Column("lifted", Boolean, nullable=False, index=True), plain("at"), _body())
    op.create_table("factors", key(), _body())
    op.create_table(
        "snapshots",
        key(),
        plain("cluster"),
        plain("taken_at", index=True),
        plain("digest"),
        Column("archive", LargeBinary, nullable=False),
    )


def _audit(op: Operations) -> None:
    op.create_table(
        "audit",
        Column("seq", Integer, primary_key=True, autoincrement=False),
        plain("at"),
        plain("kind"),
        plain("actor"),
        Column("incident_id", PLAIN, nullable=True, index=True),
        plain("subject"),
        plain("sentence"),
        Column("data", Text, nullable=False),
        plain("previous", unique=True),
        plain("hash", unique=True),
    )
    op.create_index("audit_gaps", "audit", ["seq"], sqlite_where=text(_RARE), postgresql_where=text(_RARE))
    on_sqlite = op.get_context().dialect.name == "sqlite"
    for statement in _SQLITE_TRIGGERS if on_sqlite else _POSTGRESQL_TRIGGERS:
        op.execute(statement)


def _chat(op: Operations) -> None:
    op.create_table(
        "messages",
        key("key"),
        reference("incident_id", "incidents.id"),
        plain("channel"),
        Column("ts", PLAIN, nullable=True),
        _body(),
    )
    op.create_index("messages_place", "messages", ["channel", "ts"])
    op.create_table(
        "drawn",
        Column("incident_id", PLAIN, deferred("incidents.id"), primary_key=True),
        Column("revision", Integer, nullable=False),
    )
