"""The cluster audit's checks of streams and of the metadata keys `io.nats.monitor.*`, at every threshold; and junk instead of answers."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.model import Severity, canonical_json
from runbooks._audit_metadata import duration
from tests.exhaustive import examples
from tests.unit.runbooks.audit_support import NEWEST, VERSIONS, Change, each, examined, once, proposed, severity, worst
from tests.unit.runbooks.junk import JUNK, spoil
from tests.unit.snapshots import Raw, answers, both, consumers, recorded, streams

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


def at_sequence(before: int, now: int, highest_before: int = 200, highest: int = 200) -> Change:
    """A change after which n2 stands at `before` and then `now`, the others at the highest sequence."""
    return both(
        each(streams, {"state.last_seq": highest_before}, at=0),
        each(streams, {"state.last_seq": highest}, at=1),
        each(streams, {"state.last_seq": before}, "n2", 0),
        each(streams, {"state.last_seq": now}, "n2", 1),
    )


@pytest.mark.parametrize(("last", "level"), [(181, OK), (180, OK), (179, CRITICAL), (0, CRITICAL)])
def test_jetstream_001_at_its_threshold(last: int, level: Severity) -> None:
    assert severity("AUDIT_REPLICA_LAG", at_sequence(last, last)) is level
    assert severity("AUDIT_REPLICA_LAG", at_sequence(last, last), once) is level


@pytest.mark.parametrize(
    ("before", "now", "highest_before", "highest"),
    [(100, 150, 200, 200), (10, 200, 200, 1000), (0, 50, 1000, 1000), (179, 180, 200, 1000)],
)
def test_jetstream_001_says_wait_where_a_replica_catches_up_or_only_follows_the_load(
    before: int, now: int, highest_before: int, highest: int
) -> None:
    found = worst("AUDIT_REPLICA_LAG", at_sequence(before, now, highest_before, highest))
    assert (found.severity, "wait" in found.sentence, found.subject.server) == (WARNING, True, "n2")


def test_jetstream_001_is_critical_where_the_gap_grows() -> None:
    assert severity("AUDIT_REPLICA_LAG", at_sequence(100, 101, 200, 1000)) is CRITICAL


@pytest.mark.parametrize(("count", "level"), [(999_999, OK), (1_000_000, OK), (1_000_001, WARNING)])
def test_jetstream_002_at_its_threshold(count: int, level: Severity) -> None:
    assert severity("AUDIT_SUBJECTS", each(streams, {"state.num_subjects": count}, "n1")) is level


@pytest.mark.parametrize(
    ("field", "count", "level"),
    [
        ("messages", 899, OK),
        ("messages", 900, OK),
        ("messages", 901, WARNING),
        ("bytes", 899_999, OK),
        ("bytes", 900_000, OK),
        ("bytes", 900_001, WARNING),
        ("consumer_count", 8, OK),
        ("consumer_count", 9, OK),
        ("consumer_count", 10, WARNING),
    ],
)
def test_jetstream_003_at_its_thresholds(field: str, count: int, level: Severity) -> None:
    assert severity("AUDIT_STREAM_LIMITS", each(streams, {f"state.{field}": count}, "n1")) is level


def test_jetstream_003_knows_no_limit_where_none_is_set_and_tells_a_missing_configuration() -> None:
    limits = {"config.max_msgs": -1, "config.max_bytes": -1, "config.max_consumers": -1}
    assert severity("AUDIT_STREAM_LIMITS", each(streams, limits | {"state.messages": 10**9})) is OK
    assert severity("AUDIT_STREAM_LIMITS", each(streams, {"config": None})) is UNKNOWN


@pytest.mark.parametrize(("replicas", "level"), [(1, WARNING), (2, WARNING), (3, OK), (4, WARNING), (5, OK)])
def test_one_replica_and_even_numbers_are_warnings(replicas: int, level: Severity) -> None:
    assert severity("AUDIT_REPLICAS", each(streams, {"config.num_replicas": replicas})) is level


def keys(found: Any, **asked: str) -> Change:
    """A change after which a stream or consumer asks for exactly this."""
    named = {f"io.nats.monitor.{name.replace('_', '-')}": value for name, value in asked.items()}
    return each(found, {"config.metadata": {"io.nats.monitor.enabled": "true"} | named})


def peers(**fields: Any) -> Change:
    def change(raw: Raw) -> None:
        for stream in streams(raw):
            for replica in stream["cluster"]["replicas"]:
                replica.update({"current": True, "active": 1, "lag": 0, "offline": False} | fields)

    return change


ASKED_OF_STREAMS = [
    ({"peer_expect": "3"}, peers(), OK),
    ({"peer_expect": "5"}, peers(), CRITICAL),
    ({"peer_lag_critical": "10"}, peers(lag=10), OK),
    ({"peer_lag_critical": "10"}, peers(lag=11), CRITICAL),
    ({"peer_seen_critical": "10s"}, peers(active=10_000_000_000), OK),
    ({"peer_seen_critical": "10s"}, peers(active=10_000_000_001), CRITICAL),
    ({}, peers(offline=True), CRITICAL),
    ({"msgs_critical": "10"}, each(streams, {"state.messages": 11}), OK),
    ({"msgs_critical": "10"}, each(streams, {"state.messages": 10}), CRITICAL),
    ({"msgs_warn": "20", "msgs_critical": "10"}, each(streams, {"state.messages": 21}), OK),
    ({"msgs_warn": "20", "msgs_critical": "10"}, each(streams, {"state.messages": 20}), WARNING),
    ({"subjects_warn": "5", "subjects_critical": "10"}, each(streams, {"state.num_subjects": 4}), OK),
    ({"subjects_warn": "5", "subjects_critical": "10"}, each(streams, {"state.num_subjects": 5}), WARNING),
    ({"subjects_warn": "5", "subjects_critical": "10"}, each(streams, {"state.num_subjects": 10}), CRITICAL),
    ({"subjects_warn": "10", "subjects_critical": "5"}, each(streams, {"state.num_subjects": 11}), OK),
    ({"subjects_warn": "10", "subjects_critical": "5"}, each(streams, {"state.num_subjects": 10}), WARNING),
    ({"subjects_warn": "10", "subjects_critical": "5"}, each(streams, {"state.num_subjects": 5}), CRITICAL),
    ({"min_sources": "1"}, each(streams, {"sources": [{}]}), OK),
    ({"min_sources": "1"}, each(streams, {"sources": []}), CRITICAL),
    ({"max_sources": "1"}, each(streams, {"sources": [{}]}), OK),
    ({"max_sources": "1"}, each(streams, {"sources": [{}, {}]}), CRITICAL),
    ({"lag_critical": "10"}, each(streams, {"sources": [{"lag": 9}]}), OK),
    ({"lag_critical": "10"}, each(streams, {"sources": [{"lag": 10}]}), CRITICAL),
    ({"lag_critical": "10"}, each(streams, {"mirror": {"lag": 10}}), CRITICAL),
    ({"seen_critical": "1m"}, each(streams, {"mirror": {"active": 59_999_999_999}}), OK),
    ({"seen_critical": "1m"}, each(streams, {"mirror": {"active": 60_000_000_000}}), CRITICAL),
    ({"seen_critical": "1m"}, each(streams, {"config.mirror": {"name": "ORIGIN"}}), CRITICAL),
    ({"msgs_critical": "many"}, peers(), UNKNOWN),
    ({"seen_critical": "5 parsecs"}, peers(), UNKNOWN),
    ({"enabled": "perhaps"}, peers(), UNKNOWN),
    ({"enabled": "false", "peer_expect": "5"}, peers(), OK),
]


@pytest.mark.parametrize(("asked", "change", "level"), ASKED_OF_STREAMS)
def test_jetstream_004_judges_streams_by_their_keys(asked: dict[str, str], change: Change, level: Severity) -> None:
    def asks(raw: Raw) -> None:
        change(raw)
        metadata = {"io.nats.monitor.enabled": "true"}
        metadata |= {f"io.nats.monitor.{name.replace('_', '-')}": value for name, value in asked.items()}
        each(streams, {"config.metadata": metadata})(raw)

    assert severity("AUDIT_STREAM_MONITOR", asks) is level


def test_jetstream_004_is_critical_without_a_leader() -> None:
    found = worst("AUDIT_STREAM_MONITOR", each(streams, {"cluster.leader": ""}))
    assert (found.severity, "no leader" in found.sentence) == (CRITICAL, True)


def last_active(position: str, seconds: float) -> Change:
    """A change after which the consumer's last delivery or acknowledgement was so long before the answer."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["now"] = "2026-11-21T10:00:00.000000000Z"
        at = datetime.fromisoformat("2026-11-21T10:00:00+00:00") - timedelta(seconds=seconds)
        each(consumers, {f"{position}.last_active": at.isoformat()})(raw)

    return change


