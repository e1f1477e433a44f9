"""The MQTT checks of the overload runbook: where the clients are, and what their sessions and subscriptions cost. Pure functions of snapshot and thresholds.

Per account there are five streams (`$MQTT_sess` with one message a session, `$MQTT_msgs` with one durable consumer per QoS 1 or 2 subscription, …); each
consumer of a replicated stream is a Raft group (reference/nats.md 1.D; server/mqtt.go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, StreamKey, Subject, part
from bot.model.groups import ha_assets, stream_replicas
from bot.model.states import StreamState
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, known, of_stream, on, read
from runbooks._overload_queues import pressing
from runbooks._overload_servers import ENOUGH_CLIENTS, hot_servers
from runbooks._overload_views import Backlog

CLIENTS = Audit("OVERLOAD_MQTT_CLIENTS", Layer.CLIENTS)
ASSETS = Audit("OVERLOAD_MQTT_ASSETS", Layer.CONSUMERS)

PREFIX = "$MQTT_"
MESSAGES = "$MQTT_msgs"
SESSIONS = "$MQTT_sess"

STORM_TIME = timedelta(seconds=60)
"""Clients that connected within this time before CONNZ was read are counted as arriving; in everyday life devices come and go one by one."""

ASKS = 5
"""API requests that an arriving client may have left in a queue: one for its session, one for every new subscription (2.0 answers a client with one
subscription on 2.10.26, 2.11.11 and 2.15.1), and each again after a time-out of 4 or 5 s (reference/drills.md 5). What is beyond that comes from others.
"""

ISSUE_5851 = "nats-server #5851"
"""More than 20,000 MQTT clients, one server down, and the API of the others overrun."""


@dataclass(slots=True)
class Population:
    """The MQTT clients that CONNZ shows."""

    by_server: Counter[str] = field(default_factory=Counter[str])
    by_account: Counter[str] = field(default_factory=Counter[str])
    recent: int = 0
    """How many of them connected within `STORM_TIME`."""
    listeners: tuple[str, ...] = ()
    """Servers that take MQTT clients."""
    whole: bool = True
    """False where some server did not tell: then nobody knows who has too many."""

    @property
    def total(self) -> int:
        """All clients."""
        return self.by_server.total()

    def can_fill(self, backlog: Backlog) -> bool:
        """True where those who have just come can have asked for all that waits."""
        return self.recent * ASKS >= backlog.peak


@dataclass(frozen=True, slots=True)
class Assets:
    """What MQTT keeps in one account."""

    account: str
    sessions: int
    subscriptions: int
    """Consumers of `$MQTT_msgs`."""
    replicas: int
    groups: Mapping[str, int]
    """Raft groups by server."""
    own_limit: int
    """`max_consumers` of `$MQTT_msgs`, -1 where it has none."""

    @property
    def most(self) -> int:
        """Raft groups on the server that has most."""
        return max(self.groups.values(), default=0)


def population(snapshot: Snapshot) -> tuple[Population, list[Facts]]:
    """Return the MQTT clients and what is not known of them."""
    return snapshot.once("MQTT clients", lambda: _population(snapshot))


def _population(snapshot: Snapshot) -> tuple[Population, list[Facts]]:
    varz, connz = read(snapshot, Endpoint.VARZ), read(snapshot, Endpoint.CONNZ)
    found = Population(whole=connz.answers.keys() >= known(snapshot))
    for server, raw in connz.answers.items():
        now = connz.moment(server, raw, "now")
        for row in connz.rows(server, raw, "connections"):
            if row.get("type") != "mqtt":
                continue
            found.by_server[server] += 1
            found.by_account[str(row.get("account") or "")] += 1
            start = connz.moment(server, row, "start")
            found.recent += bool(now and start and now - start <= STORM_TIME)
    listening = {s for s, raw in varz.answers.items() if part(raw, "mqtt").get("port")}
    found.listeners = tuple(sorted(listening | found.by_server.keys()))
    return found, [varz, connz]


def mqtt_clients_are_spread(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """MQTT clients are spread over the servers, none has too many, and they do not all come at once while the API is behind."""
    clients, facts = population(snapshot)
    found = _crowded(snapshot, clients, thresholds)
    storm = _storm(snapshot, clients, thresholds)
    # Where the storm is what the API suffers from, one crowded server is where it blows: one root, not two.
    found = [_causing(f, storm) for f in found] if found and storm else found + ([storm] if storm else [])
    found += [
        CLIENTS.finding(
            on(snapshot, server),
            Severity.WARNING,
            f"Server {server} has {count} MQTT clients; where it fails, they all ask the others for their sessions at once.",
            {"clients": dict(clients.by_server)},
        ).model_copy(update={"issue": ISSUE_5851})
        for server, count in clients.by_server.items()
        if count >= thresholds["mqtt_clients"]
    ]
    return CLIENTS.result(
        snapshot, found, facts, f"{clients.total} MQTT clients are on {len(clients.listeners)} servers."
    )


def mqtt_needs_few_groups(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Sessions and subscriptions of MQTT stay within what the servers can carry."""
    clients, facts = population(snapshot)
    jsz = read(snapshot, Endpoint.JSZ)
    found: list[Finding] = []
    everything = mqtt_assets(snapshot)
    for assets in everything:
        found += _groups(snapshot, assets, thresholds)
        found += _idle(snapshot, assets, clients, thresholds)
        found += _subscription_limit(snapshot, jsz, assets, thresholds)
    sessions, groups = (sum(values) for values in ([a.sessions for a in everything], [a.most for a in everything]))
    healthy = f"MQTT keeps {sessions} sessions and {groups} Raft groups." if everything else "Nobody uses MQTT here."
    return ASSETS.result(snapshot, found, [*facts, jsz], healthy)


