"""More connections for servers that run out of them, where their memory carries it. Pure.

What it costs is taken from the busiest server, all of its memory counted as that of its connections, so it is an upper bound. The limit on open files is told by
no server and not by Kubernetes, so natsmedic goes no higher than the server's own default, and people look at that limit first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from bot.action import Draft
from bot.actions.limit_change import compose_limit
from bot.errors import Refused
from bot.model import Endpoint, Finding, Rung, Snapshot
from bot.model.groups import latest
from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import LimitWish
from bot.model.limits import TRAITS, Setting
from runbooks._audit_views import size
from runbooks._deploy_offers import Way, drafts, workload_of

GROWTH: Final = 1.5
"""Half as many again: connections come in steps of whole applications."""

MEMORY_SHARE: Final = 0.8
"""Of the memory limit: where the official chart's README puts GOMEMLIMIT (reference/nats.md 1.A)."""

_RUNG: Final = Rung(
    not_enough="Clients that connect without end use up any number, and a server that has more than its share keeps it.",
    go_on="the servers run with it, and connections still rise.",
    problem="connections",
)


def connection_offers(snapshot: Snapshot, found: Sequence[Finding], guide: Draft) -> tuple[Draft, ...]:
    """Return a higher limit where memory carries it, and the guide to spread clients after it, with what speaks against the limit."""
    after = guide.model_copy(
        update={"rung": Rung(not_enough="The clients choose where they reconnect.", go_on="", problem="connections")}
    )
    workload = workload_of(snapshot)
    if workload is None:
        return (after,)
    try:
        value = _carried(snapshot, workload, found)
    except Refused as refused:
        told = (f"natsmedic does not offer to raise max_connections: {reason}" for reason in refused.reasons)
        return (after.model_copy(update={"guidance": (*after.guidance, *told)}),)
    compose = partial(compose_limit, snapshot, workload, Setting.MAX_CONNECTIONS, value)
    caution = (
        f"Look at the limit on open files first, which must be well above {value} on every server: grep 'open files' /proc/PID/limits of nats-server. "
        "Where it is reached, JetStream can't open its files either."
    )
    way = Way(f"Raise max_connections to {value}", LimitWish(Setting.MAX_CONNECTIONS.path, value), compose, (caution,))
    made = drafts(workload, [way], after.model_copy(update={"rung": _RUNG}))
    if any(draft.stages for draft in made):
        return (*made, after)
    return tuple(draft.model_copy(update={"rung": after.rung}) for draft in made)


def _carried(snapshot: Snapshot, workload: Workload, found: Sequence[Finding]) -> int:
    """Return the next limit. Raises `Refused` where it would be above the server's default, or memory does not carry it or is not known."""
    limit = max(int(f.evidence["limit"]) for f in found)
    default = TRAITS[Setting.MAX_CONNECTIONS].default or 0
    if limit >= default:
        raise Refused(f"{limit} is the server's own default or more, and the limit on open files is not known.")
    value = min(int(limit * GROWTH), default)
    loads = {server.name: _load(snapshot, workload, server.name) for server in snapshot.servers}
    unknown = sorted(name for name, load in loads.items() if load is None)
    if unknown:
        raise Refused(f"How much memory {', '.join(unknown)} may use, or uses, is not known.")
    known = {name: load for name, load in loads.items() if load is not None}
    each = max(
        memory / max(connections, 1) for memory, connections, _ in (known[f.subject.server or ""] for f in found)
    )
    reasons: list[str] = []
    for name, (memory, connections, most) in sorted(known.items()):
        needed = memory + (value - connections) * each
        if needed > most * MEMORY_SHARE:
            reasons.append(
                f"With {value} connections {name} may need {size(needed)}, more than {MEMORY_SHARE:.0%} of its {size(most)}."
            )
    if reasons:
        raise Refused(*reasons)
    return value


def _load(snapshot: Snapshot, workload: Workload, server: str) -> tuple[int, int, int] | None:
    """Memory in use, connections, and the memory limit: GOMEMLIMIT, or the container's where the server tells none."""
    varz = latest(snapshot, server, Endpoint.VARZ) or {}
    memory, connections, most = varz.get("mem"), varz.get("connections"), varz.get("gomemlimit")
    if not isinstance(most, int) or most <= 0:
        most = workload.nats.resources.memory_limit
    if not isinstance(memory, int) or not isinstance(connections, int) or not most:
        return None
    return memory, connections, int(most)
