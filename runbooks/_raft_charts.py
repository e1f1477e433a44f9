"""How far servers are behind over the rounds of a snapshot: in the meta group, in a stream's or consumer's Raft group, in a stream's messages. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bot.model import Endpoint, JsonObject, Lines, Panel, Severity, Snapshot, StreamKey, Subject, part
from bot.model.snapshot import names
from runbooks._audit_views import UNDERFLOW
from runbooks._series import MOST_LINES, Values, lines, told

META = "_meta_"
"""Name of the meta group's Raft node in RAFTZ, below the system account, whatever that is called (server/jetstream_cluster.go, defaultMetaGroupName)."""


def meta_lag(snapshot: Snapshot) -> Lines | None:
    """Return how far each server is behind in the meta group; None where nobody is seen behind, or where there is one reading only."""

    def nodes(number: int) -> Values:
        return _behind(snapshot, number, _meta_node)

    subject = Subject(cluster=snapshot.cluster)
    return _lag(snapshot, nodes, Endpoint.RAFTZ, "META_LAG", subject, "Meta group", "operations")


def group_lag(snapshot: Snapshot, subject: Subject, raft_group: str) -> Lines | None:
    """Return the same for the Raft group of the subject, a stream or a consumer."""
    account = subject.account or ""

    def nodes(number: int) -> Values:
        return _behind(snapshot, number, lambda accounts: part(part(accounts, account), raft_group))

    return _lag(snapshot, nodes, Endpoint.RAFTZ, "RAFT_LAG", subject, f"Raft group of {subject}", "operations")


def replica_lag(snapshot: Snapshot, key: StreamKey) -> Lines | None:
    """Return how many messages each replica of the stream is behind the one that has most."""
    subject = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream)

    def views(number: int) -> Values:
        last = {server: view.last_seq for server, view in (snapshot.streams(number).get(key) or {}).items()}
        return {server: max(last.values()) - at for server, at in last.items()}

    return _lag(snapshot, views, Endpoint.JSZ, "REPLICA_LAG", subject, f"Stream {key}", "messages")


def _behind(snapshot: Snapshot, number: int, node: Callable[[JsonObject], JsonObject]) -> Values:
    """Operations between the highest commit that any server knows of and what each has applied: a follower that hears nothing knows of no gap itself."""
    found: dict[str, tuple[int, int]] = {}
    for server in sorted(snapshot.expected | names(snapshot.servers)):
        raw = node(snapshot.data(server, Endpoint.RAFTZ, number) or {})
        committed, applied = raw.get("committed"), raw.get("applied")
        if isinstance(committed, int) and isinstance(applied, int) and max(committed, applied) < UNDERFLOW:
            found[server] = committed, applied
    highest = max((committed for committed, _ in found.values()), default=0)
    return {server: max(highest - applied, 0) for server, (_, applied) in found.items()}


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
                title="Behind the furthest server",
                unit=unit,
                series=(worst.model_copy(update={"severity": Severity.CRITICAL}) if wrong else worst, *shown[1:]),
            ),
        ),
    )


def _meta_node(accounts: JsonObject) -> JsonObject:
    nodes = (part(part(accounts, account), META) for account in accounts)
    return next(filter(None, nodes), JsonObject())
