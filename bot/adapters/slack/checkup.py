"""Asks Slack what `natsmedic doctor` wants to know. Every failure is a fact of the reply, and nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, cast

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.adapters.slack.client import make_client
from bot.model import JsonObject
from bot.model.checkup import Reply

_NO_CODE: Final = "an error without a code"


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
    return Reply(body=_body(answer.data), error=error, scopes=scopes, date=moment_of(headers.get("date")))


def _body(data: object) -> JsonObject:
    return cast("JsonObject", data) if isinstance(data, dict) else {}


def moment_of(header: str | None) -> datetime | None:
    """Return the moment of a Date header (RFC 9110, 5.6.7); None where it has none."""
    try:
        found = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
