"""What stands still while one server is away: the question before every restart of a server or pod (reference/nats.md 7, pod delete). Pure.

Members that are not current count as absent too: one that still catches up can't be relied on to commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from bot.model.groups import (
    Groups,
    Standing,
    groups,
    meta_standing,
    replicas_of,
    standing,
    stream_replicas,
)
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot, names
from bot.model.states import ConsumerState, StreamState

META: Final = "the meta group"


@dataclass(frozen=True, slots=True)
class Absence:
    """What the cluster lacks without `server`, as far as it could be read."""

    server: str
    stalled: Mapping[str, str]
    """Raft groups that would not keep quorum, by name, and how many members each would have. A group of two never keeps it."""
    alone: tuple[str, ...]
    """Streams and consumers without replicas that live on this server: away as long as it is."""
    fleeting: tuple[str, ...]
    """Those of them that are kept in memory: their messages, or their positions, are gone once it stops."""
    unknown: tuple[str, ...]
    """Servers that did not tell what they hold, and why."""

    @property
    def safe(self) -> bool:
        """True where every Raft group is known to keep quorum."""
        return not self.stalled and not self.unknown


def absence(snapshot: Snapshot, server: str) -> Absence:
    """Return what would stand still without the server. Its own silence hides nothing but assets that live there alone."""
    stalled: dict[str, str] = {}
    alone: list[str] = []
    fleeting: list[str] = []
    for name, views, replicas, in_memory in _groups(snapshot):
        found = standing(views, replicas)
        if replicas <= 1:
            if server in found.members or (found.leader is None and set(views) == {server}):
                alone.append(name)
                fleeting += [name] if in_memory() else []
        elif why := _stalls(found, views, server):
            stalled[name] = why
    meta = meta_standing(snapshot)
    # Without a leader nobody says who its members are.
    member = meta.leader is None or server in meta.members
    if meta.replicas > 1 and (why := _stalls(meta, {}, server, member=member)):
        stalled = {META: why} | stalled
    return Absence(server, stalled, tuple(sorted(alone)), tuple(sorted(fleeting)), _silent(snapshot, server))


@dataclass(frozen=True, slots=True)
class RaftGroup:
    """A Raft group with more than one member, as last read."""

    name: str
    standing: Standing
    servers: frozenset[str]
    """Every server that belongs to it by anybody's word, known also while it has no leader."""


def raft_groups(snapshot: Snapshot) -> Iterator[RaftGroup]:
    """Return all Raft groups, the meta group first."""
    meta = meta_standing(snapshot)
    if meta.replicas > 1:
        # Without a leader nobody says who its members are.
        members = meta.members if meta.leader else snapshot.expected | names(snapshot.servers)
        yield RaftGroup(META, meta, members)
    for name, views, replicas, _ in _groups(snapshot):
        if replicas > 1:
            yield RaftGroup(name, standing(views, replicas), _seen(views))


def _groups(snapshot: Snapshot) -> Iterator[tuple[str, Groups, int, Callable[[], bool]]]:
    """Every stream's and consumer's name, views and replicas, as last read, and what tells whether it is kept in memory: that decodes a whole
    configuration, and few are asked for it.
    """
    at = max((n for n in range(snapshot.rounds) if snapshot.streams(n)), default=0)
    streams = snapshot.streams(at)
    for key, views in streams.items():
        yield f"stream {key}", groups(views), stream_replicas(views), partial(_in_memory, views)
    for key, found in snapshot.consumers(at).items():
        holders = streams.get(key.stream_key, {})
        in_memory = partial(_in_memory, holders, found)
        yield f"consumer {key}", groups(found), replicas_of(found, stream_replicas(holders)), in_memory


def _in_memory(holders: Mapping[str, StreamState], consumer: Mapping[str, ConsumerState] | None = None) -> bool:
    """A stream whose storage is memory, and a consumer of one or with `mem_storage`."""
    in_memory = any(view.config.get("storage") == "memory" for view in holders.values())
    return in_memory or any(view.config.get("mem_storage") is True for view in (consumer or {}).values())


def _stalls(found: Standing, views: Groups, server: str, *, member: bool = False) -> str:
    """Why the group would have no quorum without the server; empty where it keeps it, or does not have the server as a member."""
    if not (member or server in found.members or server in _seen(views)):
        return ""
    if found.leader is None:
        return "it has no leader now"
    left = found.members - found.lagging.keys() - {server}
    if len(left) >= found.majority:
        return ""
    sick = ", ".join(f"{name} {why}" for name, why in sorted(found.lagging.items()) if name != server)
    return f"{len(left)} of {found.replicas} members would be left" + (f" ({sick})" if sick else "")


def _seen(views: Groups) -> frozenset[str]:
    return frozenset[str]().union(*(group.members for group in views.values() if group), views)


def _silent(snapshot: Snapshot, server: str) -> tuple[str, ...]:
    told = {s.server for s in snapshot.samples if s.endpoint is Endpoint.JSZ and s.data is not None}
    silent = sorted((snapshot.expected | names(snapshot.servers)) - told - {server})
    return tuple(f"{name}: {_why(snapshot, name)}" for name in silent)


def _why(snapshot: Snapshot, server: str) -> str:
    sample = snapshot.sample(server, Endpoint.JSZ)
    unknown = sample.unknown if sample else None
    return f"{unknown.reason.value}, {unknown.detail}" if unknown else "it was not asked"
