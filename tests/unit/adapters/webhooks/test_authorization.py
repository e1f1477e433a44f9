"""Signatures: vectors made by another program (`openssl dgst -sha256 -hmac KEY`), the window of time, rotation."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.adapters.webhooks.authorization import authorized, signed
from bot.settings import SourceSettings

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
BODY = b'{"version":"1"}'
GRAFANA = SourceSettings.model_validate(
    {"kind": "grafana", "hmac_secret": "grafana-key", "timestamp_header": "X-Grafana-Alerting-Timestamp"}
)
GRAFANA_HEX = "a4c1a29bcbcd1d6be512cdd68a6ffcd5dc58b2f775702622de686ce63a3ffd80"
"""printf '%s' 'STAMP:BODY' | openssl dgst -sha256 -hmac grafana-key"""
PAGERDUTY = SourceSettings.model_validate({"kind": "pagerduty", "hmac_secret": "pagerduty-key"})
PAGERDUTY_HEX = "8858056e7d017e9f2ed7c1cc1a3b8d9fbe75aad1b63fabdbe6b42cf7588ea423"
"""printf '%s' 'BODY' | openssl dgst -sha256 -hmac pagerduty-key"""
BARE_HEX = "85effd3ef3bb4d242ecd32492caeaf9ea818d0b793aba5dbb21dcf2e08e23ff0"
"""printf '%s' 'BODY' | openssl dgst -sha256 -hmac grafana-key"""


def through(source: SourceSettings, headers: dict[str, str], body: bytes = BODY, now: datetime = NOW) -> bool:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return authorized(source, raw, now) and signed(source, raw, body, now)


def grafana(signature: str = GRAFANA_HEX, stamp: str = STAMP) -> dict[str, str]:
    return {"X-Grafana-Alerting-Signature": signature, "X-Grafana-Alerting-Timestamp": stamp}


def pagerduty(signature: str) -> dict[str, str]:
    return {"X-PagerDuty-Signature": signature}


def test_a_grafana_signature_made_elsewhere_is_accepted() -> None:
    assert through(GRAFANA, grafana())


@pytest.mark.parametrize(("seconds", "expected"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_the_signed_time_may_differ_by_300_seconds_and_no_more(seconds: int, expected: bool) -> None:
    assert through(GRAFANA, grafana(), now=NOW + timedelta(seconds=seconds)) is expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Grafana-Alerting-Signature": GRAFANA_HEX},
        {"X-Grafana-Alerting-Signature": BARE_HEX},
        {"X-Grafana-Alerting-Timestamp": STAMP},
        grafana(BARE_HEX),
        grafana(GRAFANA_HEX[:-1]),
        grafana(GRAFANA_HEX.upper()),
        grafana("sha256=" + GRAFANA_HEX),
        grafana("ü" * 64),
        grafana(""),
        grafana(stamp=str(int(STAMP) + 1)),
        *(grafana(stamp=wrong) for wrong in ("", "now", "-1", "+1", "1e9", STAMP + ".0", "٣", "9" * 5000, "0x10")),
    ],
)
def test_a_grafana_request_that_is_not_signed_with_its_time_is_refused(headers: dict[str, str]) -> None:
    assert not through(GRAFANA, headers)


def test_a_changed_body_is_refused() -> None:
    assert not through(GRAFANA, grafana(), BODY + b" ")
    assert not through(PAGERDUTY, pagerduty(f"v1={PAGERDUTY_HEX}"), BODY + b" ")


def test_two_signature_headers_are_refused() -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in grafana().items()]
    assert not authorized(GRAFANA, [*raw, raw[0]], NOW)
    assert not authorized(GRAFANA, [*raw, raw[1]], NOW)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"v1={PAGERDUTY_HEX}", True),
        (f"v1={'0' * 64},v1={PAGERDUTY_HEX}", True),
        (f"v1={PAGERDUTY_HEX}, v1={'0' * 64}", True),
        (f"v2=abc,v1={PAGERDUTY_HEX}", True),
        (f"v2={PAGERDUTY_HEX}", False),
        (f"v0={PAGERDUTY_HEX}", False),
        (PAGERDUTY_HEX, False),
        (f"v1={PAGERDUTY_HEX[:-1]}", False),
        ("v1=", False),
        (",", False),
        ("", False),
        ("v1=ü", False),
    ],
)
def test_one_of_pagerdutys_v1_signatures_must_fit(header: str, expected: bool) -> None:
    assert through(PAGERDUTY, pagerduty(header)) is expected


@pytest.mark.parametrize("kind", ["alertmanager", "grafana", "pagerduty", "generic"])
def test_during_a_rotation_both_secrets_are_valid_and_no_third(kind: str) -> None:
    def source(**secrets: str) -> SourceSettings:
        more: dict[str, Any] = {"kind": kind}
        if kind == "generic":
            more["mapping"] = {"name": "a", "fingerprint": "b", "state": "c", "started_at": "d"}
        if kind == "grafana":
            more["timestamp_header"] = "X-Grafana-Alerting-Timestamp"
        key = "bearer" if kind in {"alertmanager", "generic"} else "hmac_secret"
        named = {key if name == "now" else name: value for name, value in secrets.items()}
        return SourceSettings.model_validate(more | named)

    def may(source: SourceSettings) -> bool:
        good = {
            "alertmanager": {"Authorization": "Bearer grafana-key"},
            "generic": {"Authorization": "Bearer grafana-key"},
            "grafana": grafana(),
            "pagerduty": pagerduty(f"v1={BARE_HEX}"),
        }[kind]
        raw = [(name.lower().encode(), value.encode()) for name, value in good.items()]
        return authorized(source, raw, NOW) and (source.signature_name is None or signed(source, raw, BODY, NOW))

    assert may(source(now="grafana-key"))
    assert may(source(now="next", previous="grafana-key"))
    assert may(source(now="grafana-key", previous="old"))
    assert not may(source(now="next"))
    assert not may(source(now="next", previous="old"))


def test_a_previous_password_is_valid_with_the_same_user_only() -> None:
    source = SourceSettings.model_validate({"username": "ada", "password": "new", "previous": "old"})

    def may(pair: bytes) -> bool:
        return authorized(source, [(b"authorization", b"Basic " + base64.b64encode(pair))], NOW)

    assert may(b"ada:new")
    assert may(b"ada:old")
    assert not may(b"bob:old")
    assert not may(b":old")