def groups(pinned: int, wanted: int, policy: str = "pinned_client") -> Change:
    states = [{"group": str(n), "pinned_client_id": "c" if n < pinned else ""} for n in range(wanted)]
    config = {"config.priority_policy": policy, "config.priority_groups": [str(n) for n in range(wanted)]}
    return each(consumers, {"priority_groups": states} | config)


ASKED_OF_CONSUMERS = [
    ({"outstanding_ack_critical": "10"}, each(consumers, {"num_ack_pending": 9}), OK),
    ({"outstanding_ack_critical": "10"}, each(consumers, {"num_ack_pending": 10}), CRITICAL),
    ({"waiting_critical": "10"}, each(consumers, {"num_waiting": 9}), OK),
    ({"waiting_critical": "10"}, each(consumers, {"num_waiting": 10}), CRITICAL),
    ({"unprocessed_critical": "10"}, each(consumers, {"num_pending": 9}), OK),
    ({"unprocessed_critical": "10"}, each(consumers, {"num_pending": 10}), CRITICAL),
    ({"redelivery_critical": "10"}, each(consumers, {"num_redelivered": 9}), OK),
    ({"redelivery_critical": "10"}, each(consumers, {"num_redelivered": 10}), CRITICAL),
    ({"last_delivery_critical": "1m"}, last_active("delivered", 59.9), OK),
    ({"last_delivery_critical": "1m"}, last_active("delivered", 60), CRITICAL),
    ({"last_delivery_critical": "1m"}, each(consumers, {"delivered": {}}), CRITICAL),
    ({"last_ack_critical": "1h30m"}, last_active("ack_floor", 5399), OK),
    ({"last_ack_critical": "1h30m"}, last_active("ack_floor", 5400), CRITICAL),
    ({"last_ack_critical": "99999999999y"}, last_active("ack_floor", 5400), OK),
    ({"pinned": "true"}, groups(2, 2), OK),
    ({"pinned": "true"}, groups(1, 2), CRITICAL),
    ({"pinned": "true"}, groups(2, 2, "overflow"), CRITICAL),
    ({"pinned": "false"}, groups(1, 2), OK),
    ({"waiting_critical": "-1"}, groups(0, 0), UNKNOWN),
    ({"waiting_critical": "10"}, each(consumers, {"num_waiting": "10"}), UNKNOWN),
]


