"""The checks of the route-mesh runbook. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject
from bot.model.mesh import Member, Mesh, Pair, meta_leaders, read_mesh, shared_name, wait
from bot.model.mesh_pool import accounts_by_slot
from bot.runbook import Thresholds
from runbooks._consumer_views import listed, or_ok

YOUNG, RTT, PENDING = "young", "rtt", "pending"
"""Names of the thresholds."""

MOST_NAMED = 10
"""Accounts of a slot that a sentence names; the evidence has all."""

ISSUE_8454 = "nats-server #8454, fixed in 2.15.0"
"""Leaves a slot of the pool unfilled after a reconnect although the configuration is right (reference/nats.md 1.C)."""

FIXED_8454 = (2, 15, 0)

SHARED_NAME = "Behind one name each connection is dialled to a random server"
GOSSIP = "The rest they learn by gossip only, and that is dialled once"
"""Why a short list breaks a mesh (reference/nats.md 1.C, mechanism)."""

ENOUGH_FOR_GOSSIP = 3
"""From so many servers on a list may leave out a server that the other end does not list either."""


def members_tell(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """A server that does not tell leaves its own view out; the others' views of it still count."""
    check, mesh = "MESH_MEMBERS", read_mesh(snapshot)
    found: list[Finding] = []
    for member in mesh.members.values():
        if not member.complaints:
            continue
        links = sum(link.count for link in mesh.views_of(member.name))
        others = (
            f"the other servers show {links} connections with it"
            if links
            else "no server has a route with it: it is down or shut out"
        )
        text = f"What server {member.name} sees of the mesh is not known ({'; '.join(member.complaints)}); {others}."
        evidence: JsonObject = {"complaints": list(member.complaints), "connections seen by others": links}
        found.append(_finding(check, Layer.REACHABILITY, _at(snapshot, member.name), Severity.UNKNOWN, text, evidence))
    if not mesh.members:
        text = "No server is known, so nothing can be said about the mesh."
        found.append(_finding(check, Layer.REACHABILITY, _at(snapshot), Severity.UNKNOWN, text))
    return or_ok(snapshot, check, Layer.REACHABILITY, found, f"{len(mesh.members)} servers told what they see.")


