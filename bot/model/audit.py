"""An append-only entry, chained by SHA-256 over canonical JSON, and what narrows a reading of them."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from json.encoder import encode_basestring as quoted
from typing import Final, NamedTuple

from bot.model.base import JsonObject, Moment, Record, canonical_json, digest

GENESIS = "0" * 64
"""The `previous` of the first entry."""

GAP: Final = "audit.gap"
"""A checkpoint outside contradicts the database: nothing changes until a person has acknowledged it."""
ACKNOWLEDGED: Final = "audit.acknowledged"


class AuditDraft(Record):
    """What a phase wants recorded; the store adds place and chain in the same transaction."""

    kind: str
    """What happened, as `family.event`; `AuditFilter.kind` takes a whole family."""
    actor: str
    """`bot`, a person key, or a source name."""
    incident_id: str | None = None
    subject: str = ""
    sentence: str
    data: JsonObject = {}


class AuditLine(NamedTuple):
    """A row as its very texts stand in the database: what the hash covers, not yet read as anything.

    Whoever tampers with a database may leave values of any type in it, so only `computed_hash` says whether these are what the types promise.
    """

    seq: int
    at: str
    kind: str
    actor: str
    incident_id: str | None
    subject: str
    sentence: str
    data: str
    """Canonical JSON of an object."""
    previous: str
    hash: str

    @classmethod
    def of(cls, row: JsonObject) -> AuditLine:
        """Return the line of a row's JSON. Raises ValueError where its data holds NaN or Infinity, and KeyError where a field is missing."""
        texts: JsonObject = {**row, "data": canonical_json(row["data"])}
        return cls(*(texts[name] for name in cls._fields))

    def entry(self) -> AuditEntry:
        """Return the row as a record. Raises ValueError (pydantic's is one) where it does not read as an entry."""
        return AuditEntry.model_validate({**self._asdict(), "data": json.loads(self.data)})

    def computed_hash(self) -> str:
        """Return the hash this row must have. Raises TypeError or ValueError where a value is not even text that can be hashed."""
        return sha256(self._canonical("").encode()).hexdigest()

    def text(self) -> str:
        """Return the row as one line of canonical JSON, its hash included."""
        return self._canonical(f'"hash":{quoted(self.hash)},')

    def _canonical(self, hash_: str) -> str:
        seq, at, kind, actor, incident_id, subject, sentence, data, previous, _ = self
        incident = "null" if incident_id is None else quoted(incident_id)
        return (
            f'{{"actor":{quoted(actor)},"at":{quoted(at)},"data":{data},{hash_}"incident_id":{incident},'
            f'"kind":{quoted(kind)},"previous":{quoted(previous)},"sentence":{quoted(sentence)},'
            f'"seq":{seq},"subject":{quoted(subject)}}}'
        )


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

    @property
    def line(self) -> AuditLine:
        """The entry as its texts."""
        return AuditLine.of(self.model_dump(mode="json"))


class AuditFilter(Record):
    """Which rows are wanted; what is None does not narrow."""

    kind: str | None = None
    """A kind, or the part before its dot for all kinds of that family."""
    actor: str | None = None
    subject: str | None = None
    words: tuple[str, ...] = ()
    """Each stands in the actor, the subject, the sentence or the data."""
    incident: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class Checkpoint(Record):
    """The head of the chain at some moment, kept outside the database."""

    seq: int
    hash: str
    at: Moment | None = None
    """When it was taken; None where nobody noted it."""

    def same_row(self, other: Checkpoint) -> bool:
        """Return whether both are of one row with one content, whenever they were taken."""
        return (self.seq, self.hash) == (other.seq, other.hash)


START: Final = Checkpoint(seq=0, hash=GENESIS)
"""Before the first row."""
