"""Whether the replicas of streams and consumers hold the same: what the hidden `nats server stream-check` and `consumer-check` compare. Pure.

Those commands compare one reading, in which every busy stream differs from itself. Here replicas count as different where each of them stood still
between two readings. Two more differences are no fault and are not reported: a leader moves its own consumer past messages that are gone while its
followers keep the old position, and a consumer that has delivered nothing yet stands wherever its configuration says, even ahead of the stream
(both observed on 2.10.26, 2.11.11 and 2.15.1). Consumers per replica, which stream-check prints, differ wherever consumers have one replica.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from bot.model import (
    ConsumerKey,
    ConsumerState,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Severity,
    Snapshot,
    StreamKey,
    Subject,
)
from bot.model.groups import consumer_replicas, groups, standing, stream_replicas, without_server_metadata
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, by_servers, few, of_stream
from runbooks._consumer_glance import glance
from runbooks._consumer_views import how_long, severity
from runbooks._stream_views import Look, Views, count, doubtful, wanted

STREAM_SYNC = Audit("STREAM_SYNC", Layer.STREAMS)
CONSUMER_SYNC = Audit("CONSUMER_SYNC", Layer.CONSUMERS)

DELIVERED_AHEAD, FLOOR_AHEAD = "UNSYNCED:DELIVERED_AHEAD_OF_STREAM_SEQ", "UNSYNCED:ACKFLOOR_AHEAD_OF_STREAM_SEQ"
DELIVERED, FLOOR = "UNSYNCED:DELIVERED", "UNSYNCED:ACK_FLOOR"
"""Statuses of `nats server consumer-check` (nats-io/natscli cli/server_consumer_check.go)."""


class Extent(NamedTuple):
    """What stream-check compares, and the time of the first message, which replicas share."""

    messages: int
    first_seq: int
    last_seq: int
    first_ts: str

    def __str__(self) -> str:
        return f"{self.messages} messages, {self.first_seq} to {self.last_seq}"


class Position(NamedTuple):
    """What consumer-check compares: what was delivered, and up to where everything is acknowledged."""

    delivered: int
    delivered_stream: int
    floor_stream: int

    def __str__(self) -> str:
        return f"delivered {self.delivered_stream}, ack floor {self.floor_stream}"


def stream_replicas_agree(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """The members of a stream that its leader counts as up to date hold the same messages under the same configuration."""
    found: list[Finding] = []
    moving: list[StreamKey] = []
    for key, looks in doubtful(snapshot, focus):
        if fields := _configured_apart(looks[-1].views):
            always = all(_configured_apart(look.views) for look in looks)
            found.append(_config(snapshot, thresholds, key, looks[-1], fields, always=always))
        rounds = [_extents(look) for look in looks]
        if len(set(rounds[-1].values())) < 2:
            continue
        if len(looks) == 1:
            moving.append(key)
        elif all(seen == rounds[-1] for seen in rounds):
            found.append(_differ(snapshot, thresholds, key, looks[-1], rounds[-1]))
    if moving:
        found.append(_only_once(snapshot, STREAM_SYNC, f"{len(moving)} streams", [str(key) for key in moving]))
    return STREAM_SYNC.result(
        snapshot, found, [], f"The replicas of {count(snapshot, focus)} streams hold the same, as far as they rest."
    )


def consumer_replicas_agree(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """The members of a consumer that name one leader stand at the same position, and none is ahead of its stream."""
    last = snapshot.rounds - 1
    everyone = glance(snapshot, last)
    found: list[Finding] = []
    moving: list[ConsumerKey] = []
    asked = frozenset(wanted(snapshot, focus, snapshot.streams(last))) if everyone.apart else ()
    for key in everyone.apart:
        if key.stream_key not in asked or focus.consumer not in {None, key.consumer}:
            continue
        streams, views = snapshot.streams(last)[key.stream_key], snapshot.consumers(last)[key]
        if any(_moved(snapshot.consumers(n).get(key), views) for n in range(last)):
            continue
        positions = _positions(views, streams)
        statuses = _statuses(positions, streams)
        if statuses and snapshot.rounds == 1:
            moving.append(key)
        elif statuses:
            found.append(_position(snapshot, thresholds, key, positions, statuses, streams))
    if moving:
        found.append(
            _only_once(snapshot, CONSUMER_SYNC, f"{len(moving)} consumers", [str(key) for key in sorted(moving)])
        )
    healthy = f"The replicas of {everyone.count} consumers stand at the same position, as far as they rest."
    return CONSUMER_SYNC.result(snapshot, found, [], healthy)


def _extents(look: Look) -> dict[str, Extent]:
    """What the leader holds, and those members that it counts as up to date; of the others STREAM_LAG, STREAM_MEMBERS and STREAM_TIMELINE speak."""
    leader = look.leader
    behind = {peer.name for peer in look.peers if peer.lag or peer.offline}
    return {
        server: Extent(view.messages, view.first_seq, view.last_seq, view.first_ts if view.messages else "")
        for server, view in look.views.items()
        if leader is not None and server not in behind and view.last_seq <= leader.last_seq
    }


def _differ(
    snapshot: Snapshot, thresholds: Thresholds, key: StreamKey, look: Look, extents: Mapping[str, Extent]
) -> Finding:
    level, hint = severity(snapshot, thresholds, always=True), ""
    ages = bool(next(iter(look.views.values())).config.get("max_age"))
    if ages and len({extent.last_seq for extent in extents.values()}) == 1:
        level, hint = Severity.WARNING, " Its messages expire by age, so clocks that differ do this too."
    text = (
        f"The replicas of stream {key} hold different messages while nothing is written: "
        f"{by_servers({server: str(extent) for server, extent in extents.items()})}; {how_long(snapshot, always=True)}.{hint}"
    )
    evidence: JsonObject = {
        "counterpart": "nats server stream-check: UNSYNCED",
        "replicas": {server: extent._asdict() for server, extent in sorted(extents.items())},
    }
    return STREAM_SYNC.finding(of_stream(snapshot, key), level, text, evidence)


def _configured_apart(views: Views) -> dict[str, dict[str, str]]:
    """Return the fields of the configuration in which servers differ. Servers of different versions know different fields, so only common ones count."""
    if all(one.config == other.config for one, other in pairwise(views.values())):
        return {}
    configs = {server: without_server_metadata(view.config) for server, view in views.items() if view.config}
    common = set[str]().union(*configs.values()).intersection(*configs.values()) if configs else set[str]()
    return {
        name: {server: str(config[name]) for server, config in configs.items()}
        for name in sorted(common)
        if any(config[name] != next(iter(configs.values()))[name] for config in configs.values())
    }


def _config(
    snapshot: Snapshot,
    thresholds: Thresholds,
    key: StreamKey,
    look: Look,
    fields: Mapping[str, Mapping[str, str]],
    *,
    always: bool,
) -> Finding:
    level = severity(snapshot, thresholds, always=always)
    said = "; ".join(f"{name} {by_servers(values)}" for name, values in list(fields.items())[:3])
    text = f"The servers run stream {key} with different configurations: {said}; {how_long(snapshot, always=always)}."
    evidence: JsonObject = {
        "fields": {name: dict(values) for name, values in fields.items()},
        "leader": look.group.leader,
    }
    return STREAM_SYNC.finding(of_stream(snapshot, key), level, text, evidence)


def _positions(views: Mapping[str, ConsumerState], streams: Views) -> dict[str, Position]:
    """The positions of those that name the majority's leader (another view is CONSUMER_SPLIT's), moved up to before the first message there is: what
    lies below it is gone, and a leader passes it without telling its followers.
    """
    unread: JsonObject = {}
    config = next((view.config for view in views.values() if view.config), unread)
    voters = standing(groups(views), consumer_replicas(config, stream_replicas(streams))).voters
    return {
        server: Position(
            view.delivered_consumer_seq,
            max(view.delivered_stream_seq, streams[server].first_seq - 1),
            max(view.floor_stream_seq, streams[server].first_seq - 1),
        )
        for server, view in views.items()
        if server in voters and server in streams
    }


def _moved(before: Mapping[str, ConsumerState] | None, now: Mapping[str, ConsumerState]) -> bool:
    """True where a replica stood elsewhere in an earlier reading, or was not there."""
    if before is None or before.keys() != now.keys():
        return True
    return any(
        (was.delivered_consumer_seq, was.delivered_stream_seq, was.floor_stream_seq)
        != (view.delivered_consumer_seq, view.delivered_stream_seq, view.floor_stream_seq)
        for was, view in ((before[server], view) for server, view in now.items())
    )


def _statuses(positions: Mapping[str, Position], streams: Views) -> list[str]:
    """What consumer-check says of these positions."""
    begun = {server: at for server, at in positions.items() if at.delivered}
    statuses = [
        (DELIVERED_AHEAD, any(at.delivered_stream > streams[s].last_seq for s, at in begun.items())),
        (FLOOR_AHEAD, any(at.floor_stream > streams[s].last_seq for s, at in begun.items())),
        (DELIVERED, len({(at.delivered, at.delivered_stream) for at in positions.values()}) > 1),
        (FLOOR, len({at.floor_stream for at in begun.values()}) > 1),
    ]
    return [status for status, seen in statuses if seen]


def _position(
    snapshot: Snapshot,
    thresholds: Thresholds,
    key: ConsumerKey,
    positions: Mapping[str, Position],
    statuses: Sequence[str],
    streams: Views,
) -> Finding:
    said = by_servers({server: str(at) for server, at in positions.items()})
    if DELIVERED_AHEAD in statuses or FLOOR_AHEAD in statuses:
        level = severity(snapshot, thresholds, always=True)
        ends = by_servers({server: str(stream.last_seq) for server, stream in streams.items() if server in positions})
        text = (
            f"Consumer {key} stands ahead of its stream ({said}; the stream ends at {ends}): it delivers nothing until the stream has passed that, "
            "and the stream has lost what it delivered before"
        )
    else:
        level = Severity.WARNING
        text = f"The replicas of consumer {key} stand at different positions while nothing moves: {said}. Another leader repeats or skips messages"
    where = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream, consumer=key.consumer)
    evidence: JsonObject = {
        "counterpart": f"nats server consumer-check: {', '.join(statuses)}",
        "replicas": {server: at._asdict() for server, at in sorted(positions.items())},
    }
    return CONSUMER_SYNC.finding(where, level, f"{text}; {how_long(snapshot, always=True)}.", evidence)


def _only_once(snapshot: Snapshot, audit: Audit, what: str, keys: Sequence[str]) -> Finding:
    """Everything that differs in the one reading there is: busy ones do, so nobody knows."""
    text = f"The replicas of {what} differ in the one reading there is, which busy ones do for moments: whether they agree is unknown ({few(keys)})."
    return audit.finding(Subject(cluster=snapshot.cluster), Severity.UNKNOWN, text, {"count": len(keys)})
