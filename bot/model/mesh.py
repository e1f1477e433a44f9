"""The route mesh as it is seen: who has how many connections with whom, and how many there must be. Pure.

Sources: reference/nats.md 1.C and 6, reference/drills.md 2. ROUTEZ shows one row per connection: `remote_name`, `remote_id`, and `account` where the
connection belongs to a pinned account. It does not show which slot of the pool a connection fills.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import combinations

from bot.model.base import Json, JsonObject, part, parts
from bot.model.groups import latest
from bot.model.mesh_pool import FIRST_POOLING, Expected, Side, Version, expected
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot

_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Link:
    """The connections that one server shows with another."""

    slots: int = 0
    pinned: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    rows: tuple[JsonObject, ...] = ()

    @property
    def count(self) -> int:
        """All connections."""
        return len(self.rows)

    @property
    def pending(self) -> list[int]:
        """Bytes that wait on each connection, where that can be read."""
        return [size for row in self.rows if (size := whole(row.get("pending_size", 0))) is not None]

    @property
    def trips(self) -> list[float]:
        """Round-trip time of each connection in seconds, where that can be read."""
        return [trip for row in self.rows if (trip := seconds(row.get("rtt", "0s"))) is not None]

    @property
    def pooled(self) -> bool:
        """True where only pooling explains what is there."""
        return self.slots > 1 or bool(self.pinned)


@dataclass(frozen=True, slots=True)
class Member:
    """One server, as far as it is known. None stands for *not known*."""

    name: str
    id: str = ""
    version: Version | None = None
    version_text: str = ""
    cluster: str = ""
    pool_size: int | None = None
    age: float | None = None
    """Seconds since its start."""
    routes: tuple[str, ...] | None = None
    """Configured route addresses, without credentials, each once."""
    address: str | None = None
    """`host:port` it accepts routes on; None also where it listens on all interfaces."""
    system_account: str | None = ""
    bridged: bool = False
    """True where it has gateways or leaf nodes, over which servers of other clusters may be seen."""
    max_pending: int | None = None
    links: Mapping[str, Link] | None = None
    complaints: tuple[str, ...] = ()
    """Why something is not known."""

    @property
    def side(self) -> Side | None:
        """What it says about its pool; None where that is not known. Servers before 2.10 have none to name."""
        if self.version is None:
            return None
        if self.version < FIRST_POOLING:
            return Side(self.version, -1)
        # The system account is pinned, so it counts among what a pair must have.
        if self.pool_size is None or self.system_account is None:
            return None
        return Side(self.version, self.pool_size)


@dataclass(frozen=True)
class Mesh:
    """The servers of one cluster and what they show of each other."""

    name: str
    members: Mapping[str, Member]
    foreign: Mapping[str, Member] = field(default_factory=dict[str, Member])
    """Servers that answered and name another cluster."""

    @cached_property
    def alive(self) -> tuple[str, ...]:
        """Servers that answered ROUTEZ, or that one which did has a route with."""
        return tuple(n for n, m in self.members.items() if m.links is not None or any(self.views_of(n)))

    def views_of(self, name: str) -> Iterator[Link]:
        """Yield what others show of this server, where it is anything."""
        for other in self.members.values():
            link = (other.links or {}).get(name)
            if link and other.name != name:
                yield link

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """All pairs of servers that live."""
        return tuple(Pair(self, self.members[a], self.members[b]) for a, b in combinations(sorted(self.alive), 2))

    @cached_property
    def islands(self) -> tuple[tuple[str, ...], ...]:
        """Servers that reach each other by any number of hops, the largest group first."""
        groups: list[set[str]] = []
        for name in self.alive:
            near = {name} | {p.other(name) for p in self.pairs if name in p.names and p.linked}
            touched = [g for g in groups if g & near]
            groups = [g for g in groups if not g & near] + [near.union(*touched)]
        return tuple(sorted((tuple(sorted(g)) for g in groups), key=lambda g: (-len(g), g)))

    def pinned(self, name: str) -> frozenset[str]:
        """Return the accounts that have a connection of their own with this server somewhere, and its system account."""
        member = self.members[name]
        own = [link.pinned for link in (member.links or {}).values()]
        system = {member.system_account} if member.system_account else set[str]()
        return frozenset(system.union(*own, *(link.pinned for link in self.views_of(name))))

    def side(self, name: str, local: Side | None) -> Side | None:
        """Return what a server says of its pool. One that did not tell but is seen to pool counts as `local` does."""
        return self.members[name].side or (local if any(link.pooled for link in self.views_of(name)) else None)


@dataclass(frozen=True)
class Pair:
    """Two servers that live, and the connections between them as each shows them."""

    mesh: Mesh
    one: Member
    two: Member

    @property
    def names(self) -> tuple[str, str]:
        """Both names in order."""
        return self.one.name, self.two.name

    def other(self, name: str) -> str:
        """Return the end that is not `name`."""
        return self.two.name if name == self.one.name else self.one.name

    @cached_property
    def views(self) -> tuple[Link | None, Link | None]:
        """What each end shows of the other; None where it did not tell."""
        return tuple(  # pyright: ignore[reportReturnType] - two by construction
            None if a.links is None else a.links.get(b.name, Link())
            for a, b in ((self.one, self.two), (self.two, self.one))
        )

    @property
    def seen(self) -> tuple[Link, ...]:
        """The views that are known."""
        return tuple(v for v in self.views if v is not None)

    @property
    def linked(self) -> bool:
        """True where any end shows a connection."""
        return any(v.count for v in self.seen)

    @property
    def missing(self) -> bool:
        """True where no connection is there, whoever tells."""
        return bool(self.seen) and not self.linked

    @property
    def lopsided(self) -> bool:
        """True where the ends show different connections."""
        first, second = self.views
        return first is not None and second is not None and (first.slots, first.pinned) != (second.slots, second.pinned)

    @cached_property
    def expected(self) -> Expected | None:
        """How many connections there must be; None where an end did not say how it pools."""
        one = self.mesh.side(self.one.name, self.two.side)
        two = self.mesh.side(self.two.name, self.one.side)
        if one is None or two is None:
            return None
        return expected(one, two, self.mesh.pinned(self.one.name) & self.mesh.pinned(self.two.name))

    @property
    def slots(self) -> int:
        """Connections of the pool that both ends agree on."""
        return min(v.slots for v in self.seen)

    @property
    def unpinned(self) -> frozenset[str]:
        """Pinned accounts that lack their connection."""
        wanted = self.expected.pinned if self.expected else frozenset[str]()
        return frozenset(a for a in wanted if any(a not in v.pinned for v in self.seen))

    @property
    def same_version(self) -> bool:
        """False where both versions are known and differ, as during a roll."""
        return None in (self.one.version, self.two.version) or self.one.version == self.two.version

    @property
    def whole(self) -> bool | None:
        """Whether both ends show every connection that there must be; None where that is not known."""
        if self.missing:
            return False
        if self.expected is None or None in self.views:
            return None
        return not (self.expected.refused or self.lopsided or self.unpinned) and self.slots >= self.expected.slots

    def younger_than(self, seconds: float) -> Member | None:
        """Return the end that started less than so many seconds ago."""
        return next((m for m in (self.one, self.two) if m.age is not None and m.age < seconds), None)


def read_mesh(snapshot: Snapshot) -> Mesh:
    """Return the mesh of the snapshot's cluster: the cluster name that most servers have."""
    return snapshot.once("mesh", lambda: _mesh(snapshot))


