"""What each alert rule fires on, and what it is quiet on though it looks alike: minutes of samples, in promtool's notation."""

from __future__ import annotations

from typing import Final, NamedTuple

Series = dict[str, str]
"""Series to samples, one a minute: `1x9` is ten times 1, `0+2x9` grows by 2."""


class Claim(NamedTuple):
    """A rule, how many alerts it has fired after `minutes`, and on what."""

    alert: str
    series: Series
    minutes: int
    fires: int


def _servers(name: str, *values: str) -> Series:
    return {f'{name}{{job="nats",cluster="prod",instance="n{i}"}}': value for i, value in enumerate(values, start=1)}


def _consumer(prefix: str, leader: str, **values: str) -> Series:
    about = f'account="APP",stream_name="ORDERS",consumer_name="worker",server_name="n1",is_consumer_leader="{leader}"'
    return {f"{prefix}_consumer_{name}{{{about}}}": value for name, value in values.items()}


def _stream(prefix: str, *leads: str) -> Series:
    about = 'account="APP",stream_name="ORDERS"'
    return {
        f'{prefix}_stream_total_messages{{{about},server_name="n{i}",is_stream_leader="{lead}"}}': "5x30"
        for i, lead in enumerate(leads)
    }


def _pod(pod: str, samples: str) -> Series:
    return {f'kube_pod_status_ready{{condition="true",namespace="nats",pod="{pod}"}}': samples}


def _pair(alert: str, fires_on: Series, quiet_on: Series, minutes: int, fires: int = 1) -> list[Claim]:
    return [Claim(alert, fires_on, minutes, fires), Claim(alert, quiet_on, minutes, 0)]


def _of_exporter(varz: str, jsz: str) -> list[Claim]:
    """The rules on prometheus-nats-exporter, under one of its two ways to name things."""
    api = f"{varz}_jetstream_stats_api"
    used, most = f"{varz}_jetstream_stats", f"{varz}_jetstream_config_max"
    stuck = {"num_pending": "7x30", "num_waiting": "1x30"}
    remotes, routes = f"{varz}_remotes", f"{varz}_routes"
    gib = 1024**3
    return [
        *_pair(
            "NatsHighMemoryUsage",
            _servers(f"{varz}_mem", f"{4 * gib}x30", f"{gib}x30", f"{gib}x30"),
            _servers(f"{varz}_mem", f"{gib}x30", f"{gib // 8}x30", f"{gib // 8}x30"),
            20,
        ),
        *_pair(
            "NatsSlowConsumers",
            _servers(f"{varz}_slow_consumers", "0x4 3x9"),
            _servers(f"{varz}_slow_consumers", "3x15"),
            6,
        ),
        *_pair(
            "NatsRoutesUneven", _servers(routes, "8x30", "4x30", "8x30"), _servers(routes, "8x30", "8x30", "8x30"), 12
        ),
        *_pair(
            "NatsRouteMissing", _servers(remotes, "2x30", "1x30", "2x30"), _servers(remotes, "2x30", "2x30", "2x30"), 7
        ),
        *_pair(
            "NatsRouteMeshIncomplete",
            _servers(routes, "7x30", "8x30") | _servers(remotes, "2x30", "2x30"),
            _servers(routes, "8x30", "4x30", "0x30") | _servers(remotes, "2x30", "1x30", "0x30"),
            7,
        ),
        *_pair(
            "NatsJetStreamApiInflightHigh",
            _servers(f"{api}_inflight", "1001x9"),
            _servers(f"{api}_inflight", "1000x9"),
            3,
        ),
        *_pair("NatsTooManyErrors", _servers(f"{api}_errors", "0+2x30"), _servers(f"{api}_errors", "0+1x30"), 15),
        *_pair(
            "NatsJetStreamHaAssetsHigh",
            _servers(f"{used}_ha_assets", "1001x30"),
            _servers(f"{used}_ha_assets", "1000x30"),
            17,
        ),
        *_pair(
            "NatsHighJetstreamStoreUsage",
            _servers(f"{used}_storage", "81x30", "81x30") | _servers(f"{most}_storage", "100x30", "0x30"),
            _servers(f"{used}_storage", "80x30") | _servers(f"{most}_storage", "100x30"),
            7,
        ),
        *_pair(
            "NatsHighJetstreamMemoryUsage",
            _servers(f"{used}_memory", "81x30") | _servers(f"{most}_memory", "100x30"),
            _servers(f"{used}_memory", "80x30") | _servers(f"{most}_memory", "100x30"),
            7,
        ),
        *_pair("NatsStreamLeaderless", _stream(jsz, "false", "false"), _stream(jsz, "true", "false"), 4),
        *_pair(
            "NatsConsumerLeaderless",
            _consumer(jsz, "false", num_pending="7x30"),
            _consumer(jsz, "false", num_pending="7x30") | _consumer(jsz, "true", num_pending="7x30"),
            4,
        ),
        *_pair(
            "NatsConsumerNotDelivering",
            _consumer(jsz, "true", delivered_consumer_seq="9x30", **stuck),
            _consumer(jsz, "true", delivered_consumer_seq="9x12 1x20", **stuck),
            20,
        ),
        Claim(
            "NatsConsumerNotDelivering",
            _consumer(jsz, "true", delivered_consumer_seq="9x30", num_pending="7x30", num_waiting="0x30"),
            20,
            0,
        ),
    ]


