"""Streams, consumers and their Raft groups, each as one server sees it."""

from __future__ import annotations

from dataclasses import dataclass

from bot.model.base import JsonObject


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
    """Consumers that live on this server; those with one replica elsewhere do not count."""
    raft_group: str = ""
    first_ts: str = ""
    """When the first message was stored, RFC 3339; replicas agree on it, so it tells two histories of one stream apart."""


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
