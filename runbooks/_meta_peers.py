"""Whom the meta leader hears: the counterpart of `nats server check meta` with a sense for time (reference/nats.md 2.2). Pure.

Only the leader's own list counts: before 2.15 nobody else has one, and from 2.15 on the followers' lists call each other not current (seen on 2.15.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject, part, parts
from bot.model.groups import latest, meta_standing
from bot.runbook import Thresholds
from runbooks._audit_versions import uptime
from runbooks._audit_views import Audit, Facts, on, read, seconds_between
from runbooks._meta_views import LAG, LEAST_READINGS, SETTLE, SLACK, YOUNG, entries

PEERS = Audit("META_PEERS", Layer.META)

SEEN = "seen"
"""Threshold: seconds since the leader last heard from a member."""

ROUTE_MESH = "ROUTE_MESH"
"""Code of the runbook that examines routes."""

EXPECTED = "peers"
"""Threshold: how many members the meta group must have; 0 does not ask."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A member on the leader's list in one reading."""

    current: bool
    offline: bool
    active: float
    """Seconds since the leader heard from it; 0 where it never did."""
    lag: int


def members_are_heard(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The meta leader counts every member as current and has heard from it; an offline one is the cluster audit's and META_MARGIN's."""
    facts = read(snapshot, Endpoint.JSZ).running()
    clusters = [facts.part(server, jsz, "meta_cluster") for server, jsz in facts.answers.items()]
    if not any(clusters):
        return PEERS.result(snapshot, [], [facts], "No server is in a meta group.")
    group = meta_standing(snapshot)
    if (leader := group.leader) is None:
        facts.complain("the meta leader", group.problem)
        return PEERS.result(snapshot, [], [facts], "")
    if leader not in facts.answers:
        facts.complain(leader, "it leads the meta group and says that its JetStream is off")
        return PEERS.result(snapshot, [], [facts], "")
    lists = [
        _listed(facts, leader, jsz)
        for n in range(snapshot.rounds)
        if (jsz := snapshot.data(leader, Endpoint.JSZ, n)) is not None
    ]
    found = [f for name in sorted(lists[-1]) if (f := _member(snapshot, leader, name, lists, thresholds)) is not None]
    size = facts.number(leader, part(facts.answers[leader], "meta_cluster"), "cluster_size")
    if thresholds[EXPECTED] and size is not None and size != thresholds[EXPECTED]:
        text = f"The meta group has {size:g} members, {thresholds[EXPECTED]:g} are expected."
        evidence: JsonObject = {"cluster_size": size, "expected": thresholds[EXPECTED]}
        found.append(PEERS.finding(Subject(cluster=snapshot.cluster), Severity.CRITICAL, text, evidence))
    quiet = max((h.active for h in lists[-1].values()), default=0.0)
    healthy = f"Meta leader {leader} has heard from its {len(lists[-1])} followers within {quiet:.1f} s."
    return PEERS.result(snapshot, found, [facts], healthy)


def _listed(facts: Facts, leader: str, jsz: JsonObject) -> dict[str, Heard]:
    found: dict[str, Heard] = {}
    for row in facts.rows(leader, facts.part(leader, jsz, "meta_cluster"), "replicas"):
        name = facts.text(leader, row, "name")
        active, lag = facts.number(leader, row, "active", 0), facts.number(leader, row, "lag", 0)
        current, offline = facts.flag(leader, row, "current"), facts.flag(leader, row, "offline")
        if name is not None and active is not None and lag is not None and current is not None and offline is not None:
            found[name] = Heard(current, offline, active / 1e9, int(lag))
    return found


def _member(
    snapshot: Snapshot, leader: str, name: str, lists: Sequence[Mapping[str, Heard]], thresholds: Thresholds
) -> Finding | None:
    now = lists[-1][name]
    if now.offline:
        return None
    if now.active > thresholds[SEEN]:
        return _silent(snapshot, leader, name, now)
    seen = [listing[name] for listing in lists if name in listing]
    return _behind(snapshot, leader, name, seen, thresholds)


def _silent(snapshot: Snapshot, leader: str, name: str, now: Heard) -> Finding | None:
    """A member the leader does not hear. One that answers nobody and has no connection any more is away, which META_MARGIN counts."""
    linked = _linked(snapshot, leader, name)
    answers = latest(snapshot, name, Endpoint.JSZ) is not None
    evidence: JsonObject = {"leader": leader, "active": now.active, "answers": answers, "linked": linked}
    text = f"Meta leader {leader} last heard from {name} {now.active:.1f} s ago"
    if answers:
        text += (
            f", and natsmedic hears it: look at the routes between the two (natsmedic diagnose --runbook {ROUTE_MESH})."
        )
    elif linked:
        text += ", its connections are open, and it answers nobody: it is frozen (stopped, out of CPU, or waiting for its disk)."
    elif linked is None:
        text += ", and it answers nobody; whether its connections are open is not known, so it is away or frozen."
        return PEERS.finding(on(snapshot, name), Severity.WARNING, text, evidence)
    else:
        return None
    return PEERS.finding(on(snapshot, name), Severity.CRITICAL, text, evidence | {"frozen": not answers}, cause=True)


def _linked(snapshot: Snapshot, leader: str, name: str) -> bool | None:
    """Whether the leader still has a route to the member; None where it does not tell."""
    routez = latest(snapshot, leader, Endpoint.ROUTEZ)
    return None if routez is None else name in {row.get("remote_name") for row in parts(routez, "routes")}


def _behind(
    snapshot: Snapshot, leader: str, name: str, seen: Sequence[Heard], thresholds: Thresholds
) -> Finding | None:
    """A member whose log lacks what the leader has. Each entry under way makes it *not current* for a moment, so one reading of several says nothing."""
    now, then = seen[-1], seen[0]
    if now.current and now.lag <= thresholds[LAG]:
        return None
    if len(seen) > 1 and now.lag <= thresholds[LAG] and any(h.current for h in seen):
        return None
    span = seconds_between(snapshot, leader, Endpoint.JSZ)
    evidence: JsonObject = {"leader": leader, "lag": [h.lag for h in seen], "current": [h.current for h in seen]}
    text = f"Meta leader {leader} counts {name} as {'behind' if now.current else 'not current'}, {entries(now.lag)} of its log not there"
    settled = len(seen) >= LEAST_READINGS and span >= (LEAST_READINGS - 1) * thresholds[SETTLE] * SLACK
    if now.lag < then.lag:
        text += f", after {then.lag} {span:.1f} s before: it catches up, wait."
    elif settled and not _young(snapshot, name, thresholds):
        text += f", after {then.lag} {span:.1f} s before: it does not take them."
        return PEERS.finding(on(snapshot, name), Severity.CRITICAL, text, evidence, cause=True)
    else:
        text += "; look again before anything is done."
    return PEERS.finding(on(snapshot, name), Severity.WARNING, text, evidence)


def _young(snapshot: Snapshot, server: str, thresholds: Thresholds) -> bool:
    varz = read(snapshot, Endpoint.VARZ)
    up = uptime(varz, server) if server in varz.answers else None
    return up is not None and up.total_seconds() < thresholds[YOUNG]
