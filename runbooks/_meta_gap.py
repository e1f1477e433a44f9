"""Whether every server applies what the meta leader commits: a gap that shrinks needs time, one that stays is stuck, one that comes and goes is load. Pure.

Decision rule: reference/nats.md 1.A; what was seen on real servers under load: reference/drills.md 4.
"""

from __future__ import annotations

from datetime import timedelta

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject, part
from bot.model.groups import latest
from bot.model.probes import NOT_CURRENT, RELAXED, SERVER_ONLY, health
from bot.model.states import group_of
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, few, on, read
from runbooks._consumer_views import listed
from runbooks._meta_views import LEAST_READINGS, SETTLE, Member, MetaGroup, Trend, entries, read_meta

GAP = Audit("META_GAP", Layer.META)

LEAST_BEHIND = 2
"""Readings in which followers of a cluster must be behind before it counts as a pattern: one is seen in every cluster that does anything."""

MOST_READINGS = 6
"""Readings of one server that a sentence shows."""

ISSUE_5976 = "nats-server #5976, fixed by #5296 in 2.11.0"


def followers_keep_up(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every server applies what the meta leader commits. Whoever knows no leader is left to META_MARGIN and READINESS_PROBES."""
    group = read_meta(snapshot, thresholds)
    for member in group.members:
        if not member.last.leader:
            group.facts.complain(member.name, "it knows no meta leader, so nobody knows what it lacks")
    found = [
        f for m in group.members if m.last.leader and (f := _of_member(snapshot, group, m, thresholds)) is not None
    ]
    pattern, remark = _comes_and_goes(snapshot, group)
    found += [*pattern, *_one_look(snapshot, group, thresholds)]
    healthy = (
        remark or f"All servers that are in a meta group ({len(group.members)}) have applied what its leader committed."
    )
    return GAP.result(snapshot, found, [group.facts], healthy)


def _of_member(snapshot: Snapshot, group: MetaGroup, member: Member, thresholds: Thresholds) -> Finding | None:
    level, text = Severity.WARNING, ""
    if member.last.leads and member.trend is Trend.CATCHING_UP:
        return None  # A leader that applies what it has itself committed a moment ago waits for nobody.
    started = f" (started {member.age:.0f} s ago)" if member.age is not None else ""
    went = f"{_shown(member)} entries behind within {member.span:.1f} s"
    match member.trend:
        case Trend.STUCK:
            level, text = Severity.CRITICAL, _stuck(snapshot, group, member)
        case Trend.UNSETTLED:
            text = (
                f"{_called(member)}{started} does not apply the meta group: {went}. "
                if len(member.readings) > 1
                else (
                    f"{_called(member)}{started} is {entries(member.gaps[-1])} of the meta group behind; one reading can't tell whether that shrinks. "
                )
            )
            text += f"Wait, and look again: {LEAST_READINGS} readings {thresholds[SETTLE]:g} s apart tell."
        case Trend.CATCHING_UP:
            text = f"Server {member.name}{started} catches up with the meta leader: {went}. Wait."
        case Trend.LAGGING:
            text = f"{_called(member)} applies the meta group more slowly than it grows: {went}."
        case _:
            return None
    cause = member.trend is Trend.STUCK
    return GAP.finding(on(snapshot, member.name), level, text, _evidence(group, member), cause=cause)


def _stuck(snapshot: Snapshot, group: MetaGroup, member: Member) -> str:
    """The sentence for a server that applies nothing. Its leader's list may call it current: that says what it has received, not what it applied."""
    leader = group.leader_of(member) or "another server"
    text = f"{_called(member)} has applied nothing of the meta group for {member.span:.1f} s and is {entries(member.gaps[-1])} behind"
    text += "." if member.last.leads else f", while {leader} leads."
    if member.last.catching_up:
        text += " It says that it is catching up."
    under_way = member.queue.get("in_progress")
    if isinstance(under_way, int) and under_way > 0:
        text += " An entry is under way and does not end: usually an operation of its disk."
    listing = group_of(part(latest(snapshot, leader, Endpoint.JSZ) or {}, "meta_cluster"))
    if any(p.name == member.name and p.current and not p.offline for p in (listing.peers if listing else ())):
        text += f" {leader} counts it as current, so `nats server check meta` sees nothing."
    return text


def _comes_and_goes(snapshot: Snapshot, group: MetaGroup) -> tuple[list[Finding], str]:
    """Followers that are behind in some readings and apply all the while: before 2.11 the usual probe is too strict for that, later it is a remark."""
    followers = [m for m in group.members if not m.last.leads]
    moving = [m for m in followers if m.trend in {Trend.CURRENT, Trend.COMES_AND_GOES}]
    said = {m.name for m in moving if health(latest(snapshot, m.name, Endpoint.HEALTHZ)).said == NOT_CURRENT}
    behind = {m.name: sum(1 for gap in m.gaps if gap) + (m.name in said) for m in moving}
    if sum(behind.values()) < LEAST_BEHIND:
        return [], ""
    shown = [
        f"{m.name} in {behind[m.name]} of {len(m.gaps) + (m.name in said)} readings ({_shown(m)} entries{', and by its own word' if m.name in said else ''})"
        for m in moving
        if behind[m.name]
    ]
    text = f"Followers apply what the meta leader commits, and are behind it again and again: {few(shown)}."
    # A version that can't be read is none that is known to be new enough.
    old = [m for m in moving if (m.version is None or m.version < RELAXED) and behind[m.name]]
    if not old:
        return [], f"{text} From 2.11 on the readiness probe of the official chart does not ask for that."
    versions = listed({".".join(map(str, m.version)) if m.version else "a version that can't be read" for m in old})
    text += f" In such a moment the readiness probe {SERVER_ONLY} fails before 2.11 (here {versions}), and a pod that works leaves its Service."
    evidence: JsonObject = {
        "trend": Trend.COMES_AND_GOES.value,
        "behind": {m.name: list(m.gaps) for m in moving},
        "by their own word": sorted(said),
        "too strict on": sorted(m.name for m in old),
    }
    finding = GAP.finding(Subject(cluster=snapshot.cluster), Severity.WARNING, text, evidence)
    return [finding.model_copy(update={"issue": ISSUE_5976})], ""


def _one_look(snapshot: Snapshot, group: MetaGroup, thresholds: Thresholds) -> list[Finding]:
    """Before 2.11 a busy meta group may be between two gaps: one reading that finds none clears nothing while entries are being written."""
    varz = read(snapshot, Endpoint.VARZ)
    window = timedelta(seconds=thresholds[SETTLE])
    for member in group.members:
        if len(member.readings) > 1 or member.version is None or member.version >= RELAXED or any(member.gaps):
            continue
        now = varz.moment(member.name, varz.answers.get(member.name, {}), "now")
        if now is not None and member.last.written_at is not None and now - member.last.written_at < window:
            text = f"{member.name} is not behind in this one reading, but the meta group has just changed, and before 2.11 one reading can't tell whether a gap comes and goes."
            return [GAP.finding(Subject(cluster=snapshot.cluster), Severity.UNKNOWN, text)]
    return []


def _called(member: Member) -> str:
    return f"{'Meta leader' if member.last.leads else 'Server'} {member.name}"


def _shown(member: Member) -> str:
    return few([str(gap) for gap in member.gaps], most=MOST_READINGS)


def _evidence(group: MetaGroup, member: Member) -> JsonObject:
    return {
        "trend": member.trend.value,
        "leads": member.last.leads,
        "leader": group.leader_of(member) or None,
        "behind": list(member.gaps),
        "committed": [r.committed for r in member.readings],
        "applied": [r.applied for r in member.readings],
        "seconds": member.span,
        "queue": member.queue,
    }
