"""One server's raw answer to one monitoring endpoint, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.model.base import JsonObject, Record


class Endpoint(StrEnum):
    """Monitoring endpoints, by their `$SYS.REQ.SERVER.<id>.<name>` names."""

    VARZ = "VARZ"
    JSZ = "JSZ"
    HEALTHZ = "HEALTHZ"
    ROUTEZ = "ROUTEZ"
    RAFTZ = "RAFTZ"


class UnknownReason(StrEnum):
    DENIED = "denied"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    NOT_IN_VERSION = "not_in_version"
    NOT_CONFIGURED = "not_configured"
    UNREADABLE = "unreadable"


class Unknown(Record):
    """Why a fact is not known; `detail` is one sentence and untrusted."""

    reason: UnknownReason
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One server's answer to one endpoint. Exactly one of `data` and `unknown` is set."""

    server: str
    endpoint: Endpoint
    taken_at: datetime
    data: JsonObject | None = None
    unknown: Unknown | None = None
    round: int = 0
    """0 for the first pass; facts that need a trend are taken again in later rounds."""
