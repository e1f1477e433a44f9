"""Raw answers of one pass over a cluster, and typed views over them. Gathered once, judged offline.

A snapshot is the evidence: it is stored, attached to the thread, and every past incident is a test case. A fact that could not be read is an
`Unknown` with its reason, never an absent key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from bot.model.base import JsonObject, Moment, Record, SnapshotId


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


class ServerIdentity(Record):
    """Who answered: server name, id, version, cluster name and host, from the `server` header of a `$SYS` reply or from VARZ."""

    name: str
    id: str
    version: str
    cluster: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, order=True)
class StreamKey:
    account: str
    stream: str

    def __str__(self) -> str:
        return f"{self.account} > {self.stream}"


@dataclass(frozen=True, slots=True, order=True)
class ConsumerKey:
    account: str
    stream: str
    consumer: str

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.account, self.stream)

    def __str__(self) -> str:
        return f"{self.account} > {self.stream} > {self.consumer}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A follower as the reporting server sees it. `active` is nanoseconds since last contact, `lag` in Raft operations."""

    name: str
    current: bool
    offline: bool
    active: int
    lag: int


@dataclass(frozen=True, slots=True)
class Group:
    """A Raft group as one server reports it (`cluster` of stream or consumer info). No group at all: standalone."""

    leader: str
    """Empty where the server knows no leader."""
    peers: tuple[Peer, ...]
    """Everyone but the leader, in that server's view."""
    raft_group: str

    @property
    def members(self) -> frozenset[str]:
        return frozenset({p.name for p in self.peers} | ({self.leader} if self.leader else set()))


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream as one server sees it."""

    server: str
    group: Group | None
    created: str
    config: JsonObject
    messages: int
    first_seq: int
    last_seq: int
    consumer_count: int
    raft_group: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer as one server sees it; sequences are this server's own numbers."""

    server: str
    group: Group | None
    created: str
    config: JsonObject
    delivered_stream_seq: int
    delivered_consumer_seq: int
    floor_stream_seq: int
    floor_consumer_seq: int
    num_ack_pending: int
    num_redelivered: int
    num_waiting: int
    num_pending: int
    paused: bool = False
    push_bound: bool = False
    raft_group: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything one pass read. `expected` names the servers known to exist (meta members, routes), answered or not."""

    id: SnapshotId
    cluster: str
    taken_at: datetime
    via: str
    """`system account`, `monitoring` or `archive`."""
    servers: tuple[ServerIdentity, ...]
    samples: tuple[Sample, ...]
    expected: frozenset[str] = frozenset()
    unknown: tuple[Unknown, ...] = ()
    """What could not be read about the whole cluster."""
    api: Mapping[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    """Answers of account-level API requests by subject, e.g. `APP:$JS.API.CONSUMER.LIST.ORDERS`."""

    def sample(self, server: str, endpoint: Endpoint, round: int = 0) -> Sample | None:  # noqa: A002 - the field's word
        """Return that server's answer, or None where it was not asked."""
        return self._by_key.get((server, endpoint, round))

    def data(self, server: str, endpoint: Endpoint, round: int = 0) -> JsonObject | None:  # noqa: A002
        """Return the raw answer, or None where it is unknown or was not asked."""
        found = self.sample(server, endpoint, round)
        return found.data if found else None

    @cached_property
    def _by_key(self) -> dict[tuple[str, Endpoint, int], Sample]:
        return {(s.server, s.endpoint, s.round): s for s in self.samples}

    @cached_property
    def rounds(self) -> int:
        """How many rounds of JSZ were taken."""
        return 1 + max((s.round for s in self.samples if s.endpoint is Endpoint.JSZ), default=-1)

    @cached_property
    def _jsz(self) -> tuple[tuple[dict[StreamKey, dict[str, StreamState]], dict[ConsumerKey, dict[str, ConsumerState]]], ...]:
        from bot.model.views import read_jsz

        return tuple(
            read_jsz([s for s in self.samples if s.endpoint is Endpoint.JSZ and s.round == n and s.data is not None])
            for n in range(self.rounds)
        )

    def streams(self, round: int = 0) -> Mapping[StreamKey, Mapping[str, StreamState]]:  # noqa: A002
        """Return each stream's state per server that reports it."""
        return self._jsz[round][0] if round < len(self._jsz) else {}

    def consumers(self, round: int = 0) -> Mapping[ConsumerKey, Mapping[str, ConsumerState]]:  # noqa: A002
        """Return each consumer's state per server that reports it."""
        return self._jsz[round][1] if round < len(self._jsz) else {}


class Focus(Record):
    """What an alert's labels point at: hints for what to look at first, never facts."""

    account: str | None = None
    stream: str | None = None
    consumer: str | None = None
    server: str | None = None


def names(servers: Sequence[ServerIdentity]) -> frozenset[str]:
    """Return the servers' names."""
    return frozenset(s.name for s in servers)


__all__ = [
    "ConsumerKey",
    "ConsumerState",
    "Endpoint",
    "Focus",
    "Group",
    "Moment",
    "Peer",
    "Sample",
    "ServerIdentity",
    "Snapshot",
    "StreamKey",
    "StreamState",
    "Unknown",
    "UnknownReason",
    "names",
]
