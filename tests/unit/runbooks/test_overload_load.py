"""The overload runbook's servers and MQTT clients: recorded snapshots varied by hand at the thresholds, and answers that are junk."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.model import Endpoint, Sample, ServerIdentity, Snapshot, SnapshotId, canonical_json
from runbooks._overload_mqtt import mqtt_assets
from runbooks.overload import RUNBOOK
from tests.exhaustive import examples
from tests.unit.runbooks.overload_support import (
    CRITICAL,
    OK,
    REQUESTS,
    SERVERS,
    UNKNOWN,
    VERSIONS,
    WARNING,
    Change,
    Severity,
    answers,
    busy,
    examined,
    found,
    idle,
    leader,
    mqtt,
    mqtt_listeners,
    nats,
    proposed,
    queue,
    rounds,
    unread,
    varz,
    verdict,
    versions,
)
from tests.unit.snapshots import Raw, both

HOT, CONNECTS = "OVERLOAD_HOT_SERVER", "OVERLOAD_CONNECTS"
CLIENTS, ASSETS = "OVERLOAD_MQTT_CLIENTS", "OVERLOAD_MQTT_ASSETS"
LONG = queue(REQUESTS, 2000, 2000, 2000)


def leading(**counts: int) -> Change:
    """A change after which each server leads so many R3 streams, all of one model; JSZ of every server shows them all."""

    def change(raw: Raw) -> None:
        owners = [server for server, count in counts.items() for _ in range(count)]
        for name in SERVERS:
            for jsz in answers(raw, "JSZ", name):
                details = [_stream(f"S{n}", owner, name) for n, owner in enumerate(owners)]
                jsz["account_details"] = [{"name": "APP", "id": "APP", "stream_detail": details}]

    return change


def _stream(name: str, owner: str, seen_by: str) -> Raw:
    others = [{"name": s, "current": True, "active": 1} for s in SERVERS if s != owner]
    return {
        "name": name,
        "config": {"name": name, "num_replicas": 3, "retention": "limits"},
        "state": {"messages": 0},
        "cluster": {"leader": owner, "replicas": others if seen_by == owner else others[:1]},
    }


def assets(sessions: int, subscriptions: int, **config: Any) -> Change:
    """A change after which account APP has so many MQTT sessions and QoS 1 subscriptions, each a group of three."""

    def change(raw: Raw) -> None:
        for name in SERVERS:
            session, message = _stream("$MQTT_sess", "n0", name), _stream("$MQTT_msgs", "n0", name)
            session["state"]["messages"] = sessions
            message["config"] |= config
            message["consumer_detail"] = [
                {"name": f"c{n}", "config": {"durable_name": f"c{n}"}, "cluster": message["cluster"]}
                for n in range(subscriptions)
            ]
            for jsz in answers(raw, "JSZ", name):
                jsz["account_details"] = [{"name": "APP", "id": "APP", "stream_detail": [session, message]}]

    return change


def max_consumers(number: Any) -> Change:
    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["limits"] = {"default_max_consumers": number}

    return change


@pytest.mark.parametrize(("cpu", "level"), [(139.9, OK), (140.0, WARNING), (200.0, WARNING)])
def test_a_busy_server_with_most_leaders_is_hot_from_its_share_of_the_cpu_on(cpu: float, level: Severity) -> None:
    snapshot = idle(varz("n1", cpu=cpu, cores=2, gomaxprocs=2), leading(n0=5, n1=20, n2=5))
    assert found(HOT, snapshot)[0].severity is level


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ({"n0": 6, "n1": 19, "n2": 5}, OK),
        ({"n0": 5, "n1": 20, "n2": 5}, WARNING),
        ({"n0": 5, "n1": 19, "n2": 5}, OK),
        ({"n0": 0, "n1": 30, "n2": 0}, WARNING),
    ],
)
def test_a_busy_server_is_hot_from_twice_its_share_of_thirty_leaders_on(
    counts: dict[str, int], level: Severity
) -> None:
    assert found(HOT, idle(varz("n1", cpu=190, cores=2), leading(**counts)))[0].severity is level


def test_the_cpu_that_a_container_may_use_counts_and_not_the_cores_of_its_node() -> None:
    snapshot = idle(varz("n1", cpu=190, cores=64, gomaxprocs=2), leading(n1=30))
    finding = found(HOT, snapshot)[0]
    assert (finding.severity, "uses 95% of its CPU" in finding.sentence) == (WARNING, True)
    assert "30 of 30 stream and consumer leaders" in finding.sentence
    titles = [p.draft.title for p in proposed(snapshot)]
    assert titles[:2] == ["Move leaders off server n1", "Give the servers CPU"]


def test_a_server_with_a_backlog_and_most_clients_is_hot() -> None:
    def crowd(raw: Raw) -> None:
        for server in SERVERS:
            varz(server, connections=90 if server == leader(raw) else 5)(raw)

    finding = found(HOT, idle(LONG, crowd))[0]
    assert (finding.severity, finding.evidence["waiting"]) == (WARNING, {finding.subject.server: 2000})
    assert (
        "has 2000 API requests waiting: it has 90 of 100 client connections and leads the meta group"
        in finding.sentence
    )
    assert found(HOT, idle(queue(REQUESTS, 6000, 4000, 2000), crowd))[0].severity is OK


def test_neither_load_without_a_sign_nor_a_sign_without_load_makes_a_server_hot() -> None:
    assert found(HOT, idle(leading(n1=30)))[0].severity is OK
    assert found(HOT, idle(LONG))[0].severity is OK


def test_what_a_hot_server_is_behind_with_is_told_and_its_counters_are_evidence() -> None:
    def lags(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for stream in jsz["account_details"][0]["stream_detail"][:3]:
                for replica in stream["cluster"]["replicas"]:
                    replica["current"] = replica["name"] != "n1"

    fields = {"cpu": 190, "cores": 2, "stalled_clients": 7, "gomemlimit": 2**30, "mem": 2**29}
    finding = found(HOT, idle(varz("n1", **fields), leading(n0=10, n1=20), lags))[0]
    assert "As follower it is behind in 3 groups" in finding.sentence
    assert finding.evidence["stalled_clients"] == 7
    assert finding.evidence["memory"] == "512.0 MiB of GOMEMLIMIT 1.0 GiB"


@pytest.mark.parametrize("fields", [{"cpu": "high"}, {"cores": 0}, {"gomaxprocs": "two"}, {"connections": None}])
def test_a_load_that_cannot_be_read_is_unknown(fields: Raw) -> None:
    assert found(HOT, idle(varz("n1", **fields)))[0].severity is UNKNOWN


@pytest.mark.parametrize(("count", "level"), [(499, OK), (500, WARNING)])
def test_clients_that_connect_too_fast_are_counted_over_ten_seconds(count: int, level: Severity) -> None:
    assert found(CONNECTS, idle(rounds(1), nats(ago=10, n1=count)))[0].severity is level
    assert found(CONNECTS, idle(rounds(1), nats(ago=10.1, n1=count)))[0].severity is OK


@pytest.mark.parametrize(("grown", "level"), [(0.9, OK), (1.1, WARNING), (-1.0, OK)])
def test_clients_that_connect_too_fast_are_seen_in_the_counter_between_readings(grown: float, level: Severity) -> None:
    taken = sorted({s.taken_at for s in idle().samples if (s.server, s.endpoint) == ("n1", Endpoint.VARZ)})
    new = round(50 * (taken[-1] - taken[0]).total_seconds() * grown)
    snapshot = idle(varz("n1", at=0, total_connections=1000), varz("n1", at=2, total_connections=1000 + new))
    assert found(CONNECTS, snapshot)[0].severity is level


def test_who_connects_is_unknown_where_connz_is() -> None:
    assert found(CONNECTS, idle(unread("CONNZ", server="n2", reason="denied")))[0].severity is UNKNOWN


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_mqtt_devices_and_their_groups_are_counted(version: str) -> None:
    snapshot = busy(version)
    (only,) = mqtt_assets(snapshot)
    assert (only.account, only.sessions, only.subscriptions, only.replicas) == ("APP", 4, 4, 3)
    # Five streams and four consumers; a consumer for retained messages has one replica.
    assert {server: only.groups[server] for server in SERVERS} == dict.fromkeys(SERVERS, 9)
    assert found(ASSETS, snapshot)[0].severity is OK
    assert found(ASSETS, snapshot, mqtt_groups=10)[0].severity is OK
    finding = found(ASSETS, snapshot, mqtt_groups=9)[0]
    assert finding.severity is WARNING
    assert "needs 9 of 11 Raft groups" in finding.sentence
    assert found(CLIENTS, snapshot)[0].sentence == "4 MQTT clients are on 3 servers."


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ({"n0": 66, "n1": 17, "n2": 17}, OK),
        ({"n0": 67, "n1": 17, "n2": 16}, WARNING),
        ({"n0": 99}, OK),
        ({"n0": 100}, WARNING),
        ({"n0": 40, "n1": 40, "n2": 40}, OK),
        ({}, OK),
    ],
)
def test_mqtt_clients_crowd_a_server_from_twice_its_share_of_a_hundred_on(
    counts: dict[str, int], level: Severity
) -> None:
    assert found(CLIENTS, idle(mqtt_listeners(*SERVERS), mqtt(**counts)))[0].severity is level


def test_a_crowded_server_without_any_trouble_is_the_root_of_nothing_else() -> None:
    root = verdict(idle(mqtt_listeners(*SERVERS), mqtt(n0=150))).root
    assert root is not None
    assert (root.check, root.severity, root.cause, root.subject.server) == (CLIENTS, WARNING, False, "n0")
    assert root.sentence == "Server n0 has 150 of 150 MQTT clients (n1 0, n2 0); its share is 50."


def test_only_servers_that_take_mqtt_clients_count_for_the_share() -> None:
    assert found(CLIENTS, idle(mqtt_listeners("n0"), mqtt(n0=150)))[0].severity is OK
    assert found(CLIENTS, idle(mqtt_listeners("n0", "n1"), mqtt(n0=150)))[0].severity is WARNING
    assert found(CLIENTS, idle(mqtt_listeners("n0", "n1"), mqtt(n0=100, n1=50)))[0].severity is OK


def test_nobody_is_accused_while_a_server_does_not_tell_its_clients() -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(n0=150), unread("CONNZ", server="n2"))
    assert [f.severity for f in found(CLIENTS, snapshot)] == [UNKNOWN]


@pytest.mark.parametrize(("count", "level"), [(119, OK), (120, WARNING)])
def test_too_many_mqtt_clients_on_one_server(count: int, level: Severity) -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(n0=count, n1=count, n2=count))
    assert found(CLIENTS, snapshot, mqtt_clients=120)[0].severity is level


def test_a_storm_of_mqtt_clients_is_the_root_of_a_long_queue() -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(ago=30, n0=500), LONG)
    result = verdict(snapshot)
    assert result.root is not None
    assert (result.root.check, result.root.severity, result.root.cause) == (CLIENTS, CRITICAL, True)
    assert "500 of 500 MQTT clients connected within the last 60 s" in result.root.sentence
    assert "has 2000 items in 'JetStream API queue'" in result.root.sentence
    assert result.root.issue == "nats-server #5851"
    titles = [p.draft.title for p in proposed(snapshot)]
    assert titles[:2] == [
        "Find who floods the JetStream API, and stop it",
        "Spread the MQTT clients over the servers, in slices",
    ]


def test_a_storm_that_comes_evenly_is_a_root_as_well() -> None:
    root = verdict(idle(mqtt_listeners(*SERVERS), mqtt(ago=30, n0=150, n1=150, n2=150), LONG)).root
    assert root is not None
    assert (root.check, root.subject.server, root.cause) == (CLIENTS, None, True)


@pytest.mark.parametrize(
    ("ago", "count", "queues", "storms"),
    [
        (60, 400, LONG, True),
        (61, 400, LONG, False),
        (30, 399, LONG, False),
        (30, 400, both(LONG, queue(REQUESTS, 2001, 2001, 2001, server="n1")), False),
        (30, 400, queue(REQUESTS, 999, 999, 999), False),
        (30, 1200, queue(REQUESTS, 6000, 4000, 2000), False),
        (30, 200, queue("[ACC:SYS] RAFT '_meta_' entry", 1000, 1000, 1000), True),
        (30, 200, queue("[ACC:APP] stream 'ORDERS' messages", 1000, 1000, 1000), False),
    ],
)
def test_settled_or_few_clients_or_a_draining_queue_make_no_storm(
    ago: float, count: int, queues: Change, *, storms: bool
) -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(ago=ago, n0=count // 2, n1=count - count // 2), queues)
    assert any(f.cause for f in found(CLIENTS, snapshot)) is storms


def test_settled_clients_on_one_server_do_not_hide_who_floods_the_api() -> None:
    root = verdict(idle(mqtt_listeners(*SERVERS), mqtt(n0=200), LONG)).root
    assert root is not None
    assert root.check == "OVERLOAD_API_QUEUE"


def test_a_crowd_on_a_hot_server_is_its_cause() -> None:
    busy_server = varz("n0", cpu=190, cores=2, connections=150)
    root = verdict(idle(mqtt_listeners(*SERVERS), mqtt(n0=150), busy_server)).root
    assert root is not None
    assert (root.check, root.cause) == (CLIENTS, True)
    assert "It uses 95% of its CPU" in root.sentence


@pytest.mark.parametrize(("clients", "level"), [(51, OK), (50, WARNING), (0, WARNING)])
def test_sessions_without_a_client_are_a_burden_from_half_of_them_on(clients: int, level: Severity) -> None:
    finding = found(ASSETS, idle(assets(100, 0), mqtt(n0=clients)))[0]
    assert finding.severity is level
    assert found(ASSETS, idle(assets(99, 0), mqtt(n0=0)))[0].severity is OK


def test_sessions_are_not_called_idle_while_a_server_does_not_tell_its_clients() -> None:
    findings = found(ASSETS, idle(assets(100, 0), unread("CONNZ", server="n1")))
    assert [f.severity for f in findings] == [UNKNOWN]


@pytest.mark.parametrize(
    ("subscriptions", "level"), [(89, OK), (90, WARNING), (99, WARNING), (100, CRITICAL), (101, OK)]
)
def test_subscriptions_near_the_servers_limit_of_consumers(subscriptions: int, level: Severity) -> None:
    snapshot = idle(assets(0, subscriptions), max_consumers(100))
    assert found(ASSETS, snapshot)[0].severity is level


def test_a_limit_of_the_streams_own_or_none_at_all_is_not_the_servers() -> None:
    assert found(ASSETS, idle(assets(0, 95, max_consumers=500), max_consumers(100)))[0].severity is OK
    assert found(ASSETS, idle(assets(0, 95), max_consumers(-1)))[0].severity is OK
    assert found(ASSETS, idle(assets(0, 95), max_consumers("all")))[0].severity is UNKNOWN


def test_what_lets_mqtt_need_fewer_groups_fits_the_version_and_never_deletes_a_consumer() -> None:
    def advice(number: str) -> str:
        snapshot = idle(assets(0, 100), max_consumers(100), versions(number))
        (draft,) = [p.draft for p in proposed(snapshot) if p.draft.title == "Let MQTT need fewer Raft groups"]
        assert any("Never delete consumers of $MQTT_msgs" in caution for caution in draft.cautions)
        return "\n".join(draft.guidance)

    assert "js_api_timeout" not in advice("2.11.2")
    assert "js_api_timeout" in advice("2.11.3")
    assert "default_max_consumers: -1" in advice("2.15.1")


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just([1]), st.just({})
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with one of its keys."""
    if isinstance(node, dict):
        return [(node, key) for key in node] + [place for value in node.values() for place in places(value)]
    if isinstance(node, list):
        return [(node, n) for n in range(len(node))] + [place for value in node for place in places(value)]
    return []


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(version=st.sampled_from(VERSIONS), data=st.data())
def test_no_answer_of_a_server_breaks_a_check(version: str, data: st.DataObject) -> None:
    def spoil(raw: Raw) -> None:
        for _ in range(data.draw(st.integers(1, 5))):
            open_ = [place for sample in raw["samples"] for place in places(sample["data"])]
            container, key = open_[data.draw(st.integers(0, len(open_) - 1))]
            container[key] = data.draw(JUNK)

    snapshot = busy(version, spoil)
    findings = examined(snapshot, mqtt_groups=1, queue=1)
    assert {f.check for f in findings} == {check.code for check in RUNBOOK.checks if check.applies(snapshot)}
    for finding in findings:
        canonical_json(finding.model_dump(mode="json"))
    assert proposed(snapshot)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["n0", "n1", "n2", ""]),
            st.sampled_from(sorted(RUNBOOK.needs)),
            st.dictionaries(st.sampled_from(["jetstream", "connections", "cpu", "now", REQUESTS]), JUNK),
        ),
        max_size=9,
    )
)
def test_a_snapshot_of_nothing_but_junk_is_unknown(given_answers: list[tuple[str, Endpoint, Raw]]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    snapshot = Snapshot(
        id=SnapshotId("snap_junk"),
        cluster="lab",
        taken_at=now,
        via="system account",
        servers=tuple(ServerIdentity(name=n, id=n * 2, version="2.11.11") for n in ("n0", "n1")),
        samples=tuple(Sample.of(server, endpoint, now, deepcopy(data)) for server, endpoint, data in given_answers),
        expected=frozenset({"n0", "n1", "n2"}),
    )
    findings = examined(snapshot)
    assert {f.check for f in findings} == {check.code for check in RUNBOOK.checks if check.applies(snapshot)}
    assert UNKNOWN in {f.severity for f in findings}
    RUNBOOK.propose(snapshot, findings, RUNBOOK.values(), None)  # type: ignore[arg-type]
