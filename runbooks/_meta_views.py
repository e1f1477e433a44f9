"""What the readiness runbook sees of the meta group: how far each server has applied it, reading by reading. Pure.

Sources: RAFTZ names the group `_meta_` below the system account, with `committed`, `applied` and the Raft ids of itself and of its leader (reference/nats.md
1.A, reference/drills.md 4). Servers are compared within one meta group only: a leafnode's domain has a group of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from bot.model import Endpoint, JsonObject, Snapshot, part
from bot.model.groups import META_GROUP, latest, meta_group
from bot.model.probes import Version
from bot.runbook import Thresholds
from runbooks._audit_versions import uptime, version_of
from runbooks._audit_views import Facts, read, seconds_between

APPLY_QUEUE = "RAFT '_meta_' committedEntry"
"""End of the name of the queue in IPQUEUESZ that holds what is committed and not applied (reference/drills.md 4)."""

SETTLE = "settle"
"""Threshold: seconds between two readings."""

YOUNG = "young"
"""Threshold: seconds after its start in which a server may still replay."""

LAG = "lag"
"""Threshold: operations that a member may be behind."""

LEAST_READINGS = 3
"""Readings without which nothing is called stuck (reference/nats.md 1.A, decision rule)."""

SLACK = 0.9
"""Answers of one round arrive spread over time, so two rounds lie a little closer together than asked for."""


class Trend(StrEnum):
    """How a server's distance from what is committed went over the readings."""

    CURRENT = "current"
    CAUGHT_UP = "caught up"
    """It was behind after its start and is not any more."""
    CATCHING_UP = "catching up"
    COMES_AND_GOES = "comes and goes"
    """It applies, and each reading finds it a little behind or not at all."""
    LAGGING = "lagging"
    """It applies, and is far behind all the time or more and more."""
    STUCK = "stuck"
    """It applied nothing in all readings, and there was something to apply."""
    UNSETTLED = "unsettled"
    """It is behind and applies nothing; not for long enough, or too young, to say more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The meta group on one server at one moment."""

    round: int
    id: str
    """The server's own Raft id."""
    leader: str
    """Raft id of the leader it follows; empty where it knows none."""
    leads: bool
    committed: int
    applied: int
    catching_up: bool
    written_at: datetime | None
    """When its log got its last entry, by its own clock."""


@dataclass(frozen=True, slots=True)
class Member:
    """One server of the meta group over all readings."""

    name: str
    version: Version | None
    age: float | None
    """Seconds since its start."""
    readings: tuple[Reading, ...]
    gaps: tuple[int, ...]
    """Entries behind in each reading: what it, or one reading earlier its leader, had committed, minus what it has applied."""
    span: float
    """Seconds between the first and the last reading."""
    trend: Trend
    queue: JsonObject
    """The server's queue of committed entries, empty where it is not known."""

    @property
    def last(self) -> Reading:
        return self.readings[-1]


@dataclass(frozen=True, slots=True)
class MetaGroup:
    """All servers whose `_meta_` could be read, and what could not."""

    members: tuple[Member, ...]
    facts: Facts
    """RAFTZ with what is wrong with it."""

    def leader_of(self, member: Member) -> str:
        """Return the name of the server that the member follows; empty where it was not read, or the member knows no leader."""
        return next((m.name for m in self.members if member.last.leader and m.last.id == member.last.leader), "")


def read_meta(snapshot: Snapshot, thresholds: Thresholds) -> MetaGroup:
    """Return the meta group as RAFTZ showed it. A server without JetStream, or outside a cluster, is no member and no complaint."""
    raftz, varz = read(snapshot, Endpoint.RAFTZ), read(snapshot, Endpoint.VARZ)
    taken = {server: found for server in raftz.answers if (found := _readings(snapshot, raftz, server))}
    known = {(r.id, r.round): r for found in taken.values() for r in found}
    versions = {s.name: version_of(s.version) for s in snapshot.servers}
    members: list[Member] = []
    for server, found in taken.items():
        up = uptime(varz, server) if server in varz.answers else None
        age = up.total_seconds() if up is not None else None
        gaps = _gaps(found, known)
        span = seconds_between(snapshot, server, Endpoint.RAFTZ)
        settled = len(found) >= LEAST_READINGS and span >= (LEAST_READINGS - 1) * thresholds[SETTLE] * SLACK
        young = age is not None and age < thresholds[YOUNG]
        went = trend(gaps, [r.applied for r in found], settled=settled, young=young, lag=thresholds[LAG])
        queue = _queue(latest(snapshot, server, Endpoint.IPQUEUESZ) or {})
        members.append(Member(server, versions.get(server), age, tuple(found), gaps, span, went, queue))
    return MetaGroup(tuple(members), raftz)


