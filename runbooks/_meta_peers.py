"""Whom the meta leader hears: the counterpart of `nats server check meta` with a sense for time (reference/nats.md 2.2). Pure.

Only the leader's own list counts: before 2.15 nobody else has one, and from 2.15 on the followers' lists call each other not current (seen on 2.15.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject, part
from bot.model.groups import latest, meta_standing
from bot.runbook import Thresholds
from runbooks._audit_versions import uptime
from runbooks._audit_views import Audit, Facts, on, read, seconds_between
from runbooks._meta_views import LAG, LEAST_READINGS, SETTLE, SLACK, YOUNG

PEERS = Audit("META_PEERS", Layer.META)

SEEN = "seen"
"""Threshold: seconds since the leader last heard from a member."""

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
    leader = meta_standing(snapshot).leader
    clustered = any(part(jsz, "meta_cluster") for jsz in facts.answers.values())
    if leader is None or not clustered:
        return PEERS.result(snapshot, [], [facts], "There is no meta leader to ask.")
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
    snapshot: Snapshot, leader: str, name: str, lists: list[dict[str, Heard]], thresholds: Thresholds
) -> Finding | None:
    now = lists[-1][name]
    if now.offline:
        return None
    evidence: JsonObject = {"leader": leader, "active": now.active, "lag": now.lag, "current": now.current}
    if now.active > thresholds[SEEN]:
        answers = latest(snapshot, name, Endpoint.JSZ) is not None
        text = (
            f"Meta leader {leader} last heard from {name} {now.active:.1f} s ago, and its connections are still open: "
        )
        text += (
            f"{name} answers natsmedic, so look at the routes between the two."
            if answers
            else f"{name} is frozen (paused, out of CPU, or waiting for its disk)."
        )
        evidence["frozen"] = not answers
        return PEERS.finding(on(snapshot, name), Severity.CRITICAL, text, evidence, cause=True)
    lags = [listing[name].lag for listing in lists if name in listing]
    sick = [not h.current or h.lag > thresholds[LAG] for h in (listing[name] for listing in lists if name in listing)]
    if not sick[-1]:
        return None
    state = "not current" if not now.current else "behind"
    text = f"Meta leader {leader} counts {name} as {state}: {now.lag} entries of its log are not there"
    shrinks = len(lags) > 1 and lags[-1] < lags[0]
    lasts = all(sick) and len(sick) >= LEAST_READINGS and not shrinks
    span = seconds_between(snapshot, leader, Endpoint.JSZ)
    if lasts and span >= (LEAST_READINGS - 1) * thresholds[SETTLE] * SLACK and not _young(snapshot, name, thresholds):
        text += f", {lags[0]} were not {span:.1f} s before: it receives nothing."
        return PEERS.finding(on(snapshot, name), Severity.CRITICAL, text, evidence, cause=True)
    text += (
        f", after {lags[0]} {span:.1f} s before: it catches up, wait."
        if shrinks
        else "; look again before anything is done."
    )
    return PEERS.finding(on(snapshot, name), Severity.WARNING, text, evidence)


def _young(snapshot: Snapshot, server: str, thresholds: Thresholds) -> bool:
    varz = read(snapshot, Endpoint.VARZ)
    up = uptime(varz, server) if server in varz.answers else None
    return up is not None and up.total_seconds() < thresholds[YOUNG]