def _mesh(snapshot: Snapshot) -> Mesh:
    identities = {s.name: s for s in snapshot.servers}
    members = [_member(snapshot, name) for name in sorted(snapshot.expected | identities.keys())]
    votes = [m.cluster for m in members if m.cluster]
    cluster = max(sorted(set(votes)), key=votes.count, default="")
    foreign = {m.name: m for m in members if m.cluster not in {"", cluster}}
    return Mesh(cluster, {m.name: m for m in members if m.name not in foreign}, foreign)


def split_address(address: str) -> tuple[str, str]:
    """Return host and port of a route address; the port is empty where there is none."""
    host, found, port = address.rpartition(":")
    return (host, port) if found and port.isdigit() else (address, "")


def shared_name(mesh: Mesh) -> str | None:
    """Return the one host name with port that all lists consist of: a headless service, or the name of one seed. None for an IP address."""
    configured = {url for m in mesh.members.values() for url in m.routes or ()}
    if len(configured) != 1:
        return None
    address = configured.pop()
    try:
        ipaddress.ip_address(split_address(address)[0].strip("[]"))
    except ValueError:
        return address
    return None


def wait(young: Member | None) -> str:
    """Return the end of a sentence about a server that may still be finding the others; nothing where there is none."""
    return f"; {young.name} started {young.age:.0f} s ago and may still be finding the others: wait" if young else ""


def meta_leaders(snapshot: Snapshot, servers: Iterable[str]) -> frozenset[str]:
    """Return the meta leaders that these servers name."""
    named = (part(latest(snapshot, s, Endpoint.JSZ) or {}, "meta_cluster").get("leader") for s in servers)
    return frozenset(leader for leader in named if isinstance(leader, str) and leader)


def seconds(text: object) -> float | None:
    """Return the seconds of a Go duration such as `1.5ms` or `1m2s`; None where it is none."""
    if not isinstance(text, str) or not (found := _DURATION.findall(text)) or "".join(a + b for a, b in found) != text:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in found)


