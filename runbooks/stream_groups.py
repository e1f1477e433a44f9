"""Sick stream groups (family E): no quorum, an only holder that is away, two histories of one stream, members that are lost, late or different.

A stream group's health can't be told from one server, one reading or one health check: all of them say *ok* while a group without its only full copy
serves an empty stream (reference/drills.md 3.2 and 3.7). So each server's own view is compared with the others' and with the reading before.
"""

from __future__ import annotations

from bot.model import Endpoint
from bot.runbook import Runbook, Threshold, Unit
from runbooks._consumer_views import SETTLE
from runbooks._shared_checks import META_QUORUM, SERVER_ANSWERS, STREAM_QUORUM
from runbooks._stream_charts import stream_charts
from runbooks._stream_checks import (
    BEHIND,
    LAG,
    MEMBERS,
    NODE,
    SEEN,
    SPLIT,
    members_are_heard,
    members_have_nodes,
    members_keep_up,
    one_leader_each,
)
from runbooks._stream_guidance import propose
from runbooks._stream_sync import CONSUMER_SYNC, STREAM_SYNC, consumer_replicas_agree, stream_replicas_agree
from runbooks._stream_timeline import HOLDER, TIMELINE, holders_answer, one_history

_JSZ = frozenset({Endpoint.JSZ})
_VIEWS = frozenset({Endpoint.VARZ, Endpoint.JSZ})
_NODES = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.RAFTZ, Endpoint.HEALTHZ})

RUNBOOK = Runbook(
    code="STREAM_GROUPS",
    title="A stream's replicas are in trouble",
    alerts=frozenset(
        {
            # Our own source is the advisory $JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED, and that of consumers: members that are lost, late or silent elect.
            "NatsLeaderElectionStorm",
            "NatsStreamLeaderless",
            "NatsStreamQuorumLost",
            "NatsStreamReplicaLagging",
            "NatsStreamReplicasOffline",
            "NatsStreamReplicasUnsynced",
            "NatsStreamSplit",
            "NatsStreamUnavailable",
        }
    ),
    thresholds=(
        Threshold(
            SETTLE,
            5.0,
            Unit.SECONDS,
            "How long a group must be seen sick before it is called broken; after a scale-up or a restart it is for seconds anyway.",
        ),
        Threshold(SEEN, 5.0, Unit.SECONDS, "How long ago a leader may have heard a member."),
        Threshold(BEHIND, 200, Unit.OPERATIONS, "How many operations a member may lag behind its leader."),
    ),
    checks=(
        SERVER_ANSWERS,
        META_QUORUM,
        # Before the quorum: a history that a clean-up is about to delete does not wait.
        TIMELINE.check("All copies of a stream are of one history.", _NODES, one_history, trend=_JSZ),
        STREAM_QUORUM,
        HOLDER.check("Every stream has a server that holds it.", _VIEWS, holders_answer, trend=_JSZ),
        NODE.check("Every member of a stream holds it and runs its Raft node.", _NODES, members_have_nodes, trend=_JSZ),
        SPLIT.check(
            "No stream has a second server that takes itself for its leader.", _VIEWS, one_leader_each, trend=_JSZ
        ),
        MEMBERS.check(
            "Every stream has all its members, and its leader hears them.",
            # Routes show whether a member that nobody hears lives.
            _VIEWS | {Endpoint.ROUTEZ},
            members_are_heard,
            trend=_JSZ,
        ),
        LAG.check("Every member of a stream keeps up with its leader.", _VIEWS, members_keep_up, trend=_JSZ),
        STREAM_SYNC.check("The replicas of a stream hold the same.", _VIEWS, stream_replicas_agree, trend=_JSZ),
        CONSUMER_SYNC.check(
            "The replicas of a consumer stand at the same position.", _VIEWS, consumer_replicas_agree, trend=_JSZ
        ),
    ),
    propose=propose,
    rounds=2,
    interval=5.0,
    sources=(
        "nats-server #6838, #6851, #6856: what a scale-up can do to a stream, and the versions that are safe",
        "nats-server server/jetstream_cluster.go: orphaned streams are deleted 30 s after the meta log is read",
        "nats server check jetstream, and the hidden nats server stream-check and consumer-check",
    ),
    charts=stream_charts,
)