def mqtt_assets(snapshot: Snapshot) -> list[Assets]:
    """Return what MQTT keeps, by account, in the last look at it. Only its own streams are gone through."""
    accounts: dict[str, dict[str, Mapping[str, StreamState]]] = {}
    for key, views in snapshot.streams(snapshot.rounds - 1).items():
        if key.stream.startswith(PREFIX):
            accounts.setdefault(key.account, {})[key.stream] = views
    return [_assets(account, streams) for account, streams in sorted(accounts.items())]


def _assets(account: str, streams: Mapping[str, Mapping[str, StreamState]]) -> Assets:
    groups: Counter[str] = Counter()
    for views in streams.values():
        replicated = stream_replicas(views) > 1
        for server, view in views.items():
            own = sum(consumer.group is not None and bool(consumer.group.peers) for consumer in view.consumers)
            groups[server] += own + replicated
    messages, sessions = streams.get(MESSAGES, {}), streams.get(SESSIONS, {})
    return Assets(
        account=account,
        sessions=max((view.messages for view in sessions.values()), default=0),
        subscriptions=len({consumer.name for view in messages.values() for consumer in view.consumers}),
        replicas=stream_replicas(messages),
        groups=groups,
        own_limit=max((_max_consumers(view.config) for view in messages.values()), default=-1),
    )


def _crowded(snapshot: Snapshot, clients: Population, thresholds: Thresholds) -> list[Finding]:
    """The server with far more clients than its share; nothing where a server is silent, for then nobody knows the share."""
    servers = clients.listeners
    if not clients.whole or len(servers) < 2 or clients.total < ENOUGH_CLIENTS:
        return []
    server = max(servers, key=lambda s: clients.by_server[s])
    share = clients.total / len(servers)
    if clients.by_server[server] < thresholds["uneven"] * share:
        return []
    others = ", ".join(f"{name} {clients.by_server[name]}" for name in servers if name != server)
    text = f"Server {server} has {clients.by_server[server]} of {clients.total} MQTT clients ({others}); its share is {share:.0f}."
    evidence: JsonObject = {
        "clients": {s: clients.by_server[s] for s in servers},
        "connected in the last minute": clients.recent,
    }
    hot, _ = hot_servers(snapshot, thresholds)
    busy = next((one for one in hot if one.server == server), None)
    if busy is not None:
        text += f" It {' and '.join(busy.signs)}."
    where = on(snapshot, server)
    return [CLIENTS.finding(where, Severity.WARNING, text, evidence, cause=busy is not None)]


