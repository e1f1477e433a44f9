"""Reads raw JSZ answers (`accounts`, `streams`, `consumer`, `config`, `raft` all true) into per-server states.

Field presence, not version, decides how to parse (reference/nats.md 8). Sequences above 2^63 are underflows of the server and read as 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from bot.model.base import JsonObject, part, parts
from bot.model.sample import Sample
from bot.model.states import ConsumerKey, ConsumerState, Group, Peer, StreamKey, StreamState

_UNDERFLOW = 2**63
"""jsz counters of 2.10.25 underflow (reference/nats.md 1.D, EXP e8)."""

Streams = dict[StreamKey, dict[str, StreamState]]
Consumers = dict[ConsumerKey, dict[str, ConsumerState]]


def read_jsz(samples: Iterable[Sample]) -> tuple[Streams, Consumers]:
    """Return every stream's and consumer's state per reporting server."""
    streams: Streams = {}
    consumers: Consumers = {}
    for sample in samples:
        for account in parts(sample.data or {}, "account_details"):
            for detail in parts(account, "stream_detail"):
                key = StreamKey(str(account.get("name", "")), str(detail.get("name", "")))
                streams.setdefault(key, {})[sample.server] = _stream(sample.server, detail)
                groups = {
                    str(g.get("name")): str(g.get("raft_group", "")) for g in parts(detail, "consumer_raft_groups")
                }
                for raw in parts(detail, "consumer_detail"):
                    state = consumer_state(sample.server, raw, groups.get(str(raw.get("name")), ""))
                    consumers.setdefault(ConsumerKey(key.account, key.stream, str(raw.get("name"))), {})[
                        sample.server
                    ] = state
    return streams, consumers


def group(raw: JsonObject) -> Group | None:
    """Return the Raft group of a `cluster` object, or None where there is none."""
    if not raw:
        return None
    peers = tuple(
        Peer(
            name=str(p.get("name", "")),
            current=bool(p.get("current", False)),
            offline=bool(p.get("offline", False)),
            active=_number(p.get("active")),
            lag=_number(p.get("lag")),
        )
        for p in parts(raw, "replicas")
    )
    return Group(leader=str(raw.get("leader") or ""), peers=peers, raft_group=str(raw.get("raft_group") or ""))


def _stream(server: str, raw: JsonObject) -> StreamState:
    return stream_state(server, raw, str(raw.get("stream_raft_group") or ""))


def stream_state(server: str, raw: JsonObject, raft_group: str = "") -> StreamState:
    """Return a stream's state from a JSZ `stream_detail` or a `STREAM.INFO` answer."""
    state = part(raw, "state")
    return StreamState(
        server=server,
        group=group(part(raw, "cluster")),
        created=str(raw.get("created") or ""),
        config=part(raw, "config"),
        messages=_number(state.get("messages")),
        first_seq=_number(state.get("first_seq")),
        last_seq=_number(state.get("last_seq")),
        consumer_count=_number(state.get("consumer_count")),
        raft_group=raft_group,
        first_ts=str(state.get("first_ts") or ""),
    )


def consumer_state(server: str, raw: JsonObject, raft_group: str = "") -> ConsumerState:
    """Return a consumer's state from a JSZ `consumer_detail` or a `CONSUMER.INFO` answer."""
    delivered = part(raw, "delivered")
    floor = part(raw, "ack_floor")
    return ConsumerState(
        server=server,
        group=group(part(raw, "cluster")),
        created=str(raw.get("created") or ""),
        config=part(raw, "config"),
        delivered_stream_seq=_number(delivered.get("stream_seq")),
        delivered_consumer_seq=_number(delivered.get("consumer_seq")),
        floor_stream_seq=_number(floor.get("stream_seq")),
        floor_consumer_seq=_number(floor.get("consumer_seq")),
        num_ack_pending=_number(raw.get("num_ack_pending")),
        num_redelivered=_number(raw.get("num_redelivered")),
        num_waiting=_number(raw.get("num_waiting")),
        num_pending=_number(raw.get("num_pending")),
        paused=bool(raw.get("paused", False)),
        push_bound=bool(raw.get("push_bound", False)),
        raft_group=raft_group,
    )


def _number(value: object) -> int:
    number = value if isinstance(value, int) else 0
    return 0 if number >= _UNDERFLOW else number