@pytest.mark.parametrize(("asked", "change", "level"), ASKED_OF_CONSUMERS)
def test_jetstream_005_judges_consumers_by_their_keys(asked: dict[str, str], change: Change, level: Severity) -> None:
    assert severity("AUDIT_CONSUMER_MONITOR", change, keys(consumers, **asked)) is level


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m", 60), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("2d", 172_800), ("1w", 604_800), ("1M", 2_592_000)],
)
def test_durations_are_read_as_go_and_jsm_read_them(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "-1m", "1m x", "m", "1 m"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration(text) is None


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(version=st.sampled_from(VERSIONS), data=st.data())
def test_no_answer_of_a_server_breaks_a_check(version: str, data: st.DataObject) -> None:
    snapshot = recorded(f"audit_{version}", lambda raw: spoil(raw, data))
    for findings in examined(snapshot).values():
        assert findings
        for finding in findings:
            canonical_json(finding.model_dump(mode="json"))
    for offer in proposed(snapshot):
        assert offer.draft.guidance


FIELDS = st.sampled_from(
    [
        "account_details",
        "stream_detail",
        "consumer_detail",
        "config",
        "metadata",
        "state",
        "cluster",
        "replicas",
        "api",
        "meta_cluster",
        "name",
        "leader",
        "gateway",
        "leafs",
        "now",
        "start",
        "cpu",
        "cores",
        "mem",
        "version",
        "status",
        "io.nats.monitor.enabled",
        "io.nats.monitor.peer-expect",
        "num_replicas",
        "last_seq",
        "outbound_gateways",
        "west",
        "configured",
        "account_detail",
        "decoded_jwt",
        "nats",
        "limits",
        "trusted_operators_jwt",
        "jetstream",
    ]
)
INVENTED = st.recursive(JUNK, lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner, max_size=2), max_size=5))


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answer=st.dictionaries(FIELDS, INVENTED, max_size=6))
def test_no_invented_answer_breaks_a_check(answer: dict[str, Any]) -> None:
    def replace(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] != "n2":
                sample["data"] = answer

    snapshot = recorded(NEWEST, replace)
    for findings in examined(snapshot).values():
        assert findings
        for finding in findings:
            canonical_json(finding.model_dump(mode="json"))
    proposed(snapshot)