def one_cluster_name(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Servers that dial the same addresses and name different clusters refuse each other's routes."""
    check, mesh = "MESH_CLUSTER_NAME", read_mesh(snapshot)
    ours = {url for m in mesh.members.values() for url in m.routes or ()} | {
        m.address for m in mesh.members.values() if m.address
    }
    bridged = any(m.bridged for m in (*mesh.members.values(), *mesh.foreign.values()))
    found: list[Finding] = []
    for member in mesh.foreign.values():
        shared = sorted(ours & set(member.routes or ()))
        if bridged and not shared:
            continue  # Another cluster, seen over a gateway or a leaf node.
        text = (
            f"Server {member.name} calls its cluster {member.cluster!r}, {listed(mesh.members)} call theirs {mesh.name!r}: they refuse each other's routes"
            + (f" although it dials the same addresses ({listed(shared)})." if shared else ".")
        )
        evidence: JsonObject = {"name": member.cluster, "expected": mesh.name, "shared routes": shared}
        found.append(
            _finding(check, Layer.ROUTES, _at(snapshot, member.name), Severity.CRITICAL, text, evidence, cause=True)
        )
    nameless = [m.name for m in mesh.members.values() if not m.cluster]
    if nameless and not found:
        text = f"The cluster name of {listed(nameless)} is not known."
        found.append(_finding(check, Layer.ROUTES, _at(snapshot), Severity.UNKNOWN, text))
    return or_ok(snapshot, check, Layer.ROUTES, found, f"All servers of the mesh name cluster {mesh.name!r}.")


def unique_server_names(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Two servers of one name: each hides the other, and JetStream takes them for one."""
    check, mesh = "MESH_SERVER_NAMES", read_mesh(snapshot)
    ids: dict[str, set[str]] = {m.name: {m.id} - {""} for m in mesh.members.values()}
    odd: set[str] = set()
    for member in mesh.members.values():
        for link in (member.links or {}).values():
            for row in link.rows:
                name, known = row.get("remote_name", ""), row.get("remote_id", "")
                if not isinstance(name, str) or not isinstance(known, str):
                    odd.add(member.name)
                elif name and known:
                    ids.setdefault(name, set()).add(known)
    found: list[Finding] = []
    for name, known in sorted(ids.items()):
        if len(known) < 2:
            continue
        age = mesh.members[name].age if name in mesh.members else None
        young = age is not None and age < thresholds[YOUNG]
        text = f"{len(known)} servers call themselves {name} (ids {listed(known)})"
        text += (
            f"; {name} started {age:.0f} s ago, so one may be its former self: wait."
            if young
            else ": server names must be unique in a cluster."
        )
        level = Severity.WARNING if young else Severity.CRITICAL
        found.append(
            _finding(check, Layer.ROUTES, _at(snapshot, name), level, text, {"ids": sorted(known)}, cause=not young)
        )
    if odd:
        found += _blind(snapshot, check, mesh, odd, " a readable remote_name and remote_id on every route")
    return or_ok(snapshot, check, Layer.ROUTES, found or _blind(snapshot, check, mesh), "No server name is used twice.")


def no_islands(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Groups of servers without a route between them are clusters of their own, each with a meta leader."""
    check, mesh = "MESH_ISLANDS", read_mesh(snapshot)
    if len(mesh.islands) < 2:
        leaders = meta_leaders(snapshot, mesh.alive)
        said = f", meta leader {listed(leaders)}" if leaders else ""
        blind = [] if mesh.alive else _blind(snapshot, check, mesh)
        return or_ok(snapshot, check, Layer.ROUTES, blind, f"{len(mesh.alive)} servers form one mesh{said}.")
    groups = [f"{{{', '.join(group)}}} with {_leader(snapshot, group)}" for group in mesh.islands]
    young = _young(mesh, mesh.alive, thresholds)
    text = f"The cluster is split into {len(groups)} islands without a route between them: {'; '.join(groups)}{wait(young)}."
    evidence: JsonObject = {
        "islands": [list(group) for group in mesh.islands],
        "meta leaders": [sorted(meta_leaders(snapshot, group)) for group in mesh.islands],
        "pairs without a route": [list(pair.names) for pair in mesh.pairs if pair.missing],
    }
    level = Severity.WARNING if young else Severity.CRITICAL
    # One shared name is then the cause, and MESH_LISTS says so.
    cause = not young and not shared_name(mesh)
    return [_finding(check, Layer.ROUTES, _at(snapshot), level, text, evidence, cause=cause)]


def lists_are_whole(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Who lists too few addresses finds the rest by gossip only, and such a route is dialled once: what breaks stays broken."""
    check, mesh = "MESH_LISTS", read_mesh(snapshot)
    servers = len(mesh.members)
    lists = {m.name: m.routes for m in mesh.members.values() if m.routes is not None}
    short = {name: urls for name, urls in lists.items() if servers >= ENOUGH_FOR_GOSSIP and len(urls) < servers - 1}
    # A server that lists nobody is found by those that list everybody.
    if not [name for name in mesh.members if name not in lists or name in short][1:]:
        short = {}
    if not short:
        unread = (
            []
            if len(lists) == servers and servers
            else _blind(snapshot, check, mesh, mesh.members.keys() - lists.keys())
        )
        return or_ok(snapshot, check, Layer.ROUTES, unread, f"The {servers} servers list each other as routes.")
    blamed = short.keys() | (mesh.members.keys() - lists.keys())
    hurt = [
        p
        for p in mesh.pairs
        if blamed.issuperset(p.names) and _short(p) and _severity(p, thresholds) is Severity.CRITICAL
    ]
    same = {urls: listed(name for name, own in short.items() if own == urls) for urls in short.values()}
    said = "; ".join(f"{named}: {_some(urls) or 'none'}" for urls, named in same.items())
    text = f"The cluster has {servers} servers, but their configured routes do not name all of them ({said})"
    if hurt:
        text += (
            ". "
            + (SHARED_NAME if shared_name(mesh) else GOSSIP)
            + f": {_named(hurt)} did not find each other completely."
        )
    else:
        text += ". The mesh depends on gossip: a route that breaks for a moment may never come back."
    evidence: JsonObject = {
        "routes": {name: list(urls) for name, urls in short.items()},
        "incomplete": [list(p.names) for p in hurt],
    }
    level = Severity.CRITICAL if hurt else Severity.WARNING
    return [_finding(check, Layer.ROUTES, _at(snapshot), level, text, evidence, cause=bool(hurt))]


def pairs_are_linked(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Messages go one hop only: two servers without a route lose all that the one's clients send the other's."""
    check, mesh = "MESH_PAIRS", read_mesh(snapshot)
    found: list[Finding] = []
    for pair in (p for p in mesh.pairs if p.missing):
        text = f"Servers {pair.one.name} and {pair.two.name} have no route between them"
        text += f" (told by {pair.one.name if pair.views[0] else pair.two.name} alone)" if len(pair.seen) == 1 else ""
        if pair.expected and pair.expected.refused:
            sizes = f"{pair.one.pool_size} and {pair.two.pool_size}"
            text += f": their pool_size is {sizes}, and versions before 2.11.2 refuse that"
        text += ": every message and request from clients of the one to clients of the other is lost, of every account"
        found.append(_pair(snapshot, check, pair, _severity(pair, thresholds), text, thresholds))
    blind = _unseen(snapshot, check, mesh, [p for p in mesh.pairs if not p.seen])
    return or_ok(snapshot, check, Layer.ROUTES, found + blind, f"All {len(mesh.pairs)} pairs of servers have a route.")


def slots_are_filled(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A pair whose pool has a hole loses the messages of the accounts on that slot, and of no others."""
    check, mesh = "MESH_SLOTS", read_mesh(snapshot)
    found: list[Finding] = []
    for pair in (p for p in mesh.pairs if p.linked and p.expected is not None):
        if not _short(pair) or pair.expected is None:
            continue
        wanted, text = pair.expected, f"Servers {pair.one.name} and {pair.two.name} have "
        by_slot = accounts_by_slot(snapshot, wanted.slots, wanted.pinned)
        holes = wanted.slots - pair.slots
        if holes > 0:
            text += f"{pair.slots} of {wanted.slots} connections of their pool: {_hit(by_slot, holes)}"
        if pair.unpinned:
            text += "; they have " if holes > 0 else ""
            text += f"no connection for pinned account {listed(pair.unpinned)}: its messages between them are lost"
        listing = all(m.routes is not None and len(m.routes) >= len(mesh.members) - 1 for m in (pair.one, pair.two))
        old = listing and any(m.version is not None and m.version < FIXED_8454 for m in (pair.one, pair.two))
        level = _severity(pair, thresholds)
        if level is Severity.CRITICAL and not pair.same_version:
            level = Severity.WARNING
            text += f" (they run {pair.one.version_text} and {pair.two.version_text}: finish the roll, then look again)"
        evidence: JsonObject = {
            "accounts by slot": {str(slot): names for slot, names in by_slot.items()},
            "missing slots": max(holes, 0),
        }
        found.append(_pair(snapshot, check, pair, level, text, thresholds, evidence, ISSUE_8454 if old else None))
    blind = _unseen(snapshot, check, mesh, [p for p in mesh.pairs if (p.linked and p.expected is None) or not p.seen])
    linked = [p for p in mesh.pairs if p.linked and p.expected]
    count = sum(p.expected.slots + len(p.expected.pinned) for p in linked if p.expected)
    text = f"All {count} connections that the pools and pinned accounts of {len(linked)} pairs with a route need are there."
    return or_ok(snapshot, check, Layer.ROUTES, found + blind, text)


def views_agree(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A connection that only one end shows is half open, or was opened or closed at this moment."""
    check, mesh = "MESH_VIEWS", read_mesh(snapshot)
    found: list[Finding] = []
    for pair in (p for p in mesh.pairs if p.lopsided):
        counts = [v.count for v in pair.seen]
        text = f"{pair.one.name} shows {counts[0]} connections with {pair.two.name}, and {pair.two.name} shows {counts[1]} with {pair.one.name}"
        text += ": one end has not noticed that a connection is gone, or it changed at this moment"
        found.append(_pair(snapshot, check, pair, Severity.WARNING, text, thresholds))
    blind = _unseen(snapshot, check, mesh, [p for p in mesh.pairs if len(p.seen) < 2])
    return or_ok(
        snapshot,
        check,
        Layer.ROUTES,
        found + blind,
        f"Both ends of all {len(mesh.pairs)} pairs show the same connections.",
    )


def routes_are_fast(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A route that can't get rid of its data delays every account on it, and is closed as a slow consumer in the end."""
    check, mesh = "MESH_SPEED", read_mesh(snapshot)
    found: list[Finding] = []
    odd: set[tuple[str, str]] = set()
    for member in mesh.members.values():
        for remote, link in sorted((member.links or {}).items()):
            pending, trips = link.pending, link.trips
            seen = {"pending_size": len(pending) == link.count, "rtt": len(trips) == link.count}
            seen["max_pending"] = bool(member.max_pending)
            odd |= {(member.name, field) for field, readable in seen.items() if not readable}
            room = (member.max_pending or 0) * thresholds[PENDING]
            said = (
                [f"{max(pending)} bytes wait to be sent (max_pending is {member.max_pending})"]
                if room and max(pending, default=0) >= room
                else []
            )
            said += (
                [f"a round trip takes {max(trips) * 1000:.0f} ms"] if max(trips, default=0.0) >= thresholds[RTT] else []
            )
            if said:
                text = f"The route from {member.name} to {remote} is slow: {listed(said)}."
                found.append(
                    _finding(
                        check, Layer.ROUTES, _at(snapshot, member.name), Severity.WARNING, text, {"remote": remote}
                    )
                )
    fields = listed({field for _, field in odd})
    blind = _blind(snapshot, check, mesh, {name for name, _ in odd}, f" a readable {fields}") if odd else []
    blind += [] if mesh.alive else _blind(snapshot, check, mesh)
    return or_ok(snapshot, check, Layer.ROUTES, found + blind, "No route has much waiting or a long round trip.")


def _short(pair: Pair) -> bool:
    """Whether connections are missing between two servers."""
    if pair.missing or not pair.linked or pair.expected is None:
        return pair.missing
    return pair.slots < pair.expected.slots or bool(pair.unpinned)


def _severity(pair: Pair, thresholds: Thresholds) -> Severity:
    """A mesh needs a second or two after a start, and a retry after one more (reference/drills.md 1)."""
    return Severity.WARNING if pair.younger_than(thresholds[YOUNG]) else Severity.CRITICAL


def _hit(by_slot: dict[int, list[str]], holes: int) -> str:
    """Which accounts lose messages. ROUTEZ does not show which slot a connection fills, so it is certain only where all are missing."""
    if holes >= len(by_slot):
        accounts = [account for names in by_slot.values() for account in names]
        return (
            f"accounts {_some(accounts)} lose messages between them"
            if accounts
            else "all accounts lose messages between them"
        )
    slots = "; ".join(
        f"slot {slot}: {_some(names) or 'none known'}" for slot, names in sorted(by_slot.items())[:MOST_NAMED]
    )
    these = "1 of these slots" if holes == 1 else f"{holes} of these slots"
    return f"the accounts of {these} lose messages between them ({slots}; ROUTEZ does not show which)"


def _some(accounts: Sequence[str]) -> str:
    more = len(accounts) - MOST_NAMED
    return ", ".join(accounts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _pair(
    snapshot: Snapshot,
    check: str,
    pair: Pair,
    level: Severity,
    text: str,
    thresholds: Thresholds,
    evidence: JsonObject | None = None,
    issue: str | None = None,
) -> Finding:
    young = pair.younger_than(thresholds[YOUNG])
    facts: JsonObject = {
        "pair": list(pair.names),
        "connections": {m.name: v.count if v else None for m, v in zip((pair.one, pair.two), pair.views, strict=True)},
        "expected": pair.expected.slots + len(pair.expected.pinned) if pair.expected else None,
        "missing pinned accounts": sorted(pair.unpinned) if pair.seen else [],
    }
    text += f"{wait(young)}."
    return _finding(check, Layer.ROUTES, _at(snapshot), level, text, facts | (evidence or {}), issue=issue)


def _unseen(snapshot: Snapshot, check: str, mesh: Mesh, pairs: Sequence[Pair]) -> list[Finding]:
    """One finding for the pairs that can't be judged."""
    if pairs:
        text = f"{len(pairs)} pairs of servers could not be judged: {_named(pairs)}."
        return [
            _finding(
                check, Layer.ROUTES, _at(snapshot), Severity.UNKNOWN, text, {"pairs": [list(p.names) for p in pairs]}
            )
        ]
    return [] if mesh.alive else _blind(snapshot, check, mesh)


def _blind(
    snapshot: Snapshot, check: str, mesh: Mesh, servers: set[str] | None = None, what: str = ""
) -> list[Finding]:
    """One finding for what could not be read; none where everybody told."""
    dumb = sorted(servers if servers is not None else {m.name for m in mesh.members.values() if m.links is None})
    if not dumb and mesh.members:
        return []
    text = f"Not known: {listed(dumb) or 'every server'} did not tell{what}."
    return [_finding(check, Layer.ROUTES, _at(snapshot), Severity.UNKNOWN, text, {"servers": dumb})]


def _named(pairs: Sequence[Pair]) -> str:
    named = [f"{a} with {b}" for a, b in sorted(p.names for p in pairs)]
    return listed(named[:MOST_NAMED]) + (f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else "")


def _leader(snapshot: Snapshot, servers: Sequence[str]) -> str:
    leaders = meta_leaders(snapshot, servers)
    return f"meta leader {listed(leaders)}" if leaders else "no meta leader"


def _young(mesh: Mesh, servers: Sequence[str], thresholds: Thresholds) -> Member | None:
    members = (mesh.members[name] for name in servers)
    return next((m for m in members if m.age is not None and m.age < thresholds[YOUNG]), None)


def _at(snapshot: Snapshot, server: str | None = None) -> Subject:
    return Subject(cluster=snapshot.cluster, server=server)


def _finding(
    check: str,
    layer: Layer,
    where: Subject,
    level: Severity,
    sentence: str,
    evidence: JsonObject | None = None,
    *,
    cause: bool = False,
    issue: str | None = None,
) -> Finding:
    return Finding(
        check=check,
        layer=layer,
        subject=where,
        severity=level,
        sentence=sentence,
        evidence=evidence or {},
        cause=cause,
        issue=issue,
    )
