"""How many more servers the meta group can lose. Pure.

The cluster audit says that a member is offline and whom servers name as meta leader; here the question is what may still fail, and whether anybody decides
at all: without a leader every probe that asks for one fails rightly, and must be left alone (reference/nats.md 1.A, decision rule).
"""

from __future__ import annotations

from collections import Counter

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject, part
from bot.model.groups import Standing, latest, meta_standing
from bot.model.states import group_of
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, known, read, why_not
from runbooks._consumer_views import SILENT, listed

MARGIN = Audit("META_MARGIN", Layer.META, "META_001")

META_002 = "META_002"
"""What `nats audit` calls a meta group without one leader."""

AWAY = "away"
"""Threshold: seconds after which a member that is away is no restart any more."""

AFTERLIFE = "A survivor names itself leader for 10 to 20 s after its quorum is gone, so one healthy reading right after a loss proves nothing."
"""Reference/nats.md 1.0, below the table of probes."""


def meta_has_margin(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The meta group has a leader, and decides also when one more server fails."""
    facts = read(snapshot, Endpoint.JSZ)
    group = meta_standing(snapshot)
    where = Subject(cluster=snapshot.cluster)
    clusters = [facts.part(server, jsz, "meta_cluster") for server, jsz in facts.answers.items()]
    if not any(clusters):
        return MARGIN.result(snapshot, [], [facts], "No server is in a meta group.")
    if group.leader is None and (named := _named(snapshot, group.majority)):
        text = f"A majority names {named} as meta leader, and {named} could not be read, so nobody knows which members it hears."
        return [MARGIN.finding(where, Severity.UNKNOWN, text, {"leader": named})]
    if group.leader is None:
        finding = MARGIN.finding(where, *_leaderless(snapshot, group), {"quorum": False}, cause=True)
        return [finding.model_copy(update={"counterpart": META_002})]
    if not group.quorum:
        text = f"The meta group has no quorum: {group.counted}. Nothing can be created, moved or deleted until members come back."
        return [MARGIN.finding(where, Severity.CRITICAL, text, {"quorum": False, "leader": group.leader}, cause=True)]
    absent = group.lost | _astray(snapshot, group)
    margin = len(group.members - absent) - group.majority
    evidence: JsonObject = {"quorum": True, "leader": group.leader, "absent": sorted(absent), "may fail": margin}
    found: list[Finding] = []
    if absent:
        they = "it is" if len(absent) == 1 else "they are"
        text = f"Missing from the meta group of {group.replicas}: {listed(absent)}; {_may_fail(margin)}. "
        text += f"If {they} being restarted, wait. {AFTERLIFE}"
        gone = margin <= 0 and _away(snapshot, group.leader, absent) > thresholds[AWAY]
        found.append(MARGIN.finding(where, Severity.CRITICAL if gone else Severity.WARNING, text, evidence, cause=True))
    elif group.replicas > 1 and margin <= 0:
        text = f"The meta group has {group.replicas} members and stops as soon as one of them is away; three can spare one."
        found.append(MARGIN.finding(where, Severity.WARNING, text, evidence))
    healthy = f"{group.leader} leads the meta group, {group.counted}; {_may_fail(margin)}."
    return MARGIN.result(snapshot, found, [facts], healthy)


def _named(snapshot: Snapshot, majority: int) -> str:
    """The server that so many name as meta leader in the last reading; empty where there is none."""
    told = (part(latest(snapshot, s, Endpoint.JSZ) or {}, "meta_cluster").get("leader") for s in known(snapshot))
    votes = Counter(leader for leader in told if isinstance(leader, str) and leader)
    return next((leader for leader, count in votes.most_common(1) if count >= majority), "")


def _leaderless(snapshot: Snapshot, group: Standing) -> tuple[Severity, str]:
    """How bad it is that no majority names a leader: an election takes seconds, and servers that may not be asked could name one."""
    rounds = _rounds(snapshot)
    lasts = len(rounds) > 1 and all(meta_standing(snapshot, n).leader is None for n in rounds)
    silent = (s for s in known(snapshot) if latest(snapshot, s, Endpoint.JSZ) is None)
    unasked = [s for s in silent if why_not(snapshot, s, Endpoint.JSZ)[0] not in SILENT]
    text = f"The meta group has {group.problem}. Every probe that asks for the meta leader fails, and rightly so: leave the probes alone."
    if unasked:
        return Severity.UNKNOWN, f"{text} {listed(unasked)} could not be asked and may know more."
    if lasts:
        return Severity.CRITICAL, f"{text} Seen in all {len(rounds)} readings."
    return Severity.WARNING, f"{text} Seen in the last reading only: an election takes 4 to 9 s, look again."


def _astray(snapshot: Snapshot, group: Standing) -> frozenset[str]:
    """Members that answer and never named the majority's leader: they follow another one, or none, or run without JetStream."""
    named: dict[str, list[object]] = {}
    for number in _rounds(snapshot):
        for server in group.members:
            jsz = snapshot.data(server, Endpoint.JSZ, number)
            if jsz is not None:
                named.setdefault(server, []).append(part(jsz, "meta_cluster").get("leader"))
    return frozenset(server for server, leaders in named.items() if group.leader not in leaders)


def _away(snapshot: Snapshot, leader: str, absent: frozenset[str]) -> float:
    """Seconds since the leader last heard from the one that is away longest; 0 where it never heard from it."""
    listing = group_of(part(latest(snapshot, leader, Endpoint.JSZ) or {}, "meta_cluster"))
    return max((p.active / 1e9 for p in (listing.peers if listing else ()) if p.name in absent), default=0.0)


def _rounds(snapshot: Snapshot) -> list[int]:
    """The rounds in which any server answered JSZ."""
    return sorted({s.round for s in snapshot.samples if s.endpoint is Endpoint.JSZ and s.data is not None})


def _may_fail(margin: int) -> str:
    more = {0: "no further server", 1: "1 further server"}.get(margin, f"{margin} further servers")
    return f"{more} may fail"
