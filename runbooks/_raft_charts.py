"""How far servers are behind over the rounds of a snapshot: in the meta group, in a stream's Raft group, in a stream's messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot.model import Endpoint, JsonObject, Lines, Panel, Severity, Snapshot, StreamKey, Subject, part
from bot.model.groups import Groups
from bot.model.snapshot import names
from bot.model.states import group_of
from runbooks._audit_views import UNDERFLOW
from runbooks._series import MOST_LINES, Values, lines, told

META = "_meta_"
"""Name of the meta group's Raft node in RAFTZ, below the system account, whatever that is called (server/jetstream_cluster.go, defaultMetaGroupName)."""


def meta_lag(snapshot: Snapshot) -> Lines | None:
    """Return how far each server is behind in the meta group; None where nobody is seen behind, or where there is one reading only."""

    def node(accounts: JsonObject) -> JsonObject:
        nodes = (part(part(accounts, account), META) for account in accounts)
        return next(filter(None, nodes), JsonObject())

    def groups(number: int) -> Groups:
        answers = {server: snapshot.data(server, Endpoint.JSZ, number) for server in _servers(snapshot)}
        return {server: group_of(part(jsz, "meta_cluster")) for server, jsz in answers.items() if jsz is not None}

    return _group_lag(snapshot, node, groups, "META_LAG", Subject(cluster=snapshot.cluster), "Meta group")


def stream_lag(snapshot: Snapshot, key: StreamKey) -> Lines | None:
    """Return the same for the Raft group of a stream."""
    views = snapshot.streams(snapshot.rounds - 1).get(key) or {}
    named = (view.raft_group or (view.group.raft_group if view.group else "") for view in views.values())
    raft_group = next(filter(None, named), "")

    def node(accounts: JsonObject) -> JsonObject:
        return part(part(accounts, key.account), raft_group)

    def groups(number: int) -> Groups:
        return {server: view.group for server, view in (snapshot.streams(number).get(key) or {}).items()}

    subject = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream)
    return _group_lag(snapshot, node, groups, "STREAM_LAG", subject, f"Raft group of stream {key}")


def replica_lag(snapshot: Snapshot, key: StreamKey) -> Lines | None:
    """Return how many messages each replica of the stream is behind the one that has most."""
    subject = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream)

    def views(number: int) -> Values:
        last = {server: view.last_seq for server, view in (snapshot.streams(number).get(key) or {}).items()}
        return {server: max(last.values()) - at for server, at in last.items()}

    return _lag(snapshot, views, Endpoint.JSZ, "REPLICA_LAG", subject, f"Stream {key}", "messages")


def _group_lag(
    snapshot: Snapshot,
    node: Callable[[JsonObject], JsonObject],
    groups: Callable[[int], Groups],
    code: str,
    subject: Subject,
    what: str,
) -> Lines | None:
    """Draw what RAFTZ says of each server's own node, or, where that was read once only, what the group's leader says of the others."""

    def own(number: int) -> Values:
        return _behind({s: node(snapshot.data(s, Endpoint.RAFTZ, number) or {}) for s in _servers(snapshot)})

    def led(number: int) -> Values:
        return _told_by_leader(groups(number))

    return _lag(snapshot, own, Endpoint.RAFTZ, code, subject, what, "operations") or _lag(
        snapshot, led, Endpoint.JSZ, code, subject, what, "operations"
    )


def _servers(snapshot: Snapshot) -> list[str]:
    return sorted(snapshot.expected | names(snapshot.servers))


def _behind(nodes: Mapping[str, JsonObject]) -> Values:
    """Operations between the highest commit that any server knows of and what each has applied: a follower that hears nothing knows of no gap itself."""
    found: dict[str, tuple[int, int]] = {}
    for server, node in nodes.items():
        committed, applied = node.get("committed"), node.get("applied")
        if isinstance(committed, int) and isinstance(applied, int) and max(committed, applied) < UNDERFLOW:
            found[server] = committed, applied
    highest = max((committed for committed, _ in found.values()), default=0)
    return {server: max(highest - applied, 0) for server, (_, applied) in found.items()}


def _told_by_leader(groups: Groups) -> Values:
    """The lag of each follower as the leader of most of them counts it; nothing where nobody leads."""
    leading = [group for server, group in groups.items() if group and group.leader == server]
    chosen = max(leading, key=lambda group: len(group.peers), default=None)
    return {chosen.leader: 0, **{peer.name: peer.lag for peer in chosen.peers}} if chosen else {}


def _lag(
    snapshot: Snapshot,
    values: Callable[[int], Values],
    endpoint: Endpoint,
    code: str,
    subject: Subject,
    what: str,
    unit: str,
) -> Lines | None:
    series = lines(snapshot, endpoint, values)
    if not any(value for one in series for _, value in one.points):
        return None
    worst, shown = series[0], series[:MOST_LINES]
    first, last = worst.points[0][1], worst.points[-1][1]
    moves = "the gap shrinks" if last < first else "the gap grows" if last > first else "the gap stays"
    left = len(series) - len(shown)
    wrong = last > 0 and last >= first
    return Lines(
        code=code,
        subject=subject,
        title=f"{what}: {worst.name} {last:,.0f} {unit} behind, {moves}",
        alt=f"Lines of how many {unit} each server is behind over time, {what}: {told(shown)}.",
        note=f"{left} more lines, all lower, are left out." if left else "",
        panels=(
            Panel(
                title="Behind the furthest one",
                unit=unit,
                series=(worst.model_copy(update={"severity": Severity.CRITICAL}) if wrong else worst, *shown[1:]),
            ),
        ),
    )
