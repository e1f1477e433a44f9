"""The JetStream API can't follow (family D, nats-server #5851): long queues, a server that does the others' work, MQTT clients in a storm.

Every request reaches the queue of every server, and only the one that has to answer works it; a queue at its limit is emptied, and its clients time out.
Counters of CPU, memory, connections, API errors and Raft groups are the cluster audit's to judge. Facts: reference/nats.md 1.D, reference/drills.md 5.
"""

from __future__ import annotations

from bot.model import Endpoint
from bot.runbook import Check, Runbook, Threshold, Unit
from runbooks._audit_shared import META_MEMBERS_ONLINE, ONE_META_LEADER, SERVERS_ANSWER
from runbooks._deploy_checks import MEMORY, RESOURCE_THRESHOLDS, RESOURCES
from runbooks._overload_guidance import propose
from runbooks._overload_mqtt import ASSETS, CLIENTS, mqtt_clients_are_spread, mqtt_needs_few_groups
from runbooks._overload_offers import SHED_THRESHOLDS
from runbooks._overload_queues import API, OTHERS, api_queues_are_short, other_queues_are_short
from runbooks._overload_servers import CONNECTS, HOT, clients_connect_slowly, no_server_is_hot
from runbooks._queue_charts import overload_charts

_VARZ, _JSZ, _CONNZ = (frozenset({e}) for e in (Endpoint.VARZ, Endpoint.JSZ, Endpoint.CONNZ))
_QUEUES = frozenset({Endpoint.IPQUEUESZ})

THRESHOLDS = (
    Threshold(
        "queue_limit",
        10_000,
        Unit.COUNT,
        "API requests that may wait on a server before it drops all of them (request_queue_limit; no version reports it).",
    ),
    Threshold("backlog", 0.1, Unit.RATIO, "Share of queue_limit from which on waiting API requests are a backlog."),
    Threshold("full", 0.5, Unit.RATIO, "Share of queue_limit from which on one reading is enough to call it critical."),
    Threshold("queue", 1_000, Unit.COUNT, "Items from which on any other internal queue is too long."),
    Threshold("hot_cpu", 0.7, Unit.RATIO, "Share of its CPU from which on a server is busy."),
    Threshold("uneven", 2.0, Unit.FACTOR, "How many times its fair share of leaders or clients a server may carry."),
    Threshold("mqtt_clients", 20_000, Unit.COUNT, "MQTT clients from which on one server has too many."),
    Threshold("mqtt_groups", 1_000, Unit.COUNT, "Raft groups from which on MQTT of one account needs too many."),
    Threshold(
        "mqtt_consumers", 0.9, Unit.RATIO, "Share of a stream's consumers from which on MQTT subscriptions get scarce."
    ),
    Threshold(
        "idle_sessions", 0.5, Unit.RATIO, "Share of MQTT sessions without a client from which on they are a burden."
    ),
    Threshold("connects", 50, Unit.COUNT, "New clients a second from which on a server can hardly set them up."),
    *SHED_THRESHOLDS,
    *RESOURCE_THRESHOLDS,
)

RUNBOOK = Runbook(
    code="OVERLOAD",
    title="The JetStream API is overloaded",
    alerts=frozenset(
        {
            # Our own source of this name is the advisory $JS.EVENT.ADVISORY.API.LIMIT_REACHED.
            "NatsJetStreamApiLimitReached",
            # Rules on `jetstream_stats_api_inflight`, surveyor's `api_pending` and IPQUEUESZ (reference/nats.md 5).
            "NatsJetStreamApiQueueHigh",
            "NatsJetStreamApiPendingHigh",
            "NatsJetStreamApiInflightHigh",
            "NatsHighApiInflight",
            "NatsJetStreamApiSlow",
            "NatsJetStreamHaAssetsHigh",
            "NatsMqttClientsHigh",
            "NatsMqttConnectionsHigh",
            "NatsMqttClientsUneven",
            "NatsConnectionsUneven",
            "NatsLeadersUneven",
        }
    ),
    thresholds=THRESHOLDS,
    checks=(
        SERVERS_ANSWER,
        META_MEMBERS_ONLINE,
        ONE_META_LEADER,
        Check(
            API.code,
            API.layer,
            "No server has a backlog of JetStream API requests.",
            _QUEUES | _VARZ,
            api_queues_are_short,
            trend=_QUEUES | _VARZ,
        ),
        Check(
            OTHERS.code,
            OTHERS.layer,
            "No other internal queue of a server piles up.",
            _QUEUES,
            other_queues_are_short,
            trend=_QUEUES,
        ),
        Check(
            HOT.code,
            HOT.layer,
            "No busy server carries much more than its share of leaders and clients.",
            _VARZ | _JSZ | _QUEUES,
            no_server_is_hot,
            trend=_VARZ | _QUEUES,
        ),
        Check(
            ASSETS.code,
            ASSETS.layer,
            "MQTT sessions and subscriptions stay within what the servers carry.",
            _VARZ | _JSZ | _CONNZ,
            mqtt_needs_few_groups,
        ),
        Check(
            CLIENTS.code,
            CLIENTS.layer,
            "MQTT clients are spread over the servers, and do not all come at once.",
            _VARZ | _CONNZ | _JSZ | _QUEUES,
            mqtt_clients_are_spread,
        ),
        Check(
            CONNECTS.code,
            CONNECTS.layer,
            "Clients connect no faster than the servers can set them up.",
            _VARZ | _CONNZ,
            clients_connect_slowly,
            trend=_VARZ,
        ),
        RESOURCES,
        MEMORY,
    ),
    propose=propose,
    rounds=3,
    interval=2.0,
    sources=(
        "nats-server #5851: a node goes down behind 20,000 MQTT clients",
        "nats-server server/jetstream_api.go: the API queue holds 10,000 requests from 2.10.21 on, then all are dropped",
        "nats-server #6833: mqtt.js_api_timeout from 2.11.3 on",
    ),
    charts=overload_charts,
)