NATS: Final = [
    *_pair("NatsServerDown", {'up{job="nats",instance="n1"}': "0x9"}, {'up{job="natsmedic",instance="b"}': "0x9"}, 3),
    *_of_exporter("gnatsd_varz", "jetstream"),
    *_of_exporter("nats_varz", "nats"),
    *_pair("NatsNotReady", _pod("prod-nats-0", "0x9"), _pod("natsmedic-0", "0x9") | _pod("nats-1", "0x3 1x6"), 6),
    *_pair("NatsReadinessFlapping", _pod("nats-0", "1 0 1 0 1 0 1x9"), _pod("nats-0", "1 0 1 0 1x9"), 10),
    *_pair(
        "NatsMetaPeerNotCurrent",
        {'nats_core_jetstream_cluster_raft_group_replica_peer_current{server_name="n1"}': "0x9"},
        {'nats_core_jetstream_cluster_raft_group_replica_peer_current{server_name="n1"}': "0x3 1x6"},
        6,
    ),
    *_pair(
        "NatsStreamQuorumLost",
        {"nats_jetstream_stream_quorum_lost": "0 0 1x9"},
        {"nats_jetstream_stream_quorum_lost": "1x9"},
        4,
    ),
    *_pair(
        "NatsConsumerQuorumLost",
        {"nats_jetstream_consumer_quorum_lost": "0 0 1x9"},
        {"nats_jetstream_consumer_quorum_lost": "1x9"},
        4,
    ),
]


def _bot(**values: str) -> Series:
    return {f'natsmedic_{name}{{job="natsmedic",instance="b"}}': value for name, value in values.items()}


TWO: Series = {'natsmedic_leads{job="natsmedic",instance="a"}': "0x9"}
"""A replica that does not lead, beside the one that is asked about."""


def _calls(system: str, operation: str, **ends: str) -> Series:
    about = f'job="natsmedic",instance="b",system="{system}",cluster="prod",operation="{operation}"'
    return {f'natsmedic_calls_total{{{about},outcome="{end}"}}': samples for end, samples in ends.items()}


def _received(route: str, status: str, samples: str) -> Series:
    return {f'natsmedic_http_requests_total{{job="natsmedic",instance="b",route="{route}",status="{status}"}}': samples}


BOT: Final = [
    *_pair(
        "NatsmedicDown", {'up{job="natsmedic",instance="b"}': "0x9"}, {'up{job="natsmedic",instance="b"}': "0 0 1x9"}, 3
    ),
    *_pair("NatsmedicStoreUnreadable", _bot(store_readable="0x9"), _bot(store_readable="1x9"), 3),
    *_pair("NatsmedicLoopBlocked", _bot(loop_lag_seconds="1.1x9"), _bot(loop_lag_seconds="1.0x9"), 3),
    *_pair("NatsmedicSweepLate", _bot(sweep_age_seconds="61x9"), _bot(sweep_age_seconds="60x9"), 3),
    *_pair("NatsmedicNobodyLeads", TWO | _bot(leads="0x9"), TWO | _bot(leads="1x9"), 3),
    *_pair(
        "NatsmedicDeliveriesWaiting",
        _bot(deliveries_waiting_oldest_seconds="61x9"),
        _bot(deliveries_waiting_oldest_seconds="60x9"),
        3,
    ),
    *_pair(
        "NatsmedicNothingReceived",
        _bot(build_info="1x200")
        | _received("/webhooks/am", "202", "9x200")
        | _received("/webhooks/am", "401", "0+1x200")
        | _received("/readyz", "200", "0+1x200"),
        _bot(build_info="1x200") | _received("/webhooks/am", "202", "0+1x200"),
        130,
    ),
    Claim("NatsmedicNothingReceived", _bot(build_info="1x200"), 130, 1),
    *_pair("NatsmedicChatBehind", _bot(chat_behind_oldest_seconds="61x9"), _bot(chat_behind_oldest_seconds="60x9"), 3),
    *_pair(
        "NatsmedicSlackFailing",
        _calls("slack", "chat.update", ok="0+4x30", limited="0+5x30"),
        _calls("slack", "chat.update", ok="0+5x30", limited="0+5x30"),
        12,
    ),
    *_pair(
        "NatsmedicClusterUnreadable",
        _calls("nats", "gather", ok="9x40", unreachable="0+1x40"),
        _calls("nats", "gather", ok="0+0.2x40", unreachable="0+1x40"),
        30,
    ),
    *_pair(
        "NatsmedicOutcomeUnknown",
        {'natsmedic_active_executions{state="unknown"}': "1x9"},
        {'natsmedic_active_executions{state="applying"}': "1x9", 'natsmedic_locks_held{state="applying"}': "1x9"},
        6,
    ),
    Claim("NatsmedicOutcomeUnknown", {'natsmedic_locks_held{state="needs_human"}': "1x9"}, 6, 1),
    *_pair(
        "NatsmedicCheckpointOld",
        {'natsmedic_checkpoint_age_seconds{place="f"}': "301x9", 'natsmedic_checkpoint_rows_behind{place="f"}': "1x9"},
        {
            'natsmedic_checkpoint_age_seconds{place="f"}': "9999x9",
            'natsmedic_checkpoint_rows_behind{place="f"}': "0x9",
            'natsmedic_checkpoint_failing{place="f"}': "0x9",
        },
        6,
    ),
    Claim("NatsmedicCheckpointOld", {'natsmedic_checkpoint_failing{place="f"}': "1x9"}, 6, 1),
]
