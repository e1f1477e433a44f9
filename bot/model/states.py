"""Streams, consumers and their Raft groups, each as one server sees it.

They are decoded straight from a server's JSON (JSZ with `accounts`, `streams`, `consumer`, `config`, `raft` all true, or an INFO answer), so field names
there and here differ only where a plain word is clearer. Servers leave zero values out (Go's `omitempty`), so every field has one. Configurations stay raw
JSON: 20,000 of them are kept and few are looked into.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Meta, Raw, Struct, field

from bot.model.base import Json, JsonObject, parts

T = TypeVar("T")

TRIAL_STREAM = "natsmedic-probe"
"""The one stream that natsmedic makes and deletes itself. A fixed name, so that a permission can allow it and no other."""

Count = Annotated[int, Meta(le=2**63 - 1)]
"""What a server can count. Above it stand unsigned counters that went below zero; `bot.model.assets` reads those as 0."""


class StreamKey(NamedTuple):
    account: str
    stream: str

    def __str__(self) -> str:
        return f"{self.account} > {self.stream}"


class ConsumerKey(NamedTuple):
    account: str
    stream: str
    consumer: str

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.account, self.stream)

    def __str__(self) -> str:
        return f"{self.account} > {self.stream} > {self.consumer}"


class Peer(Struct, frozen=True, gc=False):
    """A follower as the reporting server sees it. `active` is nanoseconds since last contact, `lag` in Raft operations."""

    name: str = ""
    current: bool = False
    offline: bool = False
    active: Count = 0
    lag: Count = 0


class Group(Struct, frozen=True, gc=False, rename={"leader_or_none": "leader", "replicas_or_none": "replicas"}):
    """A Raft group as one server reports it (`cluster` of stream or consumer info). No group at all: standalone."""

    leader_or_none: str | None = None
    replicas_or_none: tuple[Peer, ...] | None = None
    raft_group: str = ""

    @property
    def leader(self) -> str:
        """Empty where the server knows no leader."""
        return self.leader_or_none or ""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Everyone but the leader, in that server's view."""
        return self.replicas_or_none or ()

    @property
    def members(self) -> frozenset[str]:
        return frozenset({p.name for p in self.peers} | ({self.leader} if self.leader else set()))


def group_of(raw: JsonObject) -> Group | None:
    """Return the Raft group of a decoded `cluster` or `meta_cluster` object, what is wrong in it left out; None where there is none."""
    if not raw:
        return None
    peers = tuple(
        Peer(
            str(p.get("name", "")),
            bool(p.get("current")),
            bool(p.get("offline")),
            _count(p, "active"),
            _count(p, "lag"),
        )
        for p in parts(raw, "replicas")
    )
    return Group(str(raw.get("leader") or ""), peers, str(raw.get("raft_group") or ""))


class Sequences(Struct, frozen=True, gc=False):
    """A position: the message's sequence in the stream, and the delivery's in the consumer."""

    consumer_seq: Count = 0
    stream_seq: Count = 0
    last_active: str | None = None


class Origin(Struct, frozen=True, gc=False):
    """A mirror's or source's progress. `active` is nanoseconds since last contact, negative where there was none; `lag` in messages."""

    name: str = ""
    lag: Count = 0
    active: Count = 0


class Stored(Struct, frozen=True, gc=False):
    """What a stream holds on one server."""

    messages: Count = 0
    bytes: Count = 0
    first_seq: Count = 0
    last_seq: Count = 0
    num_subjects: Count = 0
    num_deleted: Count = 0
    consumer_count: Count = 0
    """Consumers that live on this server; those with one replica elsewhere do not count."""
    first_ts: str = ""
    """When the first message was stored, RFC 3339; replicas agree on it, so it tells two histories of one stream apart."""


class Declared(Struct, frozen=True, gc=False):
    """What every judgement of a group needs of a configuration."""

    num_replicas: int = 0
    durable_name: str = ""
    complaint: str = field(default="", name="-complaint")
    """Why this is not what the configuration says; empty where it is."""


_DECLARED = msgspec.json.Decoder(Declared)


class Limits(Struct, frozen=True, gc=False):
    """How much a stream may hold; 0 or less is no limit."""

    max_msgs: int = 0
    max_bytes: int = 0
    max_consumers: int = 0


_LIMITS = msgspec.json.Decoder(Limits)


class _Subjects(Struct, frozen=True, gc=False):
    subjects: tuple[str, ...] | None = None


_SUBJECTS = msgspec.json.Decoder(_Subjects)


class NamedRaftGroup(Struct, frozen=True, gc=False):
    name: str = ""
    raft_group: str = ""


class PriorityGroup(Struct, frozen=True, gc=False):
    group: str = ""
    pinned_client_id: str | None = None
    pinned_ts: str | None = None
    """When it was pinned, RFC 3339."""


