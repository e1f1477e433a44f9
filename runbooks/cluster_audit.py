"""The audit of a whole cluster: the 21 checks of `nats audit analyze` with their meaning and thresholds, and what these lack.

Differences to `nats audit`, all on purpose: a fact that can't be read is UNKNOWN and not skipped; slow consumers are counted between two readings;
a lag that shrinks, an election and an upgrade under way are warnings that say wait. Findings name their counterpart (reference/nats.md 2.1).
"""

from __future__ import annotations

from bot.model import Endpoint
from bot.runbook import Runbook, Threshold, Unit
from runbooks import _audit_cluster as cluster
from runbooks import _audit_metadata as metadata
from runbooks import _audit_replicas as replicas
from runbooks import _audit_servers as servers
from runbooks import _audit_streams as streams
from runbooks import _audit_versions as versions
from runbooks._audit_charts import audit_charts
from runbooks._audit_guidance import propose
from runbooks._audit_shared import (
    JETSTREAM_RUNS,
    META_MEMBERS_ONLINE,
    ONE_META_LEADER,
    RESOURCES_SUFFICE,
    SERVERS_ANSWER,
    STREAM_THRESHOLDS,
    STREAMS_BELOW_LIMITS,
    USE_THRESHOLDS,
)

_VARZ, _JSZ, _HEALTHZ = frozenset({Endpoint.VARZ}), frozenset({Endpoint.JSZ}), frozenset({Endpoint.HEALTHZ})

THRESHOLDS = (
    Threshold("cpu", 0.9, Unit.RATIO, "Share of a server's cores in use above which it is overloaded."),
    *USE_THRESHOLDS,
    Threshold("memory_limit", 0.9, Unit.RATIO, "Share of GOMEMLIMIT above which a server's memory gets tight."),
    Threshold("connections", 0.9, Unit.RATIO, "Share of max_connections above which connections get scarce."),
    Threshold("slow_consumers", 0, Unit.COUNT, "Slow consumers between two readings that are accepted."),
    Threshold("api_inflight", 1_000, Unit.COUNT, "JetStream API requests under way on a server that are accepted."),
    Threshold("api_errors", 5, Unit.COUNT, "JetStream API errors between two readings that are accepted."),
    Threshold("tls_warning", 30, Unit.DAYS, "Days before a certificate's end from which on it is a warning."),
    Threshold("tls_critical", 7, Unit.DAYS, "Days before a certificate's end from which on it is critical."),
    Threshold("memory_outlier", 1.5, Unit.FACTOR, "How many times the cluster's mean memory a server may use."),
    Threshold("ha_assets", 1_000, Unit.COUNT, "Raft groups that a server may run."),
    Threshold("account_connections", 0.9, Unit.RATIO, "Share of an account's connections above which they get scarce."),
    Threshold(
        "account_subscriptions", 0.9, Unit.RATIO, "Share of an account's subscriptions above which they get scarce."
    ),
    Threshold("replica_lag", 0.1, Unit.RATIO, "Share of the highest last sequence that a replica may be behind."),
    Threshold("subjects", 1_000_000, Unit.COUNT, "Subjects that a stream may hold."),
    *STREAM_THRESHOLDS,
    Threshold(
        "restart_grace", 900, Unit.SECONDS, "How long after a server's start different versions may be an upgrade."
    ),
    *replicas.TIMES,
    Threshold("clock_skew", 2, Unit.SECONDS, "How far clocks may be apart."),
)

