"""The door of HTTP mode lets in exactly what Slack signed, and raises on nothing."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request
from structlog.testing import capture_logs

from bot.adapters.slack.guard import BODY_LIMIT, Guard, Rejection

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
SECRET = "planted-secret-canary"


class Still:
    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


def request(headers: dict[bytes, bytes], body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/slack/events",
        "query_string": b"",
        "headers": list(headers.items()),
    }
    return Request(scope, receive)  # pyright: ignore[reportArgumentType]  a plain dictionary is what ASGI gives


def signed(body: bytes, stamp: str = STAMP, secret: str = SECRET) -> dict[bytes, bytes]:
    mac = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {b"x-slack-request-timestamp": stamp.encode(), b"x-slack-signature": f"v0={mac}".encode()}


def guard() -> Guard:
    return Guard(SecretStr(SECRET), Still())


async def test_a_signed_request_is_let_in() -> None:
    assert await guard().admit(request(signed(b"payload=1"), b"payload=1")) == "payload=1"


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b"", Rejection.TIMESTAMP),
        (signed(b"x") | {b"x-slack-request-timestamp": b"abc"}, b"x", Rejection.TIMESTAMP),
        (signed(b"x") | {b"x-slack-request-timestamp": b"9" * 5000}, b"x", Rejection.TIMESTAMP),
        (signed(b"x") | {b"x-slack-request-timestamp": "١٢".encode()}, b"x", Rejection.TIMESTAMP),
        (signed(b"x") | {b"x-slack-signature": b"v0=\xff\xfe"}, b"x", Rejection.SIGNATURE_FORM),
        (signed(b"x") | {b"x-slack-signature": b""}, b"x", Rejection.SIGNATURE_FORM),
        (signed(b"x", str(int(STAMP) - 301)), b"x", Rejection.STALE),
        (signed(b"x", str(int(STAMP) + 301)), b"x", Rejection.STALE),
        (signed(b"\xff\xfe"), b"\xff\xfe", Rejection.NOT_UTF8),
        (signed(b"x"), b"y", Rejection.SIGNATURE),
        (signed(b"x", secret="other"), b"x", Rejection.SIGNATURE),
        (signed(b"x"), b"x" * (BODY_LIMIT + 1), Rejection.TOO_LARGE),
    ],
)
async def test_what_slack_did_not_sign_is_turned_away(
    headers: dict[bytes, bytes], body: bytes, reason: Rejection
) -> None:
    door = guard()
    assert await door.admit(request(headers, body)) is None
    assert [one for one, count in door.rejected.items() if count] == [reason]


@settings(max_examples=500, deadline=None)
@given(stamp=st.binary(max_size=40), signature=st.binary(max_size=80), body=st.binary(max_size=200))
async def test_no_header_and_no_body_makes_it_raise(stamp: bytes, signature: bytes, body: bytes) -> None:
    headers = {b"x-slack-request-timestamp": stamp, b"x-slack-signature": signature}
    assert await guard().admit(request(headers, body)) is None
    assert await guard().admit(request(signed(b"z") | {b"x-slack-signature": signature}, body)) is None


async def test_the_log_line_is_short_and_has_neither_body_nor_secret() -> None:
    with capture_logs() as lines:
        await guard().admit(request(signed(b"x"), b"body-canary"))
    assert len(lines) == 1
    assert len(str(lines[0])) < 200
    assert "canary" not in str(lines)
