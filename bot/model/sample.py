"""One server's raw answer to one monitoring endpoint, or why there is none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from bot.model.assets import DETAILS, Assets, read_page
from bot.model.base import Json, JsonObject, Record


class Endpoint(StrEnum):
    """Monitoring endpoints, by their `$SYS.REQ.SERVER.<id>.<name>` names."""

    VARZ = "VARZ"
    JSZ = "JSZ"
    HEALTHZ = "HEALTHZ"
    ROUTEZ = "ROUTEZ"
    RAFTZ = "RAFTZ"
    STATSZ = "STATSZ"
    CONNZ = "CONNZ"
    ACCOUNTZ = "ACCOUNTZ"
    GATEWAYZ = "GATEWAYZ"
    LEAFZ = "LEAFZ"
    IPQUEUESZ = "IPQUEUESZ"
    SUBSZ = "SUBSZ"


TRENDS: Final = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.RAFTZ, Endpoint.STATSZ, Endpoint.IPQUEUESZ})
"""Endpoints whose numbers move (counters, Raft indexes, queue lengths): only these are ever read again."""


class Again(NamedTuple):
    """A second look: which endpoints are read again, how often in all, and how many seconds apart."""

    endpoints: frozenset[Endpoint]
    rounds: int
    interval: float


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


def _json(details: Json) -> bytes:
    try:
        return msgspec.json.encode(details)
    except UnicodeEncodeError:
        return json.dumps(details).encode()  # half of a surrogate pair, which no server writes, stays an escape


@dataclass(frozen=True, slots=True)
class Sample:
    """One server's answer to one endpoint. Exactly one of `data` and `unknown` is set."""

    server: str
    endpoint: Endpoint
    taken_at: datetime
    data: JsonObject | None = None
    """The JSON object as answered, without the streams and consumers of JSZ."""
    unknown: Unknown | None = None
    round: int = 0
    """0 for the first look; what is compared over time is taken again in later rounds."""
    assets: Assets | None = None
    """The streams and consumers of JSZ."""

    @classmethod
    def of(
        cls,
        server: str,
        endpoint: Endpoint,
        taken_at: datetime,
        answer: JsonObject,
        round: int = 0,  # noqa: A002 - the field's word
    ) -> Sample:
        """Return the sample of a whole answer."""
        if endpoint is not Endpoint.JSZ or DETAILS not in answer:
            return cls(server, endpoint, taken_at, answer, None, round)
        rest = {key: value for key, value in answer.items() if key != DETAILS}
        return cls(server, endpoint, taken_at, rest, None, round, read_page(_json(answer[DETAILS])))

    @property
    def answer(self) -> JsonObject | None:
        """The whole answer, decoded anew each time: what evidence holds."""
        if self.data is None or self.assets is None:
            return self.data
        return {**self.data, DETAILS: self.assets.details()}
