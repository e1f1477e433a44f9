"""Whether the Raft groups of streams stand: quorum, one leader, and members that have their node, are heard and keep up. Pure.

Counterparts: `nats server check jetstream` (no leader, missing replicas, offline, seen, lag: nats-io/jsm.go monitor/js_account.go) and the statuses
MULTILEADER and LEADERLESS of the hidden `nats server stream-check` (nats-io/natscli cli/server_stream_check.go). Both judge by one reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bot.model import Finding, Focus, JsonObject, Layer, Severity, Snapshot, StreamKey, Subject
from bot.model.groups import unreadable_configs
from bot.model.versions import version
from bot.runbook import Thresholds
from runbooks._audit_views import MOST_FINDINGS, Audit, few, of_stream, on
from runbooks._consumer_checks import group_problem
from runbooks._consumer_views import ISSUE_6838, how_long, lacks_6851, lasts, severity
from runbooks._stream_views import Look, count, doubtful, lasting, raft_nodes, read_in, stream_health

QUORUM = Audit("STREAM_QUORUM", Layer.STREAMS)
NODE = Audit("STREAM_NODE", Layer.STREAMS)
SPLIT = Audit("STREAM_SPLIT", Layer.STREAMS)
MEMBERS = Audit("STREAM_MEMBERS", Layer.STREAMS)
LAG = Audit("STREAM_LAG", Layer.STREAMS)

SEEN = "replica_seen"
"""The threshold that says how long ago a member may have been heard."""

BEHIND = "replica_lag"
"""The threshold that says how many operations a member may lag behind its leader."""

TRANSITION = "after a restart or a scale-up that is normal for seconds: wait"

_CHECK = "nats server check jetstream"


def streams_have_quorum(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """A stream's group: one leader that a majority names, and quorum. A copy outside of any group has none to judge."""
    found: list[Finding] = []
    for key, looks in doubtful(snapshot, focus):
        seen = [group_problem(snapshot, look.group) if look.views else None for look in looks]
        if seen[-1] is None:
            continue
        level, problem = seen[-1]
        always = all(seen)
        level = level if level is Severity.UNKNOWN else severity(snapshot, thresholds, always=always)
        text = f"Stream {key} {problem}; {how_long(snapshot, always=always)}."
        evidence = {"counterpart": f"{_CHECK}: replicas_no_leader", "views": told(looks[-1])}
        found.append(QUORUM.finding(of_stream(snapshot, key), level, text, evidence, cause=True))
    return QUORUM.result(snapshot, found, [], f"None of {count(snapshot, focus)} streams lacks a leader or quorum.")


