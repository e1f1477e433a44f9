"""What natsmedic offers to do itself about clients that crowd one server: exact slices, or the guide for people with what speaks against them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from bot.action import Draft
from bot.actions.shedding import Pace, compose_shed
from bot.model import Finding, Snapshot
from bot.model.clients import ClientKind, Selection, clients_of
from bot.runbook import Threshold, Thresholds, Unit
from runbooks._deploy_offers import Way, drafts, workload_of
from runbooks._overload_mqtt import CLIENTS
from runbooks._overload_servers import ENOUGH_CLIENTS, HOT

SHED_THRESHOLDS: Final = (
    Threshold("shed_rate", 10, Unit.COUNT, "Clients a second that natsmedic lets go of a crowded server."),
    Threshold("shed_slice", 200, Unit.COUNT, "Clients that it lets go at most before it looks at the servers again."),
    Threshold("shed_most", 2_000, Unit.COUNT, "Clients that one proposal lets go at most."),
)
"""10 a second is far below what three laboratory servers carried (300 MQTT devices in 5.6 s, drills.md 5)."""


def crowd(found: Sequence[Finding]) -> str:
    """Return the server that has far more than its share of clients by these findings; empty where none has."""
    for finding in found:
        clients = finding.evidence.get("clients")
        server = finding.subject.server
        if finding.check not in {CLIENTS.code, HOT.code} or not server or not isinstance(clients, dict):
            continue
        counts = {str(name): count for name, count in clients.items() if isinstance(count, int)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        total = sum(counts.values())
        if total >= ENOUGH_CLIENTS and counts.get(server, 0) * len(counts) > total:
            return server
    return ""


def shed_offers(
    snapshot: Snapshot, found: Sequence[Finding], kinds: Sequence[ClientKind], thresholds: Thresholds, guide: Draft
) -> Sequence[Draft]:
    """Return the slices for the crowded server, or the guide where there is none or they can't be composed."""
    server = crowd(found)
    if not server:
        return (guide,)
    compose = partial(compose_shed, snapshot, server, _meant(snapshot, server, kinds), pace_of(thresholds))
    way = Way(guide.title, None, compose, guide.cautions)
    return drafts(workload_of(snapshot), [way], guide)


def pace_of(thresholds: Thresholds) -> Pace:
    """Return how fast clients may go; a server is too busy for more from where the checks call it busy."""
    return Pace(
        per_second=thresholds["shed_rate"],
        slice=int(thresholds["shed_slice"]),
        most=int(thresholds["shed_most"]),
        cpu=thresholds["hot_cpu"],
        waiting=int(thresholds["queue_limit"] * thresholds["backlog"]),
    )


def _meant(snapshot: Snapshot, server: str, kinds: Sequence[ClientKind]) -> Selection:
    """Name the account where all of these clients of the server are of one."""
    own = clients_of(snapshot, server)
    accounts = Counter(row.account for row in own.rows if row.kind in kinds) if own else Counter[str]()
    return Selection(kinds=tuple(kinds), account=next(iter(accounts)) if len(accounts) == 1 else None)
