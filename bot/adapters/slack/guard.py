"""The door of HTTP mode: everything that is not a well-formed, fresh, signed request of Slack is answered 401 before Bolt sees it.

Bolt 1.30 raises on malformed headers and bodies (500) and logs the whole body of a badly signed one (reference/safety.md, finding 9 and T5).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import Enum
from typing import Final

import structlog
from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request

from bot.ports import Clock

WINDOW_SECONDS: Final = 300
"""Slack's advice on replays (api.slack.com/authentication/verifying-requests-from-slack)."""
BODY_LIMIT: Final = 1024 * 1024
"""Bytes; a view of 250 kB with its state stays well below."""
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURE: Final = re.compile(r"v0=[0-9a-f]{64}")

log = structlog.get_logger(__name__)


class Rejection(Enum):
    """Why a request is turned away."""

    TIMESTAMP = "timestamp"
    SIGNATURE_FORM = "signature_form"
    STALE = "stale"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    SIGNATURE = "signature"
    INCOMPLETE = "incomplete"


class Guard:
    """Checks requests and counts those it turns away."""

    def __init__(self, signing_secret: SecretStr, clock: Clock) -> None:
        self._secret = signing_secret
        self._clock = clock
        self.rejected: dict[Rejection, int] = dict.fromkeys(Rejection, 0)

    async def admit(self, request: Request) -> str | None:
        """Return the body of a request of Slack's, None for any other. Never raises, never logs the body."""
        found = await self._judge(request)
        if isinstance(found, str):
            return found
        self.rejected[found] += 1
        log.warning("a request to the Slack address was turned away", reason=found.value, count=self.rejected[found])
        return None

    async def _judge(self, request: Request) -> Rejection | str:
        timestamp = request.headers.get("x-slack-request-timestamp", "")
        signature = request.headers.get("x-slack-signature", "")
        if not _TIMESTAMP.fullmatch(timestamp):
            return Rejection.TIMESTAMP
        if not _SIGNATURE.fullmatch(signature):
            return Rejection.SIGNATURE_FORM
        if abs(self._clock.now().timestamp() - int(timestamp)) > WINDOW_SECONDS:
            return Rejection.STALE
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    return Rejection.TOO_LARGE
        except ClientDisconnect:
            return Rejection.INCOMPLETE
        return self._judge_body(timestamp, signature, bytes(body))

    def _judge_body(self, timestamp: str, signature: str, body: bytes) -> Rejection | str:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return Rejection.NOT_UTF8
        signed = b"v0:" + timestamp.encode() + b":" + body
        expected = hmac.new(self._secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()
        return text if hmac.compare_digest(f"v0={expected}", signature) else Rejection.SIGNATURE
