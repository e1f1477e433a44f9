"""Asks Slack, and the natsmedic that hears Slack, what `natsmedic doctor` wants to know. Every failure is a fact of the reply, and nothing is written."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol, cast

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.signature import SignatureVerifier

from bot.adapters.slack.client import make_client
from bot.model import JsonObject
from bot.model.checkup import Reply, moment_of_header

_NO_CODE: Final = "an error without a code"
_OK: Final = 200
_KNOCK_SECONDS: Final = 2.0
"""For a process of this machine to answer."""


class _Headed(Protocol):
    """An answer of the Web API with its headers."""

    @property
    def data(self) -> object: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class _Caller(Protocol):
    async def api_call(self, api_method: str, *, http_verb: str, params: Mapping[str, str]) -> _Headed: ...


async def ask_slack(token: str, api_url: str, method: str, *, verb: str = "POST", **params: str) -> Reply:
    """Call one method of the Web API once."""
    client = cast("_Caller", make_client(token, api_url))
    try:
        answer = await client.api_call(method, http_verb=verb, params=params)
    except SlackApiError as error:
        refusal = cast("_Headed", error.response)
        code = _body(refusal.data).get("error")
        return _reply(refusal, error=code if isinstance(code, str) and code else _NO_CODE)
    except TimeoutError:
        return Reply(silence="Slack did not answer in time")
    except (SlackClientError, aiohttp.ClientError, OSError) as error:
        # The text of an error may repeat an address, never the token, which travels in a header.
        return Reply(silence=f"Slack can't be reached: {str(error) or type(error).__name__}")
    return _reply(answer)


def _reply(answer: _Headed, error: str = "") -> Reply:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    named = headers.get("x-oauth-scopes")
    scopes = None if named is None else tuple(one.strip() for one in named.split(",") if one.strip())
    return Reply(body=_body(answer.data), error=error, scopes=scopes, date=moment_of_header(headers.get("date")))


def _body(data: object) -> JsonObject:
    return cast("JsonObject", data) if isinstance(data, dict) else {}


async def knock(address: str, secret: str, now: datetime) -> int | None:
    """Send what Slack sends to verify an address (`url_verification`), signed with this secret; return the HTTP status of the answer, None where none came.

    The challenge must come back: 200 alone says nothing of who is there. Bolt answers it before anything of ours is asked.
    """
    challenge = secrets.token_hex(16)
    body = json.dumps({"type": "url_verification", "challenge": challenge, "token": ""})
    stamp = str(int(now.timestamp()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
    headers = {
        "Content-Type": "application/json",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature or "",
    }
    patience = aiohttp.ClientTimeout(total=_KNOCK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=patience) as session,
            session.post(address, data=body, headers=headers) as answer,
        ):
            answered = await answer.text()
            return answer.status if answer.status != _OK or challenge in answered else None
    except (TimeoutError, aiohttp.ClientError, OSError, UnicodeDecodeError):
        return None