class ConsumerState(
    Struct,
    frozen=True,
    gc=False,
    rename={"group": "cluster", "raw_config": "config", "floor": "ack_floor", "priority_states": "priority_groups"},
):
    """A consumer as one server sees it; sequences are this server's own numbers."""

    name: str
    created: str = ""
    raw_config: Raw = Raw(b"")
    group: Group | None = None
    delivered: Sequences = Sequences()
    floor: Sequences = Sequences()
    num_ack_pending: Count = 0
    num_redelivered: Count = 0
    num_waiting: Count = 0
    num_pending: Count = 0
    paused: bool = False
    push_bound: bool = False
    priority_states: tuple[PriorityGroup, ...] | None = None
    server: str = field(default="", name="-server")
    """Who reports it."""
    raft_group: str = field(default="", name="-raft_group")
    """From the stream's `consumer_raft_groups`; a server without a Raft node knows it from the assignment."""

    @property
    def config(self) -> JsonObject:
        """The whole configuration, decoded anew each time."""
        return _object(self.raw_config)

    @property
    def declared(self) -> Declared:
        """The part of the configuration that is asked for most, decoded anew each time; defaults and a complaint where it is not what it must be."""
        return declared_in(self.raw_config)

    @property
    def delivered_stream_seq(self) -> int:
        return self.delivered.stream_seq

    @property
    def delivered_consumer_seq(self) -> int:
        return self.delivered.consumer_seq

    @property
    def floor_stream_seq(self) -> int:
        return self.floor.stream_seq

    @property
    def floor_consumer_seq(self) -> int:
        return self.floor.consumer_seq


class StreamState(
    Struct,
    frozen=True,
    gc=False,
    rename={
        "group": "cluster",
        "raw_config": "config",
        "stored": "state",
        "consumers_or_none": "consumer_detail",
        "raft_group": "stream_raft_group",
        "raft_groups_or_none": "consumer_raft_groups",
        "sources_or_none": "sources",
    },
):
    """A stream as one server sees it."""

    name: str
    created: str = ""
    raw_config: Raw = Raw(b"")
    group: Group | None = None
    stored: Stored = Stored()
    mirror: Origin | None = None
    sources_or_none: tuple[Origin, ...] | None = None
    raft_group: str = ""
    raft_groups_or_none: tuple[NamedRaftGroup, ...] | None = None
    consumers_or_none: tuple[ConsumerState, ...] | None = None
    server: str = field(default="", name="-server")
    """Who reports it."""
    declared: Declared = field(default=Declared(), name="-declared")
    """The part of the configuration that is asked for most; defaults and a complaint where it is not what it must be."""

    @property
    def config(self) -> JsonObject:
        """The whole configuration, decoded anew each time."""
        return _object(self.raw_config)

    @property
    def limits(self) -> Limits | None:
        """The limits of the configuration, decoded anew each time; None where they are not what they must be."""
        return _part_of(self.raw_config, _LIMITS)

    @property
    def subjects(self) -> tuple[str, ...]:
        """What it stores, decoded anew each time; nothing where that is not what it must be."""
        found = _part_of(self.raw_config, _SUBJECTS)
        return (found and found.subjects) or ()

    @property
    def consumers(self) -> tuple[ConsumerState, ...]:
        """Its consumers in that server's view."""
        return self.consumers_or_none or ()

    @property
    def sources(self) -> tuple[Origin, ...]:
        return self.sources_or_none or ()

    @property
    def messages(self) -> int:
        return self.stored.messages

    @property
    def first_seq(self) -> int:
        return self.stored.first_seq

    @property
    def last_seq(self) -> int:
        return self.stored.last_seq

    @property
    def first_ts(self) -> str:
        return self.stored.first_ts

    @property
    def consumer_count(self) -> int:
        return self.stored.consumer_count


class AccountState(Struct, frozen=True, gc=False, rename={"streams_or_none": "stream_detail"}):
    """A JetStream account as one server sees it. With operator mode `id` is a public key, otherwise the name."""

    id: str = ""
    name: str = ""
    streams_or_none: tuple[StreamState, ...] | None = None

    @property
    def streams(self) -> tuple[StreamState, ...]:
        """Its streams in that server's view."""
        return self.streams_or_none or ()


def declared_in(raw: Raw) -> Declared:
    """Return the part of a configuration that is asked for most; defaults and a complaint where it is not what it must be."""
    try:
        return _DECLARED.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Declared(complaint=f"config: {error}" if raw else "no config")


def _part_of(raw: Raw, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decoder.decode(raw) if raw else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _object(raw: Raw) -> JsonObject:
    try:
        decoded: Json = msgspec.json.decode(raw) if raw else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}  # no server writes it; a configuration that is not JSON says nothing
    return cast("JsonObject", decoded) if isinstance(decoded, dict) else {}


def _count(raw: JsonObject, key: str) -> int:
    value: Json = raw.get(key)
    return value if isinstance(value, int) and value < 2**63 else 0
