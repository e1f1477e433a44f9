"""How far servers are behind over the rounds of a snapshot: in the meta group, in a stream's Raft group, in a stream's messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from bot.model import Endpoint, JsonObject, Lines, Panel, Series, Severity, Snapshot, StreamKey, Subject, part
from bot.model.groups import Groups, meta_group
from bot.model.states import group_of
from runbooks._audit_views import UNDERFLOW, known
from runbooks._series import MOST_LINES, OfRound, Values, lines, told

SHRINKS, STAYS, GROWS, COMES_AND_GOES = "the gap shrinks", "the gap stays", "the gap grows", "the gap comes and goes"


def meta_lag(snapshot: Snapshot) -> Lines | None:
    """Return how far each server is behind in the meta group; None where nobody is seen behind, or where there is one reading only."""

    def node(accounts: JsonObject) -> JsonObject:
        found = meta_group(accounts)
        return found[1] if found else {}

    def groups(number: int) -> Groups:
        answers = {server: snapshot.data(server, Endpoint.JSZ, number) for server in known(snapshot)}
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

    what = f"Stream {key}"
    return lag_chart(snapshot, views, Endpoint.JSZ, code="REPLICA_LAG", subject=subject, what=what, unit="messages")


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
        return _behind({s: node(snapshot.data(s, Endpoint.RAFTZ, number) or {}) for s in known(snapshot)})

    def led(number: int) -> Values:
        return _told_by_leader(groups(number))

    for values, endpoint in ((own, Endpoint.RAFTZ), (led, Endpoint.JSZ)):
        chart = lag_chart(snapshot, values, endpoint, code=code, subject=subject, what=what, unit="operations")
        if chart is not None:
            return chart
    return None


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


def lag_chart(
    snapshot: Snapshot,
    values: OfRound,
    endpoint: Endpoint,
    *,
    code: str,
    subject: Subject,
    what: str,
    unit: str,
    wrong: frozenset[str] | None = None,
) -> Lines | None:
    """Return lines of how far each server was behind; None where nobody was, or where there is one reading only.

    `wrong` are the servers whose gap is the trouble; where nobody knows, it is the largest one if it does not shrink.
    """
    series = sorted(lines(snapshot, endpoint, values, wrong=wrong or frozenset()), key=_worst)
    if not series or not _peak(series[0]):
        return None
    worst, shown = series[0], series[:MOST_LINES]
    last, moves = worst.points[-1][1], _moves([value for _, value in worst.points])
    if wrong is None and last and moves in {STAYS, GROWS}:
        shown = [worst.model_copy(update={"severity": Severity.CRITICAL}), *shown[1:]]
    left = len(series) - len(shown)
    how_far = f"{last:,.0f} behind, {moves}" if last else f"was {_peak(worst):,.0f} behind, not any more"
    return Lines(
        code=code,
        subject=subject,
        title=f"{what}: {worst.label} {how_far}",
        alt=f"Lines of how many {unit} each server is behind over time, {what}: {told(shown)}.",
        note=f"{left} more lines, all lower, are left out." if left else "",
        panels=(Panel(title="Behind the furthest one", unit=unit, series=tuple(shown)),),
    )


def _worst(line: Series) -> tuple[float, float, str]:
    """Sorts the line that ends highest first, then the one that was highest."""
    return -line.points[-1][1], -_peak(line), line.name


def _peak(line: Series) -> float:
    return max(value for _, value in line.points)


def _moves(gaps: Sequence[float]) -> str:
    """How a gap went, over all readings."""
    steps = [after - before for before, after in pairwise(gaps)]
    if not any(steps):
        return STAYS
    if any(step > 0 for step in steps) and any(step < 0 for step in steps):
        return COMES_AND_GOES
    return GROWS if sum(steps) > 0 else SHRINKS