def members_have_nodes(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """Every member of a group holds the stream and runs its Raft node (*stream not found*, *group node missing*), told from views and RAFTZ."""
    nodes, health = raft_nodes(snapshot), stream_health(snapshot)
    read = [read_in(snapshot, n) for n in range(snapshot.rounds)]
    groups = _Groups()
    for key, looks in doubtful(snapshot, focus):
        rounds = [_lacking(key, look, told, nodes, health) for look, told in zip(looks, read, strict=True)]
        for server, what in rounds[-1].items():
            groups.add(server, what, key, always=all(server in one for one in rounds))
    found: list[Finding] = []
    for (server, what, always), keys in groups.rows():
        level = severity(snapshot, thresholds, always=always)
        text = f"Server {server} {what.format(named(keys))}; {_since(snapshot, level, always=always)}."
        evidence: JsonObject = {
            "streams": few([str(k) for k in keys], MOST_FINDINGS),
            "count": len(keys),
            "healthz": [health[server][k] for k in keys if k in health.get(server, {})][:MOST_FINDINGS],
        }
        found.append(NODE.finding(where(snapshot, server, keys), level, text, evidence))
    return NODE.result(snapshot, found, [], "No member of a stream is known to lack its copy or its Raft node.")


def one_leader_each(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """No second member takes itself for the leader and answers clients from its own copy."""
    found: list[Finding] = []
    for key, looks in doubtful(snapshot, focus):
        ghosts = lasting(looks, lambda look: dict.fromkeys(look.group.ghosts, True))
        leader = looks[-1].leader
        if not ghosts or leader is None:
            continue
        always = any(lasted for _, lasted in ghosts.values())
        level = severity(snapshot, thresholds, always=always)
        views = looks[-1].views
        claims = ", ".join(
            f"{s} ({views[s].messages} messages, last {views[s].last_seq})" for s in (leader.server, *sorted(ghosts))
        )
        text = (
            f"Stream {key} has {1 + len(ghosts)} servers that take themselves for its leader: {claims}; a majority names {leader.server}. "
            f"Clients get answers from either; {_since(snapshot, level, always=always)}."
        )
        evidence = {"counterpart": "nats server stream-check: MULTILEADER", "views": told(looks[-1])}
        one = SPLIT.finding(of_stream(snapshot, key), level, text, evidence)
        old = any(lacks_6851(version(snapshot, server)) for server in ghosts)
        found.append(one.model_copy(update={"issue": ISSUE_6838}) if old else one)
    return SPLIT.result(snapshot, found, [], f"None of {count(snapshot, focus)} streams has a second leader.")


def members_are_heard(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """Every group has as many members as configured, and its leader hears all of them. Groups without quorum are STREAM_QUORUM's."""
    groups, found, unknown = _Groups(), list[Finding](), list[str]()
    for key, looks in doubtful(snapshot, focus):
        last = looks[-1]
        unknown += [f"{key} {problem}" for problem in unreadable_configs(last.views)]
        if last.leader is None or not last.group.quorum or last.group.replicas == 1:
            continue
        for member, (why, always) in lasting(looks, lambda look: unheard(look, thresholds)).items():
            groups.add(member, why, key, always=always)
        if last.short:
            always = all(look.short for look in looks)
            found.append(_short(snapshot, thresholds, key, last, always=always))
    for (member, always), rows in groups.by_server():
        found.append(_not_heard(snapshot, thresholds, member, rows, always=always))
    if unknown:
        text = f"How many members there must be is not known everywhere: {few(unknown)}."
        found.append(MEMBERS.finding(Subject(cluster=snapshot.cluster), Severity.UNKNOWN, text))
    return MEMBERS.result(snapshot, found, [], "Every stream has all its members, and its leader hears them.")


def members_keep_up(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """No member that is heard lags far behind its leader. One whose gap shrinks catches up: that takes time and nothing else."""
    groups, found = _Groups(), list[Finding]()
    for key, looks in doubtful(snapshot, focus):
        last = looks[-1]
        deaf = unheard(last, thresholds)
        for peer in last.peers:
            if peer.name in deaf:
                continue
            seen = _pace(snapshot, thresholds, looks, peer.name)
            if seen is None:
                continue
            level, phrase = seen
            if level is Severity.CRITICAL:
                found.append(_stuck(snapshot, key, looks, peer.name, phrase))
            else:
                groups.add(peer.name, phrase, key, always=True)
    for (member, phrase, _), keys in groups.rows():
        text = f"Member {member} of {named(keys)} is behind: {phrase}."
        evidence: JsonObject = {"counterpart": f"{_CHECK}: replicas_lagged", "count": len(keys)}
        found.append(LAG.finding(where(snapshot, member, keys), Severity.WARNING, text, evidence))
    limit = thresholds[BEHIND]
    return LAG.result(snapshot, found, [], f"No member of a stream is more than {limit:.0f} operations behind.")


def unheard(look: Look, thresholds: Thresholds) -> dict[str, str]:
    """Return the members that the leader does not hear, and since when."""
    found: dict[str, str] = {}
    for peer in look.peers:
        if peer.offline:
            found[peer.name] = "offline"
        elif peer.active > thresholds[SEEN] * 1e9:
            found[peer.name] = f"last heard {peer.active / 1e9:.1f} s ago"
        elif not peer.active and not peer.current:
            found[peer.name] = "not heard since its leader was elected"
    return found


def told(look: Look) -> JsonObject:
    """Return what each server says about its copy, for evidence."""
    return {
        server: {
            "leader": view.group.leader if view.group else None,
            "in its Raft group": server not in look.orphans,
            "messages": view.messages,
            "first_seq": view.first_seq,
            "last_seq": view.last_seq,
            "num_replicas": view.config.get("num_replicas"),
        }
        for server, view in sorted(look.held.items())
    }


def named(keys: Sequence[StreamKey]) -> str:
    """Return `stream a`, or how many streams and the first of them."""
    return f"stream {keys[0]}" if len(keys) == 1 else f"{len(keys)} streams ({few([str(k) for k in keys])})"


def where(snapshot: Snapshot, server: str, keys: Sequence[StreamKey]) -> Subject:
    """Return the one stream on that server, or the server."""
    return of_stream(snapshot, keys[0], server) if len(keys) == 1 else on(snapshot, server)


@dataclass(slots=True)
class _Groups:
    """Streams by the server and by what is wrong there: a dead server is one finding, not one per stream."""

    found: dict[tuple[str, str, bool], list[StreamKey]] = field(
        default_factory=dict[tuple[str, str, bool], list[StreamKey]]
    )

    def add(self, server: str, what: str, key: StreamKey, *, always: bool) -> None:
        self.found.setdefault((server, what, always), []).append(key)

    def rows(self) -> list[tuple[tuple[str, str, bool], list[StreamKey]]]:
        return sorted(self.found.items())

    def by_server(self) -> list[tuple[tuple[str, bool], list[tuple[StreamKey, str]]]]:
        """Return streams and what was seen of each, whatever it was."""
        merged: dict[tuple[str, bool], list[tuple[StreamKey, str]]] = {}
        for (server, what, always), keys in self.rows():
            merged.setdefault((server, always), []).extend((key, what) for key in keys)
        return sorted(merged.items())


def _since(snapshot: Snapshot, level: Severity, *, always: bool) -> str:
    """For how long it was seen, and that it may pass."""
    return how_long(snapshot, always=always) + (f"; {TRANSITION}" if level is Severity.WARNING else "")


def _lacking(
    key: StreamKey,
    look: Look,
    read: frozenset[str],
    nodes: Mapping[str, Mapping[str, frozenset[str]]],
    health: Mapping[str, Mapping[StreamKey, str]],
) -> dict[str, str]:
    """Return the members that answered and lack something, with a phrase that names it."""
    leader = look.leader
    if leader is None or look.group.replicas == 1:
        return {}
    found: dict[str, str] = {}
    for member in sorted((look.group.members - {leader.server}) & read):
        groups = nodes.get(member, {}).get(key.account)
        if member in look.orphans:
            # One that holds messages is STREAM_TIMELINE's, and what is done about a missing copy would destroy it.
            if not look.orphans[member].messages:
                found[member] = "is a member of {} and holds an empty copy outside of its Raft group"
        elif member not in look.views:
            found[member] = "is a member of {} and has no copy"
        elif (leader.raft_group and groups is not None and leader.raft_group not in groups) or (
            "node missing" in health.get(member, {}).get(key, "")
        ):
            found[member] = "is a member of {} and runs no Raft node for it (group node missing)"
    return found


def _short(snapshot: Snapshot, thresholds: Thresholds, key: StreamKey, look: Look, *, always: bool) -> Finding:
    level = severity(snapshot, thresholds, always=always)
    members = few(sorted(look.group.members))
    text = (
        f"Stream {key} has {len(look.group.members)} members ({members}), its configuration asks for {look.group.replicas}; "
        f"{_since(snapshot, level, always=always)}."
    )
    evidence = {"counterpart": f"{_CHECK}: replicas_missing_replicas"}
    return MEMBERS.finding(of_stream(snapshot, key), level, text, evidence)


def _not_heard(
    snapshot: Snapshot, thresholds: Thresholds, member: str, rows: Sequence[tuple[StreamKey, str]], *, always: bool
) -> Finding:
    level = severity(snapshot, thresholds, always=always)
    keys = [key for key, _ in rows]
    leaders = "its leader does" if len(keys) == 1 else "their leaders do"
    silent = member not in read_in(snapshot, snapshot.rounds - 1)
    text = (
        f"Member {member} of {named(keys)} is away: {leaders} not hear it ({rows[0][1]}). A majority is there, so writes go on, and the loss of one "
        f"more member may stop them; {_since(snapshot, level, always=always)}."
    ) + (" The server does not answer either: if it is being restarted, wait until it is back." if silent else "")
    evidence: JsonObject = {
        "counterpart": f"{_CHECK}: replicas_not_seen, replicas_fail",
        "streams": {str(key): why for key, why in rows[:MOST_FINDINGS]},
        "count": len(rows),
    }
    return MEMBERS.finding(where(snapshot, member, keys), level, text, evidence)


@dataclass(frozen=True, slots=True)
class _Gap:
    """How far a member is behind its leader. `at` and `leader_at` are last sequences; `at` is None where the member could not be read.

    A member that copies a stream from a snapshot has no lag in Raft operations, and its own last sequence shows how far it is (observed on 2.10.26,
    2.11.11 and 2.15.1).
    """

    lag: int
    current: bool
    leader_at: int
    at: int | None

    @property
    def messages(self) -> int:
        return max(self.leader_at - self.at, 0) if self.at is not None else 0

    def __str__(self) -> str:
        stands = f", at {self.at} of {self.leader_at}" if self.at is not None else ""
        return f"{self.lag} operations and {self.messages} messages behind its leader{stands}"


def _gap(look: Look, member: str) -> _Gap | None:
    peer = next((p for p in look.peers if p.name == member), None)
    view = look.views.get(member)
    if peer is None or look.leader is None:
        return None
    return _Gap(peer.lag, peer.current, look.leader.last_seq, view.last_seq if view else None)


def _pace(
    snapshot: Snapshot, thresholds: Thresholds, looks: Sequence[Look], member: str
) -> tuple[Severity, str] | None:
    """Return how bad a member's gap is and what it does, None where it is small or of the moment."""
    first, last = _gap(looks[0], member), _gap(looks[-1], member)
    if last is None or first is None:
        return None
    once, over = len(looks) == 1, thresholds[BEHIND]
    # Servers answer at slightly different times. Behind is who lacks what the leader had one reading ago.
    lacks = last.at is not None and last.at < first.leader_at
    if last.lag <= over and (last.messages <= over or not (once or lacks)):
        # A busy group's members are a little behind at every moment; one that stays so while its leader rests is not.
        still = not once and first == last and last.lag > 0 and last.messages > 0
        return (Severity.WARNING, f"nothing is written and the gap stays; {_seen(snapshot)}") if still else None
    if once:
        return Severity.WARNING, f"{_seen(snapshot)}; only a further one tells whether it catches up: wait"
    if last.lag < first.lag or last.messages < first.messages:
        phrase = f"the gap shrinks within {_seconds(snapshot)}, so it catches up: wait"
    elif last.at is not None and not lacks:
        phrase = f"it has what the leader had {_seconds(snapshot)} before, so it follows the load"
    elif first.lag <= over and first.messages <= over:
        phrase = f"seen in the last reading only; {TRANSITION}"
    elif lasts(snapshot, thresholds):
        return Severity.CRITICAL, f"the gap did not shrink within {_seconds(snapshot)}"
    else:
        phrase = f"the gap did not shrink within {_seconds(snapshot)}; {TRANSITION}"
    return Severity.WARNING, phrase


def _seen(snapshot: Snapshot) -> str:
    return how_long(snapshot, always=True)


def _seconds(snapshot: Snapshot) -> str:
    return _seen(snapshot).removeprefix("seen for ")


def _stuck(snapshot: Snapshot, key: StreamKey, looks: Sequence[Look], member: str, phrase: str) -> Finding:
    gaps = [gap for look in looks if (gap := _gap(look, member)) is not None]
    text = f"Member {member} of stream {key} is {gaps[-1]}: {phrase}."
    evidence: JsonObject = {
        "counterpart": f"{_CHECK}: replicas_lagged",
        "lag": [gap.lag for gap in gaps],
        "last_seq": [gap.at for gap in gaps],
        "leader's last_seq": [gap.leader_at for gap in gaps],
    }
    return LAG.finding(of_stream(snapshot, key, member), Severity.CRITICAL, text, evidence)
