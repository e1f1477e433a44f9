"""The server checks of the overload runbook: one server that does the others' work, and clients that connect too fast. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, parts
from bot.model.groups import latest
from bot.model.load import share
from bot.model.states import ConsumerState, StreamState
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, first, on, read, seconds_between, size
from runbooks._overload_queues import judged_api
from runbooks._overload_views import meta_leader

HOT = Audit("OVERLOAD_HOT_SERVER", Layer.STORAGE)
CONNECTS = Audit("OVERLOAD_CONNECTS", Layer.CLIENTS)

ENOUGH_LEADERS = 30
ENOUGH_CLIENTS = 100
"""How many there must be in the cluster before their place says anything: fewer are no load, wherever they are."""

NOBODY: Mapping[str, int] = {}

RECENT = timedelta(seconds=10)
"""Clients that connected within this time before CONNZ was read show the pace where there is one reading."""


@dataclass(frozen=True, slots=True)
class Hot:
    """A server that shows signs of overload and carries more than its share."""

    server: str
    signs: tuple[str, ...]
    loads: tuple[str, ...]
    evidence: JsonObject


def hot_servers(snapshot: Snapshot, thresholds: Thresholds) -> tuple[list[Hot], list[Facts]]:
    """Return the servers that are busy and have at least `uneven` times their fair share of leaders or clients."""
    varz = read(snapshot, Endpoint.VARZ)
    judged, queues = judged_api(snapshot, thresholds)
    waiting = {j.backlog.server: j.backlog.last for j in judged if j.course.presses}
    cpu = {s: used for s, raw in varz.answers.items() if (used := cpu_in_use(varz, s, raw)) is not None}
    clients = {
        s: int(count) for s, raw in varz.answers.items() if (count := varz.number(s, raw, "connections")) is not None
    }
    found: list[Hot] = []
    for server in varz.answers if len(varz.answers) > 1 else ():
        signs = _signs(server, cpu, waiting, thresholds["hot_cpu"])
        # Who leads what is counted only where it matters: the healthy cluster with most consumers has no such server.
        led = leaders(snapshot) if signs else NOBODY
        loads = [
            f"{own} of {total} {what}"
            for what, counts, enough in (
                ("stream and consumer leaders", led, ENOUGH_LEADERS),
                ("client connections", clients, ENOUGH_CLIENTS),
            )
            if (total := sum(counts.values())) >= enough
            and (own := counts.get(server, 0)) >= thresholds["uneven"] * total / len(varz.answers)
        ]
        if signs and loads:
            evidence: JsonObject = {"cpu": cpu, "waiting": waiting, "leaders": dict(led), "clients": clients}
            found.append(Hot(server, tuple(signs), tuple(loads), evidence | _aside(snapshot, varz, server)))
    return found, [varz, queues]


def no_server_is_hot(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No server is busy because it carries what others could."""
    hot, facts = hot_servers(snapshot, thresholds)
    found: list[Finding] = []
    leader = meta_leader(snapshot)
    for one in hot:
        also = " and leads the meta group" if one.server == leader else ""
        behind = one.evidence["groups behind"]
        lag = f" As follower it is behind in {behind} groups." if behind else ""
        text = f"Server {one.server} {' and '.join(one.signs)}: it has {' and '.join(one.loads)}{also}.{lag}"
        found.append(HOT.finding(on(snapshot, one.server), Severity.WARNING, text, one.evidence))
    return HOT.result(snapshot, found, facts, "No busy server carries much more than its share.")