def trend(gaps: Sequence[int], applied: Sequence[int], *, settled: bool, young: bool, lag: float) -> Trend:
    """Return how the distance went. `settled` says that there are enough readings, far enough apart, to call something stuck."""
    if not any(gaps):
        return Trend.CURRENT
    if gaps[-1] == 0:
        once_current = list(gaps).index(0)
        return Trend.CAUGHT_UP if young and not any(gaps[once_current:]) else Trend.COMES_AND_GOES
    if not all(gaps):
        # Since it was last current; one reading of that tells nothing, so then it counts that it applied anything at all.
        since = applied[-list(reversed(gaps)).index(0) :]
        moves = len(set(since if len(since) > 1 else applied)) > 1
        return Trend.COMES_AND_GOES if moves else Trend.UNSETTLED
    if len(set(applied)) == 1:
        return Trend.STUCK if settled and not young else Trend.UNSETTLED
    steps = list(pairwise(gaps))
    if gaps[-1] < gaps[0] and (young or all(after <= before for before, after in steps)):
        return Trend.CATCHING_UP
    grows = len(gaps) >= LEAST_READINGS and all(after > before for before, after in steps)
    lags = min(gaps) > lag or (grows and gaps[-1] - gaps[0] > lag)
    return Trend.LAGGING if lags else Trend.COMES_AND_GOES


def entries(count: int) -> str:
    """Return `1 entry` or `n entries`."""
    return "1 entry" if count == 1 else f"{count} entries"


def _readings(snapshot: Snapshot, facts: Facts, server: str) -> list[Reading]:
    """What the server's RAFTZ says in every round; none, and a complaint, where a clustered server's answer has no readable `_meta_`."""
    found: list[Reading] = []
    for number in range(snapshot.readings(Endpoint.RAFTZ)):
        raftz = snapshot.data(server, Endpoint.RAFTZ, number)
        if raftz is None:
            continue
        for account in raftz:
            facts.part(server, raftz, account)
        group = meta_group(raftz)
        if group is None:
            if _clustered(latest(snapshot, server, Endpoint.JSZ)):
                facts.complain(server, f"no group {META_GROUP}")
            return []
        reading = _reading(facts, server, number, group[1])
        if reading is None:
            return []
        found.append(reading)
    return found


def _reading(facts: Facts, server: str, number: int, raw: JsonObject) -> Reading | None:
    committed, applied = facts.number(server, raw, "committed", 0), facts.number(server, raw, "applied", 0)
    own, leader = facts.text(server, raw, "id"), facts.text(server, raw, "leader", "")
    state, catching_up = facts.text(server, raw, "state"), facts.flag(server, raw, "catching_up")
    if committed is None or applied is None or own is None or leader is None or state is None:
        return None
    written_at = facts.moment(server, facts.part(server, raw, "wal"), "last_ts")
    leads = state == "LEADER"
    return Reading(number, own, leader, leads, int(committed), int(applied), bool(catching_up), written_at)


def _gaps(readings: Sequence[Reading], known: Mapping[tuple[str, int], Reading]) -> tuple[int, ...]:
    """Entries behind. What a leader had committed a whole reading ago must have arrived; what it committed just now need not."""
    found: list[int] = []
    for index, reading in enumerate(readings):
        target = reading.committed
        before = known.get((reading.leader, readings[index - 1].round)) if index else None
        if before is not None:
            target = max(target, before.committed)
        found.append(max(0, target - reading.applied))
    return tuple(found)


def _clustered(jsz: JsonObject | None) -> bool:
    return jsz is not None and bool(part(jsz, "meta_cluster"))


def _queue(ipqueuesz: JsonObject) -> JsonObject:
    nothing: JsonObject = {}
    return next((part(ipqueuesz, name) for name in ipqueuesz if name.endswith(APPLY_QUEUE)), nothing)
