"""What natsmedic offers to do itself about overload: slices of clients that leave a crowded server, and limits that a reload changes. Pure.

Where it can't, the guide for people stays, with what speaks against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from bot.action import Draft
from bot.actions.limit_change import compose_limit
from bot.actions.shedding import Pace, compose_shed
from bot.model import Finding, Snapshot
from bot.model.clients import ClientKind, Selection, clients_of
from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import LimitWish
from bot.model.limits import Setting, Value
from bot.runbook import Threshold, Thresholds, Unit
from runbooks._deploy_offers import Way, drafts, possible, workload_of
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
    snapshot: Snapshot,
    found: Sequence[Finding],
    kinds: Sequence[ClientKind],
    thresholds: Thresholds,
    guide: Draft,
    subject: str | None,
) -> Sequence[Draft]:
    """Return the slices for the crowded server, or the guide where there is none or they can't be composed. Of clients with subscriptions within
    `subject` only, where one is named.
    """
    server = crowd(found)
    if not server:
        return (guide,)
    compose = partial(compose_shed, snapshot, server, _meant(snapshot, server, kinds, subject), pace_of(thresholds))
    way = Way(guide.title, None, compose, guide.cautions)
    return drafts(workload_of(snapshot), [way], guide)


def limit_offers(snapshot: Snapshot, found: Sequence[Finding], guide: Draft) -> Sequence[Draft]:
    """Return the limits that a reload changes, and the guide with everything else after them."""
    workload = workload_of(snapshot)
    if workload is None:
        return (guide,)
    ways = [_way(snapshot, workload, wish) for wish in WISHES if any(wish.sign in f.evidence for f in found)]
    return (*possible(workload, ways, guide.why), guide)


@dataclass(frozen=True, slots=True)
class LimitOffer:
    """A limit that helps where a finding's evidence has `sign`."""

    sign: str
    title: str
    setting: Setting
    value: Value
    cautions: tuple[str, ...]


WISHES: Final = (
    LimitOffer(
        "default_max_consumers",
        "Lift the servers' limit on the consumers of a stream",
        Setting.DEFAULT_MAX_CONSUMERS,
        -1,
        (
            "It holds for every stream of every account that has no limit of its own: applications may then make consumers without end.",
        ),
    ),
    LimitOffer(
        "idle sessions",
        "Let consumers of MQTT sessions that stay away go after a day",
        Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD,
        "24h",
        (
            "Only consumers that are made from then on go by themselves; those of sessions that are there now stay.",
            "A device that comes back after a day has lost what was waiting for it, although its session is still there.",
        ),
    ),
)


def _way(snapshot: Snapshot, workload: Workload, offer: LimitOffer) -> Way:
    compose = partial(compose_limit, snapshot, workload, offer.setting, offer.value)
    return Way(offer.title, LimitWish(offer.setting.path, offer.value), compose, offer.cautions)


def pace_of(thresholds: Thresholds) -> Pace:
    """Return how fast clients may go; a server is too busy for more from where the checks call it busy."""
    return Pace(
        per_second=thresholds["shed_rate"],
        slice=int(thresholds["shed_slice"]),
        most=int(thresholds["shed_most"]),
        cpu=thresholds["hot_cpu"],
        waiting=int(thresholds["queue_limit"] * thresholds["backlog"]),
    )


def _meant(snapshot: Snapshot, server: str, kinds: Sequence[ClientKind], subject: str | None) -> Selection:
    """Name the account where all of these clients of the server are of one."""
    own, meant = clients_of(snapshot, server), Selection(kinds=tuple(kinds), subject=subject)
    accounts = Counter(row.account for row in own.rows if row.fits(meant)) if own else Counter[str]()
    return meant.model_copy(update={"account": next(iter(accounts)) if len(accounts) == 1 else None})
