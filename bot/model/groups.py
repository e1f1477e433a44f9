"""Who leads a Raft group, who belongs to it, and whether it has quorum: judged by its members, never by a single leader's name.

A server without a Raft node reports itself as the leader of a group it does not share (reference/drills.md 3.3), and a lone survivor goes on
reporting itself as leader after quorum is gone (reference/nats.md 1.E). So a leader counts only if a majority of the group's members names it, in
each member's own view. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bot.model.base import Json, JsonObject, digest, part, parts
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot, names
from bot.model.states import ConsumerKey, ConsumerState, Declared, Group, Peer, StreamKey, StreamState, group_of

Groups = Mapping[str, Group | None]
"""One Raft group as each server sees it, by server name; None is a server outside a cluster, which leads what it has."""

LOST_QUORUM_NS = 10_000_000_000
"""Raft's own lost-quorum interval: a leader that has not heard from a peer for 10 s counts it out (reference/nats.md 1.0)."""

META_GROUP = "_meta_"
"""Name of the meta group in RAFTZ, below the system account."""

_SERVER_METADATA = "_nats."
"""Prefix of metadata keys that the server itself writes and changes with its version (reference/nats.md 1.E.1)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a group stands. `leader` is None where no majority agrees; `problem` then says what was seen."""

    replicas: int
    """How many members the group must have."""
    leader: str | None
    members: frozenset[str]
    """As the majority's leader sees them."""
    voters: frozenset[str]
    """Servers whose own view names `leader`."""
    claimants: frozenset[str]
    """Servers that report themselves as leader."""
    lagging: Mapping[str, str]
    """Members that the leader does not count as current, and why. A busy group's members lag for moments."""
    lost: frozenset[str]
    """Lagging members that the leader has not heard from within `LOST_QUORUM_NS`, or never."""
    problem: str

    @property
    def majority(self) -> int:
        """Members that must agree."""
        return self.replicas // 2 + 1

    @property
    def current(self) -> int:
        """Members that are up to date, the leader among them."""
        return len(self.members) - len(self.lagging) if self.leader else 0

    @property
    def quorum(self) -> bool:
        """True where a majority of the members can commit."""
        return self.leader is not None and len(self.members - self.lost) >= self.majority

    @property
    def whole(self) -> bool:
        """True where every member that the configuration asks for is there, current, and of one opinion."""
        return self.leader is not None and not self.lagging and not self.ghosts and len(self.members) == self.replicas

    @property
    def counted(self) -> str:
        """One clause that counts the members and names those that are not current."""
        detail = ", ".join(f"{name} {why}" for name, why in sorted(self.lagging.items()))
        return f"{self.current} of {self.replicas} members current" + (f" ({detail})" if detail else "")

    @property
    def ghosts(self) -> frozenset[str]:
        """Servers that lead alone what the majority says another leads."""
        return self.claimants - {self.leader} if self.leader else frozenset()


def groups(views: Mapping[str, StreamState] | Mapping[str, ConsumerState]) -> Groups:
    """Return the Raft group of a stream or consumer as each server sees it."""
    return {server: view.group for server, view in views.items()}