def clients_connect_slowly(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No server takes new clients faster than it can set them up."""
    varz, connz = read(snapshot, Endpoint.VARZ), read(snapshot, Endpoint.CONNZ)
    found: list[Finding] = []
    for server in sorted(varz.answers.keys() | connz.answers.keys()):
        pace = max(_pace_by_counter(snapshot, varz, server), _pace_by_start(connz, server))
        if pace >= thresholds["connects"]:
            text = (
                f"Server {server} takes {pace:.0f} new clients a second: each costs it a login, and an MQTT client a JetStream API request for its session "
                "and one for every new subscription."
            )
            found.append(CONNECTS.finding(on(snapshot, server), Severity.WARNING, text, {"a second": pace}))
    return CONNECTS.result(
        snapshot, found, [varz, connz], f"No server takes {thresholds['connects']:g} or more new clients a second."
    )


def leaders(snapshot: Snapshot) -> Mapping[str, int]:
    """Return how many streams and consumers each server leads by its own word, in the last look at them."""
    return snapshot.once("leaders by server", lambda: _leaders(snapshot))


def _leaders(snapshot: Snapshot) -> Counter[str]:
    found: Counter[str] = Counter()
    for views in _groups(snapshot):
        found.update(server for server, view in views.items() if view.group is None or view.group.leader == server)
    return found


def _groups(snapshot: Snapshot) -> Iterator[Mapping[str, StreamState] | Mapping[str, ConsumerState]]:
    last = snapshot.rounds - 1
    yield from snapshot.streams(last).values()
    yield from snapshot.consumers(last).values()


def cpu_in_use(facts: Facts, server: str, varz: JsonObject) -> float | None:
    """Return the share of the CPU that the process may use."""
    used, cores = facts.number(server, varz, "cpu"), facts.number(server, varz, "cores")
    allowed = facts.number(server, varz, "gomaxprocs", cores)
    if used is None or cores is None or allowed is None:
        return None
    in_use = share(used, cores, allowed)
    if in_use is None:
        facts.complain(server, "no number of cores above 0")
    return in_use


def _signs(server: str, cpu: Mapping[str, float], waiting: Mapping[str, int], limit: float) -> list[str]:
    signs: list[str] = []
    if cpu.get(server, 0.0) >= limit:
        others = ", ".join(f"{name} {used:.0%}" for name, used in cpu.items() if name != server)
        signs.append(f"uses {cpu[server]:.0%} of its CPU ({others})")
    if server in waiting:
        signs.append(f"has {waiting[server]} API requests waiting")
    return signs


def _aside(snapshot: Snapshot, varz: Facts, server: str) -> JsonObject:
    """What a person wants to see next to it and what judges nothing: clients that stall (2.12), memory, groups and routes that are behind."""
    raw = varz.answers[server]
    counters = ("stalled_clients", "stale_connections")
    found: JsonObject = {key: raw[key] for key in counters if isinstance(raw.get(key), int)}
    limit, used = raw.get("gomemlimit"), raw.get("mem")
    if isinstance(limit, int) and isinstance(used, int) and limit > 0:
        found["memory"] = f"{size(used)} of GOMEMLIMIT {size(limit)}"
    found["groups behind"] = _behind(snapshot, server)
    routes = parts(latest(snapshot, server, Endpoint.ROUTEZ) or {}, "routes")
    pending = [row["pending_size"] for row in routes if isinstance(row.get("pending_size"), int)]
    return found | ({"bytes waiting on routes": sum(pending)} if pending else {})


def _behind(snapshot: Snapshot, server: str) -> int:
    """The groups whose leader does not count this server as current."""
    return sum(_leader_misses(views, server) for views in _groups(snapshot))


def _leader_misses(views: Mapping[str, StreamState] | Mapping[str, ConsumerState], server: str) -> bool:
    return any(
        view.group is not None
        and view.group.leader == name
        and any(peer.name == server and not peer.current for peer in view.group.peers)
        for name, view in views.items()
    )


def _pace_by_counter(snapshot: Snapshot, varz: Facts, server: str) -> float:
    """New clients a second between the first and the last reading; 0 where there are not two, or the server was restarted between them."""
    earlier, now = first(snapshot, server, Endpoint.VARZ), varz.answers.get(server)
    seconds = seconds_between(snapshot, server, Endpoint.VARZ)
    if earlier is None or now is None or seconds <= 0:
        return 0.0
    was, is_now = (varz.number(server, raw, "total_connections", 0) for raw in (earlier, now))
    return max((is_now or 0) - (was or 0), 0) / seconds


def _pace_by_start(connz: Facts, server: str) -> float:
    """Clients of CONNZ that connected within `RECENT`, a second."""
    raw = connz.answers.get(server)
    now = connz.moment(server, raw, "now") if raw is not None else None
    if raw is None or now is None:
        return 0.0
    starts = [connz.moment(server, row, "start") for row in connz.rows(server, raw, "connections")]
    return sum(start is not None and now - start <= RECENT for start in starts) / RECENT.total_seconds()
