"""What JetStream's API and the other internal queues hold on each server, against a limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Bar, Bars, Endpoint, Finding, Focus, Limit, Severity, Snapshot, Subject, part
from bot.model.base import Json
from bot.model.groups import latest
from bot.model.load import INFOS, REQUESTS, REQUESTS_UNTIL_2_12
from bot.runbook import Thresholds
from runbooks._audit_views import UNDERFLOW, known
from runbooks._overload_queues import API, OTHERS, judged_api, judged_others
from runbooks._overload_views import Backlog, api_backlogs

WORDS = {REQUESTS_UNTIL_2_12: "API queue", REQUESTS: "API queue", INFOS: "API info queue"}
"""What people call the API's queues, whichever version names them."""

UNDER_WAY = "API requests"
"""Those under way, what waits for the API among them."""

MOST_SERVERS, MOST_QUEUES = 5, 3
"""Servers with bars, and queues of each of them; the longest ones."""

Waiting = tuple[Backlog, Severity]


def overload_charts(
    snapshot: Snapshot,
    findings: Sequence[Finding],
    thresholds: Thresholds,
    focus: Focus,  # noqa: ARG001 - the contract's parameters
) -> list[Bars]:
    """Return the queues, where one of them is too long."""
    bad = {Severity.WARNING, Severity.CRITICAL}
    if not any(f.check in {API.code, OTHERS.code} and f.severity in bad for f in findings):
        return []
    too_long, others = judged_api(snapshot, thresholds)[0], judged_others(snapshot, thresholds)[0]
    severity = {(j.backlog.server, j.backlog.queue): j.severity for j in too_long}
    waiting = [(b, severity.get((b.server, b.queue), Severity.OK)) for b in api_backlogs(snapshot)[0]]
    waiting += [(j.backlog, j.severity) for j in others]
    chart = api_load(snapshot, Limit(name="limit of an API queue", value=thresholds["queue_limit"] or 1), waiting)
    return [chart] if chart else []


def api_load(snapshot: Snapshot, limit: Limit, waiting: Sequence[Waiting] = ()) -> Bars | None:
    """Return what waits and what is under way on each server, the busiest server first; None where there is nothing."""
    rows = {server: _rows(snapshot, server, limit, waiting) for server in known(snapshot)}
    busy = {server: max(bar.value for bar in bars) for server, bars in rows.items() if bars}
    order = sorted(busy, key=lambda server: (-busy[server], server))
    if not order or not busy[order[0]]:
        return None
    bars = tuple(bar for server in order[:MOST_SERVERS] for bar in rows[server])
    worst = max(rows[order[0]], key=lambda bar: (bar.name != UNDER_WAY, bar.value))
    silent, left = len(rows) - len(order), len(order[MOST_SERVERS:])
    notes = [f"Nothing is known of {silent} of {len(rows)} servers."] if silent else []
    notes += [f"{left} less busy servers are left out."] if left else []
    told = ", ".join(f"{bar.group} {bar.name} {bar.value:,.0f}" for bar in bars)
    return Bars(
        code="API_LOAD",
        subject=Subject(cluster=snapshot.cluster),
        title=f"{worst.name} on {worst.group}: {worst.value:,.0f}",
        alt=f"Bars of what each server has to do: {told}; {limit.name} {limit.value:,.0f}.",
        note=" ".join(notes),
        unit="requests or entries",
        bars=bars,
        limit=limit,
    )


def _rows(snapshot: Snapshot, server: str, limit: Limit, waiting: Sequence[Waiting]) -> list[Bar]:
    """The bars of one server, of what it reports."""
    own = sorted((one for one in waiting if one[0].server == server), key=lambda one: -one[0].last)
    bars = [
        Bar(group=server, name=_called(backlog.queue), value=backlog.last, severity=severity)
        for backlog, severity in own[:MOST_QUEUES]
    ]
    stats = part(part(latest(snapshot, server, Endpoint.VARZ) or {}, "jetstream"), "stats")
    jsz = latest(snapshot, server, Endpoint.JSZ) or {}
    api = [_count(part(answer, "api").get("inflight")) for answer in (stats, jsz) if "api" in answer]
    if api:
        level = Severity.WARNING if max(api) > limit.value else Severity.OK
        bars.append(Bar(group=server, name=UNDER_WAY, value=max(api), severity=level))
    return bars


def _called(queue: str) -> str:
    """The queue without the account that it belongs to: `[ACC:SYS] RAFT '_meta_' entry`."""
    return WORDS.get(queue) or (queue.partition("] ")[2] if queue.startswith("[ACC:") else queue) or queue


def _count(value: Json) -> int:
    return value if isinstance(value, int) and 0 <= value < UNDERFLOW else 0
