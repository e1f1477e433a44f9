"""An append-only entry, chained by SHA-256 over canonical JSON."""

from __future__ import annotations

from bot.model.base import JsonObject, Moment, Record, digest

GENESIS = "0" * 64
"""The `previous` of the first entry."""


class AuditDraft(Record):
    """What a phase wants recorded; the store adds place and chain in the same transaction."""

    kind: str
    """e.g. alert.received, proposal.created, click.refused, approval.recorded, stage.intended, stage.applied."""
    actor: str
    """`bot`, a person key, or a source name."""
    incident_id: str | None = None
    subject: str = ""
    sentence: str
    data: JsonObject = {}


class AuditEntry(Record):
    """One row. `hash` covers every other field, `previous` is the hash of the row before."""

    seq: int
    at: Moment
    kind: str
    actor: str
    incident_id: str | None
    subject: str
    sentence: str
    data: JsonObject
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """The hash this row must have; a row whose `hash` differs was altered."""
        return digest(self.model_dump(mode="json", exclude={"hash"}))
