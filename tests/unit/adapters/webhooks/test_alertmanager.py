"""Alertmanager's payload, as version 0.25 really sends it (captured), and as it must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.webhooks import parse_alertmanager
from bot.errors import BadInput
from bot.model import AlertState

PAYLOADS = Path(__file__).parents[3] / "integration" / "payloads"
FIRING = (PAYLOADS / "alertmanager_0.25_firing.json").read_text(encoding="utf-8")
TRUNCATED = (PAYLOADS / "alertmanager_0.25_truncated.json").read_text(encoding="utf-8")
RESOLVED = (PAYLOADS / "alertmanager_0.25_resolved.json").read_text(encoding="utf-8")


def test_a_real_firing_payload_is_read_with_its_times_in_utc() -> None:
    found = parse_alertmanager(FIRING)
    (alert,) = found.alerts
    assert found.truncated == 0
    assert (alert.state, alert.name, alert.fingerprint) == (AlertState.FIRING, "NatsConsumerStuck", "9322c4eb2a33c1ef")
    assert alert.labels["consumer"] == "worker1"
    assert alert.annotations["summary"] == "Consumer worker1 delivers nothing while <10> messages wait"
    assert alert.starts_at == datetime(2026, 11, 21, 8, 8, 30, 633302, tzinfo=UTC)
    assert alert.ends_at is None


def test_a_real_resolved_payload_has_an_end_and_says_what_was_left_out() -> None:
    found = parse_alertmanager(RESOLVED)
    assert [alert.state for alert in found.alerts] == [AlertState.RESOLVED] * 2
    assert found.alerts[0].ends_at == datetime(2026, 11, 21, 8, 8, 35, 146862, tzinfo=UTC)
    assert (found.truncated, parse_alertmanager(TRUNCATED).truncated) == (1, 1)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    raw = json.loads(FIRING)
    change(raw)
    return json.dumps(raw)


def test_unknown_fields_and_gos_null_maps_are_accepted() -> None:
    found = parse_alertmanager(
        changed(lambda raw: (raw.update(new=[1]), raw["alerts"][0].update(annotations=None, x={})))
    )
    assert found.alerts[0].annotations == {}
    assert parse_alertmanager(changed(lambda raw: raw.update(alerts=None))).alerts == ()


def test_text_no_database_takes_is_replaced_not_lost() -> None:
    found = parse_alertmanager(changed(lambda raw: raw["alerts"][0]["labels"].update(bad="a\0b\ud800c😀")))
    assert found.alerts[0].labels["bad"] == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c😀"


@pytest.mark.parametrize(("count", "taken", "left_out"), [(2, 2, 7), (3, 3, 7), (4, 3, 8)])
def test_alerts_beyond_what_one_body_may_hold_are_counted_as_left_out(
    monkeypatch: pytest.MonkeyPatch, count: int, taken: int, left_out: int
) -> None:
    monkeypatch.setattr("bot.adapters.webhooks.alertmanager.MOST_ALERTS", 3)
    payload = json.loads(FIRING)
    payload |= {"alerts": payload["alerts"][:1] * count, "truncatedAlerts": 7}
    parsed = parse_alertmanager(json.dumps(payload))
    assert (len(parsed.alerts), parsed.truncated) == (taken, left_out)


def test_a_missing_fingerprint_is_derived_from_the_labels() -> None:
    one = parse_alertmanager(changed(lambda raw: raw["alerts"][0].pop("fingerprint"))).alerts[0].fingerprint
    other = (
        parse_alertmanager(
            changed(lambda raw: (raw["alerts"][0].pop("fingerprint"), raw["alerts"][0]["labels"].update(consumer="w2")))
        )
        .alerts[0]
        .fingerprint
    )
    assert len(one) == len(other) == 16
    assert one != other


def test_a_refusal_never_repeats_a_value_or_a_label() -> None:
    with pytest.raises(BadInput) as caught:
        parse_alertmanager(changed(lambda raw: raw["alerts"][0]["labels"].update({"<!channel>": 5})))
    assert "channel" not in str(caught.value)
