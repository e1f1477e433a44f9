"""Records to rows and back."""

from __future__ import annotations

import json
from typing import cast

from pydantic import ValidationError

from bot.adapters.database.rows import (
    AlertRow,
    ApprovalRow,
    AuditRow,
    DeliveryRow,
    DiagnosisRow,
    ExecutionRow,
    FactorRow,
    FreezeRow,
    IncidentRow,
    MessageRow,
    ProposalRow,
    StormMemberRow,
    moment_text,
)
from bot.errors import AuditBroken, StoreError
from bot.model import (
    Alert,
    Approval,
    AuditEntry,
    Delivery,
    Diagnosis,
    Execution,
    Factor,
    Freeze,
    Incident,
    JsonObject,
    Progress,
    Proposal,
    Record,
    StormMember,
    canonical_json,
)
from bot.ports import Message, R, Stored

RecordRow = (
    DeliveryRow
    | AlertRow
    | IncidentRow
    | DiagnosisRow
    | ProposalRow
    | ApprovalRow
    | ExecutionRow
    | FreezeRow
    | FactorRow
    | StormMemberRow
)

_CHANGING = set(Progress.model_fields)

TABLE_OF: dict[type[Record], type[RecordRow]] = {
    Delivery: DeliveryRow,
    Alert: AlertRow,
    Incident: IncidentRow,
    Diagnosis: DiagnosisRow,
    Proposal: ProposalRow,
    Approval: ApprovalRow,
    Execution: ExecutionRow,
    Freeze: FreezeRow,
    Factor: FactorRow,
    StormMember: StormMemberRow,
}


def row_of(record: Stored) -> RecordRow:
    """Return the row that holds this record."""
    body = record.model_dump_json()
    match record:
        case Delivery():
            row: RecordRow = DeliveryRow(
                id=record.id,
                received_at=moment_text(record.received_at),
                processed=record.processed_at is not None,
                urgent=record.urgent,
                progress=progress_text(record),
                body=record.model_dump_json(exclude=_CHANGING),
            )
        case Alert():
            row = AlertRow(
                id=record.id,
                delivery_id=record.delivery_id,
                incident_id=record.incident_id,
                source=record.source,
                fingerprint=record.fingerprint,
                starts_at=moment_text(record.starts_at),
                received_at=moment_text(record.received_at),
                body=body,
            )
        case Incident():
            row = IncidentRow(
                id=record.id,
                source=record.source,
                fingerprint=record.fingerprint,
                starts_at=moment_text(record.starts_at),
                opened_at=moment_text(record.opened_at),
                updated_at=moment_text(record.updated_at),
                state=record.state,
                revision=record.revision,
                body=body,
            )
        case Diagnosis():
            row = DiagnosisRow(
                id=record.id, incident_id=record.incident_id, started_at=moment_text(record.started_at), body=body
            )
        case Proposal():
            row = ProposalRow(
                id=record.id,
                incident_id=record.incident_id,
                state=record.state,
                button=record.button,
                created_at=moment_text(record.created_at),
                body=body,
            )
        case Approval():
            row = ApprovalRow(
                id=record.id, proposal_id=record.proposal_id, person=record.person, at=moment_text(record.at), body=body
            )
        case Execution():
            row = ExecutionRow(
                id=record.id,
                proposal_id=record.proposal_id,
                state=record.state,
                started_at=moment_text(record.started_at),
                body=body,
            )
        case Freeze():
            row = FreezeRow(id=record.id, lifted=record.lifted, at=moment_text(record.at), body=body)
        case Factor():
            row = FactorRow(id=record.id, body=body)
        case StormMember():
            row = StormMemberRow(
                id=record.id,
                storm=record.storm,
                cluster=record.cluster,
                title=record.title,
                page=record.page,
                own_thread=record.own_thread,
                at=moment_text(record.at),
                body=body,
            )
    return row


def progress_text(progress: Progress) -> str:
    """Return the changing part of a delivery as it is stored."""
    return progress.model_dump_json(include=_CHANGING)


def delivery_of(body: str, progress: str) -> Delivery:
    """Return a delivery of the two texts it is stored as; raise `StoreError` where they do not read as one."""
    delivery = record_of(Delivery, body)
    try:
        changed = Progress.model_validate_json(progress)
    except ValidationError as error:
        raise StoreError(f"How far delivery {delivery.id} is does not read back: was it edited by hand?") from error
    return delivery.model_copy(update={name: getattr(changed, name) for name in changed.model_fields_set})


def record_in(kind: type[R], row: RecordRow) -> R:
    """Return the record that a whole row holds."""
    if isinstance(row, DeliveryRow):
        return cast("R", delivery_of(row.body, row.progress))
    return record_of(kind, row.body)


def record_of(kind: type[R], body: str) -> R:
    """Return the record in a row's body; raise `StoreError` where it does not read as one."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise StoreError(
            f"A stored {kind.__name__} does not read back ({error.error_count()} problems): was it edited by hand?"
        ) from error


def message_row(message: Message) -> MessageRow:
    """Return the row of a chat message."""
    return MessageRow(
        key=message.key,
        incident_id=message.incident_id,
        channel=message.channel,
        ts=message.ts,
        body=message.model_dump_json(),
    )


def audit_row(entry: AuditEntry) -> AuditRow:
    """Return the row of an audit entry, its time as the very text that is hashed."""
    fields = entry.model_dump(mode="json")
    return AuditRow.model_validate({**fields, "data": canonical_json(fields["data"])})


def audit_entry(row: AuditRow) -> AuditEntry:
    """Return the entry of a row; raise `AuditBroken` with its seq where it does not read as one."""
    fields = row.model_dump()
    try:
        return AuditEntry.model_validate({**fields, "data": json.loads(str(fields["data"]))})
    except (ValidationError, ValueError, TypeError) as error:
        raise AuditBroken(f"Audit row {fields.get('seq')} was altered: it does not read as an entry.") from error


def plain_data(data: JsonObject) -> JsonObject:
    """Return `data` as it reads back from its JSON text; lone surrogates, which UTF-8 can't hold, become question marks.

    Raises ValueError for NaN and Infinity.
    """
    return cast("JsonObject", json.loads(canonical_json(data).encode("utf-8", "replace")))
