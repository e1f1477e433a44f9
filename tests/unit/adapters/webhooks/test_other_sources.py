"""The payloads of Grafana, PagerDuty and generic senders: what is read from them, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.webhooks import generic_parser, parse_grafana, parse_pagerduty, parser_of
from bot.errors import BadInput
from bot.model import AlertState
from bot.settings import MappingSettings, SourceKind, SourceSettings

PAYLOADS = Path(__file__).parents[3] / "integration" / "payloads"


def payload(name: str) -> str:
    return (PAYLOADS / f"{name}.json").read_text(encoding="utf-8")


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> str:
    raw = json.loads(payload(name))
    change(raw)
    return json.dumps(raw)


def test_a_grafana_payload_is_read_with_its_times_in_utc() -> None:
    (alert,) = parse_grafana(payload("grafana_firing")).alerts
    assert (alert.state, alert.name, alert.fingerprint) == (AlertState.FIRING, "NatsConsumerStuck", "c6eadffa33fcdf37")
    assert alert.starts_at == datetime(2026, 11, 21, 7, 51, 3, 157076, tzinfo=UTC)
    assert alert.ends_at is None
    assert alert.labels["grafana_folder"] == "NATS"


def test_grafana_and_alertmanager_payloads_are_told_apart() -> None:
    with pytest.raises(BadInput, match="not a Grafana alerting payload of version 1"):
        parse_grafana(payload("alertmanager_0.25_firing"))


def test_grafanas_extra_fields_may_be_anything() -> None:
    def strange(raw: dict[str, Any]) -> None:
        raw["alerts"][0].update(values=None, valueString=[], dashboardURL=5)
        raw.update(orgId="x", state=None)

    assert len(parse_grafana(changed("grafana_firing", strange)).alerts) == 1


def test_a_pagerduty_event_gives_labels_of_title_service_urgency_and_flat_details() -> None:
    def detailed(raw: dict[str, Any]) -> None:
        details = {"cluster": "prod", "alertname": "NatsLeaderless", "count": 5, "deep": {"x": "y"}, "title": "false"}
        raw["event"]["data"]["body"] = {"type": "incident_body", "details": details}

    (alert,) = parse_pagerduty(changed("pagerduty_triggered", detailed)).alerts
    assert (alert.name, alert.fingerprint, alert.state) == ("NatsLeaderless", "Q3NATS7STUCK1", AlertState.FIRING)
    assert alert.labels == {
        "title": "NatsConsumerStuck",
        "service": "nats-prod",
        "urgency": "high",
        "cluster": "prod",
        "alertname": "NatsLeaderless",
    }
    assert alert.starts_at == datetime(2026, 11, 21, 7, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("incident.triggered", AlertState.FIRING),
        ("incident.acknowledged", AlertState.FIRING),
        ("incident.unacknowledged", AlertState.FIRING),
        ("incident.reopened", AlertState.FIRING),
        ("incident.resolved", AlertState.RESOLVED),
    ],
)
def test_the_event_type_decides_the_state(kind: str, expected: AlertState) -> None:
    body = changed("pagerduty_triggered", lambda raw: raw["event"].update(event_type=kind))
    assert [alert.state for alert in parse_pagerduty(body).alerts] == [expected]


@pytest.mark.parametrize(
    "kind", ["pagey.ping", "incident.annotated", "incident.priority_updated", "service.updated", "x"]
)
def test_an_event_that_says_nothing_about_a_state_is_accepted_and_empty(kind: str) -> None:
    body = changed("pagerduty_triggered", lambda raw: raw["event"].update(event_type=kind, data={"message": "hello"}))
    found = parse_pagerduty(body)
    assert (found.alerts, found.event) == ((), "01GNATSMEDICTRIGGERED0001")


def test_a_reopened_incident_is_a_new_episode_whether_or_not_the_payload_says_when() -> None:
    said = parse_pagerduty(payload("pagerduty_reopened")).alerts[0]
    unsaid = parse_pagerduty(changed("pagerduty_reopened", lambda raw: raw["event"]["data"].pop("reopened_at"))).alerts[
        0
    ]
    assert said.starts_at == datetime(2026, 11, 21, 8, 20, 11, tzinfo=UTC)
    assert unsaid.starts_at == datetime(2026, 11, 21, 8, 20, 11, 20000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: raw.pop("event"), "event (missing)"),
        (lambda raw: raw["event"].pop("id"), "event.id (missing)"),
        (lambda raw: raw["event"].update(id=""), "event.id"),
        (lambda raw: raw["event"].pop("event_type"), "event.event_type (missing)"),
        (lambda raw: raw["event"]["data"].pop("id"), "event.data.id (missing)"),
        (lambda raw: raw["event"].update(occurred_at="soon"), "event.occurred_at"),
        (
            lambda raw: raw["event"].update(occurred_at="0001-01-01T00:00:00+02:00", event_type="incident.resolved"),
            "calendar",
        ),
    ],
)
def test_a_malformed_pagerduty_event_is_refused_with_the_key(
    change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    with pytest.raises(BadInput) as caught:
        parse_pagerduty(changed("pagerduty_triggered", change))
    assert expected in str(caught.value)


MAPPING = MappingSettings.model_validate(
    {
        "name": "check.name",
        "fingerprint": "ids.1",
        "state": "ok",
        "started_at": "at",
        "firing": ["false", "0"],
        "resolved": ["true"],
        "labels": {"cluster": "check.cluster", "size": "check.size"},
    }
)
GOOD: dict[str, Any] = {
    "check": {"name": "A", "cluster": "prod", "size": 2.5},
    "ids": ["x", 7],
    "ok": False,
    "at": "2026-11-21T10:00:00+02:00",
}
parse = generic_parser(MAPPING)


def test_dotted_paths_read_keys_and_list_positions() -> None:
    (alert,) = parse(json.dumps(GOOD)).alerts
    assert (alert.name, alert.fingerprint, alert.state) == ("A", "7", AlertState.FIRING)
    assert alert.labels == {"cluster": "prod", "size": "2.5"}
    assert alert.starts_at == datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert parse(json.dumps(GOOD | {"ok": True})).alerts[0].state is AlertState.RESOLVED


@pytest.mark.parametrize("at", [1795248000, "1795248000", 1795248000.0, "2026-11-21T08:00:00Z"])
def test_a_time_is_rfc_3339_or_unix_seconds(at: object) -> None:
    assert parse(json.dumps(GOOD | {"at": at})).alerts[0].starts_at == datetime(2026, 11, 21, 8, tzinfo=UTC)


def test_a_label_that_finds_nothing_is_left_out() -> None:
    assert parse(json.dumps(GOOD | {"check": {"name": "A", "size": None}})).alerts[0].labels == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"check": {}}, "`check.name` finds nothing"),
        ({"check": {"name": ""}}, "`check.name` finds nothing"),
        ({"check": {"name": None}}, "`check.name` finds nothing"),
        ({"check": "text"}, "`check.name` finds nothing"),
        ({"check": {"name": ["A"]}}, "`check.name` finds an object or a list"),
        ({"check": {"name": "A", "cluster": {}}}, "`check.cluster` finds an object or a list"),
        ({"ids": ["x"]}, "`ids.1` finds nothing"),
        ({"ids": {"1": ""}}, "`ids.1` finds nothing"),
        ({"ok": "maybe-CANARY"}, "`ok` holds a value that the mapping names neither"),
        ({"at": "soon-CANARY"}, "`at` holds no time"),
        ({"at": "2026-11-21T08:00:00"}, "`at` holds no time"),
        ({"at": 1e300}, "`at` holds no time"),
        ({"at": "0001-01-01T00:00:00+02:00"}, "calendar"),
        ({"specversion": "1.0"}, "its `id` is missing"),
        ({"specversion": "1.0", "id": "1", "source": 5, "type": "t"}, "its `source` is missing or not a text"),
    ],
)
def test_what_the_mapping_cannot_use_is_named_by_its_path_and_never_by_its_value(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(BadInput) as caught:
        parse(json.dumps(GOOD | change))
    assert expected in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_the_same_cloudevent_has_one_key_and_source_and_id_do_not_run_together() -> None:
    def key(source: str, event: str) -> str | None:
        return parse(json.dumps(GOOD | {"specversion": "1.0", "id": event, "source": source, "type": "t"})).event

    assert key("a", "bc") == key("a", "bc")
    assert key("a", "bc") != key("ab", "c")
    assert parse(json.dumps(GOOD)).event is None


@pytest.mark.parametrize("kind", list(SourceKind))
def test_every_kind_of_source_has_a_parser(kind: SourceKind) -> None:
    written: dict[str, Any] = {"kind": kind}
    if kind in {SourceKind.GRAFANA, SourceKind.PAGERDUTY}:
        written["hmac_secret"] = "x"
    else:
        written["bearer"] = "x"
    if kind is SourceKind.GRAFANA:
        written["timestamp_header"] = "X-Time"
    if kind is SourceKind.GENERIC:
        written["mapping"] = MAPPING
    with pytest.raises(BadInput):
        parser_of(SourceSettings.model_validate(written))("{}")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
PLACES = st.sampled_from(
    [
        "event",
        "event.data",
        "event.data.service",
        "event.data.body",
        "event.data.created_at",
        "event.occurred_at",
        "event.event_type",
        "alerts",
        "check",
        "ids",
        "ok",
        "at",
        "specversion",
    ]
)


@given(place=PLACES, value=ANYTHING)
def test_no_payload_makes_a_parser_fail_otherwise_than_by_refusing(place: str, value: object) -> None:
    for read, raw in (
        (parse_pagerduty, json.loads(payload("pagerduty_triggered"))),
        (parse_grafana, json.loads(payload("grafana_firing"))),
        (parse, json.loads(json.dumps(GOOD))),
    ):
        *way, last = place.split(".")
        target = raw
        for key in way:
            target = target.get(key, {})
        target[last] = value
        try:
            found = read(json.dumps(raw))
        except BadInput:
            continue
        for alert in found.alerts:
            alert.model_dump_json().encode()
