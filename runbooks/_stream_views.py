"""What the checks of stream groups see: each stream round by round, without those that are plainly well. Pure.

Most streams of a large cluster are well, and one glance at their servers' views says so. That glance is taken once per snapshot, for all checks, and
only the other streams are looked at closely.

A copy that is outside of its Raft group has no `stream_raft_group` in JSZ: its server knows no assignment for it, which is so while it still reads
its meta log, and for good after a crash in the middle of a scale-up or after a change from standalone to clustered. 30 s after the meta log is read
the server deletes such copies (`checkForOrphans` in server/jetstream_cluster.go; reference/drills.md 3.2 and 3.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bot.model import Endpoint, Focus, Peer, Snapshot, StreamKey, StreamState, part
from bot.model.groups import Standing, groups, health_errors, latest, leads_alone, standing, stream_replicas
from bot.model.snapshot import names

T = TypeVar("T")

Views = Mapping[str, StreamState]
"""A stream as each server sees it, by server name."""

SEEN_AT_REST_NS = 2_000_000_000
"""Heartbeats come every second; a leader that has not heard from a member for twice as long deserves a closer look (reference/nats.md 1.0)."""

NOTHING: Views = {}


@dataclass(frozen=True, slots=True)
class Look:
    """One stream in one round."""

    views: Views
    """The servers that hold it as members of its Raft group."""
    orphans: Views
    """The servers that hold a copy outside of it."""
    group: Standing

    @property
    def leader(self) -> StreamState | None:
        """The stream as the majority's leader sees it."""
        return self.views.get(self.group.leader or "")

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The other members, as the majority's leader sees them."""
        return self.leader.group.peers if self.leader and self.leader.group else ()

    @property
    def short(self) -> bool:
        """True where the group has fewer members than configured."""
        return self.leader is not None and len(self.group.members) < self.group.replicas

    @property
    def held(self) -> Views:
        """All copies."""
        return {**self.orphans, **self.views}


@dataclass(frozen=True, slots=True)
class Scan:
    """All streams, and those that are not plainly well with one look per round."""

    keys: tuple[StreamKey, ...]
    doubtful: Mapping[StreamKey, tuple[Look, ...]]
    raft_names: bool
    """False where JSZ was asked without Raft groups, so that a copy without one means nothing."""


def scan(snapshot: Snapshot) -> Scan:
    """Return the glance over all streams; it is taken once."""
    return snapshot.once("scan of streams", lambda: _scan(snapshot))


def doubtful(snapshot: Snapshot, focus: Focus) -> Iterator[tuple[StreamKey, tuple[Look, ...]]]:
    """Return the streams in focus that are not plainly well, in order."""
    found = scan(snapshot).doubtful
    for key in wanted(snapshot, focus, sorted(found)):
        yield key, found[key]


def count(snapshot: Snapshot, focus: Focus) -> int:
    """Return how many streams are in focus, well or not."""
    return len(wanted(snapshot, focus, scan(snapshot).keys))


def wanted(snapshot: Snapshot, focus: Focus, keys: Iterable[StreamKey]) -> list[StreamKey]:
    """Return the streams an alert points at. An account label may hold an id where servers report a name, so it only narrows."""
    named = [k for k in keys if focus.stream is None or focus.stream == k.stream]
    known = focus.account is not None and any(k.account == focus.account for k in scan(snapshot).keys)
    return [k for k in named if k.account == focus.account] if known else named


def lasting(looks: Iterable[Look], see: Callable[[Look], Mapping[str, T]]) -> dict[str, tuple[T, bool]]:
    """Return what the last look shows by name, and whether every look showed something under that name."""
    seen = [see(look) for look in looks]
    return {name: (what, all(name in one for one in seen)) for name, what in seen[-1].items()} if seen else {}


def read_in(snapshot: Snapshot, round: int) -> frozenset[str]:  # noqa: A002 - the field's word
    """Return the servers that told in this round what they hold."""
    everyone = snapshot.expected | names(snapshot.servers)
    return frozenset(s for s in everyone if snapshot.data(s, Endpoint.JSZ, round) is not None)


def raft_nodes(snapshot: Snapshot) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return the Raft groups that RAFTZ lists, by server and account; only the servers whose RAFTZ is known."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for server in snapshot.expected | names(snapshot.servers):
        if (data := latest(snapshot, server, Endpoint.RAFTZ)) is not None:
            found[server] = {account: frozenset(part(data, account)) for account in data}
    return found


def stream_health(snapshot: Snapshot) -> Mapping[str, Mapping[StreamKey, str]]:
    """Return what HEALTHZ says against streams, by server."""
    found: dict[str, dict[StreamKey, str]] = {}
    for server in snapshot.expected | names(snapshot.servers):
        errors = health_errors(snapshot, server)
        found[server] = {key: text for key, text in errors.items() if isinstance(key, StreamKey)}
    return found


def _scan(snapshot: Snapshot) -> Scan:
    rounds = [snapshot.streams(n) for n in range(snapshot.rounds)]
    keys = list(dict.fromkeys(key for streams in rounds for key in streams))
    accused = {key for errors in stream_health(snapshot).values() for key in errors}
    odd = [key for key in keys if key in accused or not _well([streams.get(key) for streams in rounds])]
    raft_names = not any(
        _nameless(view) for streams in rounds for key in odd for view in streams.get(key, NOTHING).values()
    )
    looks = {key: tuple(_look(streams.get(key, NOTHING), raft_names=raft_names) for streams in rounds) for key in odd}
    return Scan(tuple(keys), looks, raft_names)


def _nameless(view: StreamState) -> bool:
    """A view that shows members of a Raft group and not its name: the name was not asked for."""
    return view.group is not None and bool(view.group.peers) and not view.raft_group


def _well(rounds: list[Views | None]) -> bool:
    """True for a stream that was plainly well in every round and never went back."""
    last = 0
    for views in rounds:
        if not views or not _plain(views):
            return False
        at = next(iter(views.values())).last_seq
        if at < last:
            return False
        last = at
    return True


def _plain(views: Views) -> bool:
    """True where all servers agree on everything, and the leader hears all members and finds them current."""
    first = next(iter(views.values()))
    if first.group is None:
        return len(views) == 1
    leader = first.group.leader
    if len(views) != first.declared.num_replicas or leader not in views or not first.raft_group:
        return False
    if len(views) == 1:
        return leads_alone(leader, first.group)
    config = bytes(first.raw_config)
    same = (first.last_seq, first.first_seq, first.messages, first.first_ts, first.raft_group)
    for view in views.values():
        if view.group is None or view.group.leader != leader or bytes(view.raw_config) != config:
            return False
        if (view.last_seq, view.first_seq, view.messages, view.first_ts, view.raft_group) != same:
            return False
    own = views[leader].group
    peers = own.peers if own else ()
    return len(peers) == len(views) - 1 and all(
        p.current and not p.offline and not p.lag and p.active <= SEEN_AT_REST_NS for p in peers
    )


def _look(views: Views, *, raft_names: bool) -> Look:
    orphans = {s: v for s, v in views.items() if raft_names and v.group is not None and not v.raft_group}
    members = {s: v for s, v in views.items() if s not in orphans}
    return Look(members, orphans, standing(groups(members), stream_replicas(members)))
