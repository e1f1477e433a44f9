"""What JetStream's API has to do on each server, against its limit. Pure."""

from __future__ import annotations

from bot.model import Bar, Bars, Endpoint, Limit, Severity, Snapshot, Subject, part
from bot.model.base import Json
from bot.model.groups import latest
from bot.model.snapshot import names
from runbooks._audit_views import UNDERFLOW

QUEUES = {
    "Routed JS API Requests": "queue",
    "JetStream API queue": "queue",
    "JetStream API info queue": "info queue",
}
"""Queues of IPQUEUESZ that hold requests of the JetStream API, by version (reference/nats.md 1.D)."""

QUEUE_LIMIT = Limit(name="queue limit", value=10_000)
"""Default of `jetstream.request_queue_limit`, from which on requests are dropped; servers do not report it (reference/nats.md 1.D)."""

NEAR = 0.5
"""Share of the limit from which on a bar is drawn as a warning."""

MOST_SERVERS = 5
"""Servers with bars; the busiest ones."""


def api_queues(snapshot: Snapshot, limit: Limit = QUEUE_LIMIT) -> Bars | None:
    """Return the requests that wait and that are under way on each server, the busiest server first; None where there are none."""
    rows = {server: _rows(snapshot, server, limit) for server in snapshot.expected | names(snapshot.servers)}
    busy = {server: max(bar.value for bar in bars) for server, bars in rows.items() if bars}
    order = sorted(busy, key=lambda server: (-busy[server], server))
    if not order or not busy[order[0]]:
        return None
    bars = tuple(bar for server in order[:MOST_SERVERS] for bar in rows[server])
    worst = max(bars, key=lambda bar: bar.value)
    silent, left = len(rows) - len(order), len(order[MOST_SERVERS:])
    notes = [f"Nothing is known of {silent} of {len(rows)} servers."] if silent else []
    notes += [f"{left} less busy servers are left out."] if left else []
    told = ", ".join(f"{bar.group} {bar.name} {bar.value:,.0f}" for bar in bars)
    return Bars(
        code="API_QUEUES",
        subject=Subject(cluster=snapshot.cluster),
        title=f"JetStream API: {worst.value:,.0f} requests on {worst.group} ({worst.name})",
        alt=f"Bars of the JetStream API requests of each server: {told}; the {limit.name} is {limit.value:,.0f}.",
        note=" ".join(notes),
        unit="requests",
        bars=bars,
        limit=limit,
    )


def _rows(snapshot: Snapshot, server: str, limit: Limit) -> list[Bar]:
    """The bars of one server, of what it reports."""
    queues = latest(snapshot, server, Endpoint.IPQUEUESZ) or {}
    stats = part(part(latest(snapshot, server, Endpoint.VARZ) or {}, "jetstream"), "stats")
    jsz = latest(snapshot, server, Endpoint.JSZ) or {}
    api = [part(answer, "api") for answer in (stats, jsz) if "api" in answer]
    values = {word: _count(part(queues, name).get("pending")) for name, word in QUEUES.items() if name in queues}
    values |= {"under way": max(_count(one.get("inflight")) for one in api)} if api else {}
    return [
        Bar(group=server, name=name, value=value, severity=_severity(value, limit)) for name, value in values.items()
    ]


def _severity(value: int, limit: Limit) -> Severity:
    if value >= limit.value:
        return Severity.CRITICAL
    return Severity.WARNING if value >= limit.value * NEAR else Severity.OK


def _count(value: Json) -> int:
    return value if isinstance(value, int) and 0 <= value < UNDERFLOW else 0
