"""What every record shares: frozen pydantic models, JSON types, identifiers, canonical JSON and its digest."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NewType, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict

Json = Any
JsonObject = dict[str, Any]
"""A JSON object exactly as a server answered it."""

Moment = Annotated[datetime, AwareDatetime]
"""An aware datetime, always UTC in the store."""

IncidentId = NewType("IncidentId", str)
AlertId = NewType("AlertId", str)
DeliveryId = NewType("DeliveryId", str)
SnapshotId = NewType("SnapshotId", str)
DiagnosisId = NewType("DiagnosisId", str)
ProposalId = NewType("ProposalId", str)
ExecutionId = NewType("ExecutionId", str)
ApprovalId = NewType("ApprovalId", str)
FreezeId = NewType("FreezeId", str)
OperationId = NewType("OperationId", str)
"""Names one change of the world; written into the changed object as its receipt."""


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


def new_id(prefix: str) -> str:
    """Return `<prefix>_<26 hex>`: 104 random bits, safe in a URL, a file name, a Slack button and NATS metadata."""
    return f"{prefix}_{secrets.token_hex(13)}"


def canonical_json(value: Json) -> str:
    """Return the one JSON text of `value`: keys sorted, no blanks, UTF-8 kept; NaN and Infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def part(raw: JsonObject, key: str) -> JsonObject:
    """Return the object below `key`; empty where it is absent, null or no object."""
    found: Json = raw.get(key)
    return cast("JsonObject", found) if isinstance(found, dict) else {}


def parts(raw: JsonObject, key: str) -> list[JsonObject]:
    """Return the objects of the list below `key`; empty where it is absent, null or no list."""
    found: Json = raw.get(key)
    rows = cast("list[Json]", found) if isinstance(found, list) else []
    return [cast("JsonObject", row) for row in rows if isinstance(row, dict)]


class RiskClass(StrEnum):
    """How much a change can hurt; decides who must approve it (design/safety.md, Approving 2)."""

    READ = "read"
    LOW = "low"
    MEDIUM = "medium"
    DESTRUCTIVE = "destructive"

    @property
    def rank(self) -> int:
        """0 for read up to 3 for destructive."""
        return list(RiskClass).index(self)