def _storm(snapshot: Snapshot, clients: Population, thresholds: Thresholds) -> Finding | None:
    """What makes the API's queues long, where enough clients have just come to fill them."""
    queues = pressing(snapshot, thresholds)
    if not queues or not all(clients.can_fill(one.backlog) for one in queues):
        return None
    worst = max(queues, key=lambda one: one.severity.rank)
    text = (
        f"{clients.recent} of {clients.total} MQTT clients connected within the last {STORM_TIME.seconds} s; each asks the JetStream API for its session and "
        f"for a consumer per new subscription, and {worst.backlog.server} has {worst.backlog.last} items in {worst.backlog.queue!r}."
    )
    evidence: JsonObject = {"clients": dict(clients.by_server), "connected in the last minute": clients.recent}
    where = Subject(cluster=snapshot.cluster)
    found = CLIENTS.finding(where, worst.severity, text, evidence, cause=True)
    return found.model_copy(update={"issue": ISSUE_5851})


def _causing(crowded: Finding, storm: Finding) -> Finding:
    return crowded.model_copy(
        update={
            "severity": storm.severity,
            "cause": True,
            "sentence": f"{crowded.sentence} {storm.sentence}",
            "issue": storm.issue,
        }
    )


def _groups(snapshot: Snapshot, assets: Assets, thresholds: Thresholds) -> list[Finding]:
    if assets.most < thresholds["mqtt_groups"]:
        return []
    server = max(sorted(assets.groups), key=lambda s: assets.groups[s])
    of_all = ha_assets(snapshot, server).count
    share = f" of {of_all}" if of_all else ""
    text = (
        f"MQTT of account {assets.account} needs {assets.most}{share} Raft groups on {server}: {assets.subscriptions} subscriptions of {assets.sessions} "
        f"sessions, with {assets.replicas} replicas each. Every group sends heartbeats, and each restart elects all of their leaders."
    )
    evidence: JsonObject = {
        "groups": dict(assets.groups),
        "sessions": assets.sessions,
        "subscriptions": assets.subscriptions,
    }
    where = Subject(cluster=snapshot.cluster, account=assets.account)
    return [ASSETS.finding(where, Severity.WARNING, text, evidence)]


def _idle(snapshot: Snapshot, assets: Assets, clients: Population, thresholds: Thresholds) -> list[Finding]:
    """Sessions of devices that are not there keep their consumers. Judged only where every server told its clients."""
    here = clients.by_account[assets.account]
    gone = assets.sessions - here
    if not clients.whole or assets.sessions < ENOUGH_CLIENTS or gone < assets.sessions * thresholds["idle_sessions"]:
        return []
    text = f"{gone} of {assets.sessions} MQTT sessions of account {assets.account} have no client connected; their consumers stay all the same."
    evidence: JsonObject = {
        "sessions": assets.sessions,
        "idle sessions": gone,
        "clients": here,
        "subscriptions": assets.subscriptions,
    }
    return [ASSETS.finding(of_stream(snapshot, StreamKey(assets.account, SESSIONS)), Severity.WARNING, text, evidence)]


def _subscription_limit(snapshot: Snapshot, jsz: Facts, assets: Assets, thresholds: Thresholds) -> list[Finding]:
    """From 2.15 on a stream without a limit of its own has `limits.default_max_consumers`, 1,000 unless configured (seen on 2.15.1: error 10026)."""
    limits = [
        int(limit)
        for server, raw in jsz.answers.items()
        if "default_max_consumers" in part(raw, "limits")
        and (limit := jsz.number(server, part(raw, "limits"), "default_max_consumers")) is not None
    ]
    limit = min((each for each in limits if each > 0), default=0)
    # More than the limit means that the account has one of its own, which replaces it.
    if assets.own_limit > 0 or not limit or not thresholds["mqtt_consumers"] * limit <= assets.subscriptions <= limit:
        return []
    text = (
        f"MQTT of account {assets.account} has {assets.subscriptions} QoS 1 and 2 subscriptions, and the servers allow a stream {limit} consumers: "
        "further subscriptions are refused."
    )
    level = Severity.CRITICAL if assets.subscriptions == limit else Severity.WARNING
    evidence: JsonObject = {"subscriptions": assets.subscriptions, "default_max_consumers": limit}
    where = of_stream(snapshot, StreamKey(assets.account, MESSAGES))
    return [ASSETS.finding(where, level, text, evidence, cause=assets.subscriptions == limit)]


def _max_consumers(config: JsonObject) -> int:
    value: object = config.get("max_consumers")
    return value if isinstance(value, int) else -1
