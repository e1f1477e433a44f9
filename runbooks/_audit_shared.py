"""Checks of the audit that other runbooks need as well, to rank what they find: a silent server and a missing meta leader explain much. Pure.

One record, so one check: a report that runs several runbooks tells it once.
"""

from __future__ import annotations

from typing import Final

from bot.model import Endpoint
from bot.runbook import Threshold, Unit
from runbooks import _audit_cluster as cluster
from runbooks import _audit_servers as servers
from runbooks import _audit_streams as streams
from runbooks import _audit_versions as versions

_VARZ, _JSZ, _HEALTHZ = (frozenset({e}) for e in (Endpoint.VARZ, Endpoint.JSZ, Endpoint.HEALTHZ))

SERVERS_ANSWER = servers.ANSWERS.check("Every server answers.", _VARZ, servers.servers_answer)
META_MEMBERS_ONLINE = cluster.META_OFFLINE.check(
    "No member of the meta group is offline.", _JSZ, cluster.meta_members_online
)
ONE_META_LEADER = cluster.META_LEADER.check(
    "All servers name one meta leader.", _JSZ | _VARZ, cluster.one_meta_leader, _JSZ
)
JETSTREAM_RUNS = versions.MIX.check(
    "JetStream runs on all servers of a cluster or on none.",
    _JSZ | _VARZ | _HEALTHZ,
    versions.jetstream_is_uniform,
)
RESOURCES_SUFFICE = servers.RESOURCES.check("JetStream has room on every server.", _JSZ, servers.resources_suffice)
STREAMS_BELOW_LIMITS = streams.STREAM_LIMITS.check(
    "No stream comes near its limits.", _JSZ, streams.streams_below_limits
)

USE_THRESHOLDS: Final = (
    Threshold("memory", 0.9, Unit.RATIO, "Share of JetStream's memory in use above which it gets tight."),
    Threshold("store", 0.9, Unit.RATIO, "Share of JetStream's storage in use above which it gets tight."),
)
STREAM_THRESHOLDS: Final = (
    Threshold("stream_messages", 0.9, Unit.RATIO, "Share of a stream's max_msgs above which it is nearly full."),
    Threshold("stream_bytes", 0.9, Unit.RATIO, "Share of a stream's max_bytes above which it is nearly full."),
    Threshold("stream_consumers", 0.9, Unit.RATIO, "Share of a stream's max_consumers above which it is nearly full."),
)