def whole(value: object) -> int | None:
    """Return a whole number; None for anything else, yes and no too."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _member(snapshot: Snapshot, name: str) -> Member:
    identity = next((s for s in snapshot.servers if s.name == name), None)
    varz = latest(snapshot, name, Endpoint.VARZ)
    text = identity.version if identity else ""
    version = _VERSION.match(text)
    raw = part(varz or {}, "cluster")
    cluster = _text(raw.get("name")) or (identity.cluster if identity else "")
    links, complaints = _links(snapshot, name)
    numbers = (int(version[1]), int(version[2]), int(version[3])) if version else None
    size = whole(raw.get("pool_size"))
    if varz is None:
        complaints.append(_why(snapshot, name, Endpoint.VARZ))
    elif numbers is None:
        complaints.append(f"its version {text!r} can't be read")
    elif numbers >= FIRST_POOLING and size is None:
        complaints.append("VARZ has no number in cluster.pool_size")
    routes = _strings(raw.get("urls")) if varz is not None and isinstance(varz.get("cluster", raw), dict) else None
    system: Json = (varz or {}).get("system_account", "")
    if varz is not None:
        complaints += ["VARZ has no list of texts in cluster.urls"] if routes is None else []
        complaints += [] if isinstance(system, str) else ["VARZ has no text in system_account"]
    return Member(
        name=name,
        id=identity.id if identity else "",
        version=numbers,
        version_text=text,
        cluster=cluster,
        pool_size=size,
        age=_age(varz or {}),
        routes=routes,
        address=_address(raw),
        system_account=system if isinstance(system, str) else None,
        bridged=bool(_text(part(varz or {}, "gateway").get("name")) or whole((varz or {}).get("leafnodes"))),
        max_pending=whole((varz or {}).get("max_pending")),
        links=links,
        complaints=tuple(complaints),
    )


def _links(snapshot: Snapshot, name: str) -> tuple[Mapping[str, Link] | None, list[str]]:
    """The connections of ROUTEZ by remote server; none at all where a row can't be read, for a miscount would accuse somebody."""
    data = latest(snapshot, name, Endpoint.ROUTEZ)
    if data is None:
        return None, [_why(snapshot, name, Endpoint.ROUTEZ)]
    listed: Json = data.get("routes")
    rows = parts(data, "routes")
    if listed is not None and (not isinstance(listed, list) or len(rows) != len(listed)):  # pyright: ignore[reportUnknownArgumentType]
        return None, ["ROUTEZ has no list of objects in routes"]
    count = data.get("num_routes")
    if not isinstance(count, int) or count != len(rows):
        return None, [f"ROUTEZ says num_routes {count!r} and lists {len(rows)}"[:200]]
    by_id = {s.id: s.name for s in snapshot.servers if s.id}
    found: dict[str, list[JsonObject]] = {}
    for row in rows:
        account = row.get("account")
        remote = by_id.get(_text(row.get("remote_id"))) or _text(row.get("remote_name"))
        if not remote or not (account is None or isinstance(account, str)):
            return None, ["a ROUTEZ row has no readable remote_id, remote_name or account"]
        found.setdefault(remote, []).append(row)
    return {remote: _link(own) for remote, own in found.items()}, []


def _link(rows: list[JsonObject]) -> Link:
    pinned = frozenset(_text(row.get("account")) for row in rows) - {""}
    slots = sum(1 for row in rows if not row.get("account"))
    return Link(slots, pinned, frozenset(_text(row.get("remote_id")) for row in rows) - {""}, tuple(rows))


def _why(snapshot: Snapshot, server: str, endpoint: Endpoint) -> str:
    sample = snapshot.sample(server, endpoint)
    unknown = sample.unknown if sample else None
    return f"{endpoint}: {unknown.reason.value}, {unknown.detail}" if unknown else f"{endpoint} was not read"


def _age(varz: JsonObject) -> float | None:
    try:
        start, now = (datetime.fromisoformat(_text(varz.get(key))) for key in ("start", "now"))
        return (now - start).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None  # TypeError: one moment with, one without a time zone


def _address(cluster: JsonObject) -> str | None:
    host, port = _text(cluster.get("addr")), whole(cluster.get("cluster_port"))
    return f"{host}:{port}" if host and host not in {"0.0.0.0", "::", "[::]"} and port else None  # noqa: S104 - compared, not bound


def _strings(value: Json) -> tuple[str, ...] | None:
    if value is None:
        return ()
    if not isinstance(value, list):
        return None
    words = [word.rpartition("@")[2] for word in value if isinstance(word, str)]  # pyright: ignore[reportUnknownVariableType]
    return tuple(dict.fromkeys(words)) if len(words) == len(value) else None  # pyright: ignore[reportUnknownArgumentType]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