RUNBOOK = Runbook(
    code="CLUSTER_AUDIT",
    title="Audit of the whole cluster",
    alerts=frozenset(
        {
            # github.com/samber/awesome-prometheus-alerts, dist/rules/nats/nats-exporter.yml, in its spellings of several years.
            "NatsServerDown",
            "NatsHighCpuUsage",
            "HighNatsCpuUsage",
            "NatsHighMemoryUsage",
            "NatsHighConnectionCount",
            "NatsHighNumberOfConnections",
            "HighNatsConnections",
            "NatsHighPendingBytes",
            "NatsMessagesPending",
            "NatsHighSubscriptionsCount",
            "NatsHighNumberOfSubscriptions",
            "NatsSubscriptionsExceeded",
            "NatsSlowConsumers",
            "NatsTooManyErrors",
            "NatsErrors",
            "NatsJetstreamAccountsExceeded",
            "NatsLeafNodeConnectionIssue",
            "NatsLeafNodeIssues",
        }
    ),
    thresholds=THRESHOLDS,
    checks=(
        SERVERS_ANSWER,
        versions.VERSIONS.check("All servers run the same version.", _VARZ, versions.one_version),
        versions.CLOCKS.check("The clocks of all servers agree.", _VARZ | _JSZ, versions.clocks_agree),
        META_MEMBERS_ONLINE,
        ONE_META_LEADER,
        servers.HEALTH.check("Every server says that it is healthy.", _HEALTHZ, servers.servers_healthy),
        JETSTREAM_RUNS,
        servers.API.check("The JetStream API has no backlog and few errors.", _VARZ, servers.api_keeps_up, _VARZ),
        cluster.GATEWAYS.check(
            "All servers of a cluster have the same gateways.",
            _VARZ | {Endpoint.GATEWAYZ},
            cluster.gateways_are_uniform,
        ),
        cluster.CLUSTER_NAME.check("No cluster has a blank in its name.", _VARZ, cluster.cluster_names_are_plain),
        cluster.LEAF_NAME.check(
            "No leafnode has a blank in its name.", _VARZ | {Endpoint.LEAFZ}, cluster.leaf_names_are_plain
        ),
        versions.DRIFT.check("The servers of a cluster run with the same settings.", _VARZ, versions.one_configuration),
        servers.CPU.check("Every server has CPU left.", _VARZ, servers.cpu_is_free, _VARZ),
        cluster.MEMORY.check("No server uses much more memory than its cluster.", _VARZ, cluster.memory_is_even),
        servers.MEMORY_LIMIT.check("Every server stays below its memory limit.", _VARZ, servers.memory_below_limit),
        RESOURCES_SUFFICE,
        servers.DOMAIN.check("No JetStream domain has a blank in its name.", _JSZ, servers.domains_are_plain),
        cluster.HA_ASSETS.check("No server runs too many Raft groups.", _JSZ, cluster.few_ha_assets),
        streams.LAG.check("All replicas of a stream keep up.", _JSZ, streams.replicas_keep_up, _JSZ),
        streams.SUBJECTS.check("No stream holds too many subjects.", _JSZ, streams.subjects_are_bounded),
        STREAMS_BELOW_LIMITS,
        metadata.STREAM_WATCH.check(
            "Streams are as their metadata io.nats.monitor.* asks.", _JSZ, metadata.streams_as_asked
        ),
        metadata.CONSUMER_WATCH.check(
            "Consumers are as their metadata io.nats.monitor.* asks.", _JSZ, metadata.consumers_as_asked
        ),
        servers.SLOW.check("No client is cut off for being too slow.", _VARZ, servers.no_slow_consumers, _VARZ),
        servers.CONNECTIONS.check("Every server takes further clients.", _VARZ, servers.connections_left),
        cluster.ACCOUNTS.check(
            "No account comes near its limits.", _VARZ | {Endpoint.ACCOUNTZ}, cluster.accounts_below_limits
        ),
        servers.TLS.check("No certificate ends soon.", _VARZ, servers.certificates_last),
        servers.AUTH.check("Every server requires authentication.", _VARZ, servers.clients_authenticate),
        replicas.REPLICAS.check(
            "Every stream has an odd number of replicas above 1.", _JSZ, replicas.replica_counts_help
        ),
        versions.DEFECTS.check("No server's version has a known defect.", _VARZ, versions.no_known_defect),
    ),
    propose=propose,
    rounds=2,
    interval=5.0,
    charts=audit_charts,
    sources=(
        "nats-io/jsm.go audit: the 21 checks of nats audit analyze and their thresholds",
        "nats-io/jsm.go monitor: the metadata keys io.nats.monitor.*",
        "CVE-2025-30215, CVE-2026-33222, and the nats-server issues that AUDIT_DEFECTS names",
    ),
)