def standing(views: Groups, replicas: int) -> Standing:
    """Judge a group by its members' own views. `replicas` is what the configuration asks for."""
    named = {server: group.leader if group else server for server, group in views.items()}
    claimants = frozenset(server for server, leader in named.items() if leader == server)
    size = max(replicas, 1)
    votes = {leader: frozenset(s for s, name in named.items() if name == leader) for leader in named.values() if leader}
    winners = [leader for leader, voters in votes.items() if len(voters) >= size // 2 + 1]
    none = Standing(size, None, frozenset(), frozenset(), claimants, {}, frozenset(), "")
    if len(winners) != 1:
        return _problem(none, f"no leader that {size // 2 + 1} of {size} members agree on: {_said(named)}")
    leader = winners[0]
    if leader not in views:
        return _problem(none, f"{leader} is named as leader and could not be read itself: {_said(named)}")
    own = views[leader]
    peers = own.peers if own else ()
    lagging = {p.name: _why_lagging(p) for p in peers if p.offline or not p.current}
    lost = frozenset(p.name for p in peers if p.name in lagging and (p.offline or not 0 < p.active <= LOST_QUORUM_NS))
    members = frozenset({p.name for p in peers} | {leader})
    return Standing(size, leader, members, votes[leader], claimants, lagging, lost, "")


def plainly_whole(views: Mapping[str, StreamState] | Mapping[str, ConsumerState], replicas: int) -> bool:
    """True where `standing` can find nothing: each of `replicas` servers reports the group, all name one of them, and it counts all others as current.

    A cheap test for the many groups of a healthy cluster, so that the costly one is for the few that are not plain. False proves nothing.
    """
    if len(views) != max(replicas, 1):
        return False
    if len(views) == 1:
        [(server, only)] = views.items()
        return leads_alone(server, only.group)
    leader = None
    for view in views.values():
        named = view.group.leader_or_none if view.group else None
        if not named or (leader is not None and named != leader):
            return False
        leader = named
    own = views.get(leader) if leader else None
    peers = own.group.peers if own and own.group else ()
    return len(peers) + 1 == len(views) and all(p.current and not p.offline and p.name in views for p in peers)


def leads_alone(server: str, group: Group | None) -> bool:
    """True where this server says of itself that it leads, and that nobody follows."""
    return group is None or (group.leader_or_none == server and not group.replicas_or_none)


def meta_standing(snapshot: Snapshot, at: int | None = None) -> Standing:
    """Judge the meta group as last read, or as read in round `at`. Only its leader lists the replicas before 2.15 (reference/nats.md 1.A)."""
    raw = {
        name: meta
        for name in sorted(snapshot.expected | names(snapshot.servers))
        if (meta := _meta(snapshot, name, at)) is not None
    }
    size = max((_int(meta.get("cluster_size")) for meta in raw.values()), default=0)
    return standing({name: group_of(meta) for name, meta in raw.items()}, size or len(snapshot.expected) or 1)


def stream_replicas(views: Mapping[str, StreamState]) -> int:
    """Return what the stream's configuration asks for; where views differ, the number that most servers report, then the larger. As many as the largest
    view shows where no configuration can be read.
    """
    seen = [max(view.declared.num_replicas, 1) for view in views.values() if not view.declared.complaint]
    if not seen:
        return _shown(views)
    return seen[0] if len(set(seen)) == 1 else max(seen, key=lambda n: (seen.count(n), n))


def declared_replicas(state: ConsumerState, of_stream: int) -> int:
    """Return how many members a consumer must have, by the configuration in this view: `consumer_replicas` of it."""
    return _members(state.declared, of_stream)


def replicas_of(views: Mapping[str, ConsumerState], of_stream: int) -> int:
    """Return how many members a consumer must have, by the first configuration that can be read; as many as the largest view shows where none can."""
    declared = next((one for view in views.values() if not (one := view.declared).complaint), None)
    return _shown(views) if declared is None else _members(declared, of_stream)


def unreadable_configs(views: Mapping[str, StreamState] | Mapping[str, ConsumerState]) -> list[str]:
    """Return what is wrong with the configuration in each view, empty where nothing is."""
    told = ((server, view.declared.complaint) for server, view in views.items())
    return [f"on {server}: {complaint}" for server, complaint in told if complaint]


def consumer_replicas(config: JsonObject, of_stream: int) -> int:
    """Return how many members a consumer must have: its own number, or the stream's; an ephemeral has one (reference/nats.md 1.E)."""
    return _members(Declared(_int(config.get("num_replicas")), str(config.get("durable_name") or "")), of_stream)


def _shown(views: Mapping[str, StreamState] | Mapping[str, ConsumerState]) -> int:
    return max((len(view.group.members) for view in views.values() if view.group), default=1)


def _members(declared: Declared, of_stream: int) -> int:
    return declared.num_replicas or (of_stream if declared.durable_name else 1)


@dataclass(frozen=True, slots=True)
class HaAssets:
    """Raft groups on a server. `limit` 0 means none is set; None means the server does not report it (2.10)."""

    count: int | None
    limit: int | None

    def refuses(self, more: int) -> bool:
        """True where the last of `more` further groups would be refused: the server compares with *more than* before it creates each one."""
        return bool(self.limit) and self.count is not None and self.count + more - 1 > (self.limit or 0)


def ha_assets(snapshot: Snapshot, server: str) -> HaAssets:
    """Return what JSZ says (`ha_assets`, `limits.max_ha_assets`; an empty `limits` is a server without a limit), VARZ where JSZ is not there."""
    if data := latest(snapshot, server, Endpoint.JSZ):
        return _ha(data.get("ha_assets"), data.get("limits"))
    jetstream = part(snapshot.data(server, Endpoint.VARZ) or {}, "jetstream")
    return _ha(part(jetstream, "stats").get("ha_assets"), jetstream.get("limits"))


def latest(snapshot: Snapshot, server: str, endpoint: Endpoint) -> JsonObject | None:
    """Return what the server answered in the last round; None where it did not answer then."""
    return snapshot.once("latest answers", lambda: _latest(snapshot)).get((server, endpoint))


def _latest(snapshot: Snapshot) -> dict[tuple[str, Endpoint], JsonObject | None]:
    """The last round's; where two servers have one name, the first that answered."""
    found: dict[tuple[str, Endpoint], JsonObject | None] = {}
    for sample in sorted(snapshot.samples, key=lambda sample: sample.round, reverse=True):
        found.setdefault((sample.server, sample.endpoint), sample.data)
    return found


def raft_node(snapshot: Snapshot, server: str, account: str, raft_group: str) -> bool | None:
    """Return whether RAFTZ of this server lists the group; None where RAFTZ is not known for this account."""
    nodes: Json = (latest(snapshot, server, Endpoint.RAFTZ) or {}).get(account)
    return raft_group in nodes if isinstance(nodes, dict) and raft_group else None


def raft_term(snapshot: Snapshot, servers: Iterable[str], account: str, raft_group: str) -> int:
    """Return the highest Raft term that RAFTZ of these servers shows for the group; every election raises it. 0 where none is known."""
    seen = [part(latest(snapshot, s, Endpoint.RAFTZ) or {}, account) for s in servers]
    return max((_int(part(nodes, raft_group).get("term")) for nodes in seen), default=0)


def meta_group(raftz: JsonObject) -> tuple[str, JsonObject] | None:
    """Return the system account, as RAFTZ names it, and its group `_meta_`; None where no account has one."""
    for account in raftz:
        if group := part(part(raftz, account), META_GROUP):
            return account, group
    return None


def system_account(snapshot: Snapshot) -> str:
    """Return the name or id of the system account in RAFTZ; `$SYS`, the default, where no RAFTZ shows it."""
    answers = (latest(snapshot, s.name, Endpoint.RAFTZ) for s in snapshot.servers)
    return next((found[0] for raw in answers if raw and (found := meta_group(raw))), "$SYS")


def health_error(snapshot: Snapshot, server: str, key: ConsumerKey) -> str:
    """Return what HEALTHZ of this server says against the consumer, empty where it says nothing (or could not be read)."""
    return health_errors(snapshot, server).get(key, "")


def health_errors(snapshot: Snapshot, server: str) -> dict[StreamKey | ConsumerKey, str]:
    """Return what HEALTHZ of this server says against streams and consumers; empty where it says nothing (or could not be read)."""
    found: dict[StreamKey | ConsumerKey, str] = {}
    for error in parts(latest(snapshot, server, Endpoint.HEALTHZ) or {}, "errors"):
        account, stream = str(error.get("account") or ""), str(error.get("stream") or "")
        consumer = error.get("consumer")
        key = ConsumerKey(account, stream, str(consumer)) if consumer else StreamKey(account, stream)
        found.setdefault(key, str(error.get("error") or "not healthy"))
    return found


def without_server_metadata(config: JsonObject) -> JsonObject:
    """Return a stream or consumer configuration without what the server itself writes into its metadata."""
    kept = {k: v for k, v in part(config, "metadata").items() if not k.startswith(_SERVER_METADATA)}
    rest = {k: v for k, v in config.items() if k != "metadata"}
    return rest | ({"metadata": kept} if kept else {})


def config_digest(config: JsonObject) -> str:
    """Return the digest of a configuration as people wrote it."""
    return digest(without_server_metadata(config))


def raft_group_of(views: Mapping[str, ConsumerState]) -> str:
    """Return the name of a consumer's Raft group; a server without a node knows it from the assignment only."""
    return next(
        (v.raft_group or (v.group.raft_group if v.group else "") for v in views.values() if v.raft_group or v.group), ""
    )


def _meta(snapshot: Snapshot, server: str, at: int | None) -> JsonObject | None:
    """`meta_cluster` as last read or of round `at`, empty outside a cluster, None where the server did not answer."""
    data = latest(snapshot, server, Endpoint.JSZ) if at is None else snapshot.data(server, Endpoint.JSZ, at)
    return None if data is None else part(data, "meta_cluster")


def _problem(none: Standing, problem: str) -> Standing:
    return replace(none, problem=problem)


def _said(named: Mapping[str, str]) -> str:
    return (
        ", ".join(f"{server} names {leader or 'nobody'}" for server, leader in sorted(named.items()))
        or "no server reports it"
    )


def _why_lagging(peer: Peer) -> str:
    if peer.offline:
        return "offline"
    return f"not current, last heard {peer.active / 1e9:.1f} s ago" if peer.active else "not current"


def _ha(count: object, limits: object) -> HaAssets:
    fields: JsonObject | None = limits if isinstance(limits, dict) else None  # pyright: ignore[reportUnknownVariableType]
    return HaAssets(
        _int(count) if count is not None else None, None if fields is None else _int(fields.get("max_ha_assets"))
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
