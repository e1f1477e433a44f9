"""Raw JSON requests to the JetStream API, with the meaning of each failure for a reader and for a writer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import orjson
from nats.aio.msg import Msg

from bot import crashpoints
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.crashpoints import Point
from bot.errors import (
    ApiRefused,
    BadInput,
    NoResponders,
    NotApplied,
    OutcomeUnknown,
    ReadDenied,
    ReadTimedOut,
    Unreachable,
    Unreadable,
    WriteDenied,
    WriteError,
)
from bot.model import JsonObject

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
"""JetStream error codes (reference/nats.md 3.4)."""

MAX_NAME: Final = 255
"""JSMaxNameLen of nats-server: longer stream and consumer names are refused there."""

_NAME: Final = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]+")
_SUBJECT: Final = re.compile(r"[^\s\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class ApiError:
    """The `error` object of an API answer; `description` is the server's text."""

    code: int
    err_code: int
    description: str


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it can stand as one token of a subject. Raises `BadInput`."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not the name of a {kind}: it may not be empty, hold a blank or any of . * > / \\.")
    return name


def checked_filter(subject: str) -> str:
    """Return `subject` if it can end an API subject. Raises `BadInput`."""
    if not _SUBJECT.fullmatch(subject) or "" in subject.split("."):
        raise BadInput(f"{subject!r} is not a subject: it may not hold a blank or an empty token.")
    return subject


def parsed(payload: bytes) -> JsonObject | None:
    """Return the JSON object in `payload`, None where there is none."""
    try:
        answer: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return cast("JsonObject", answer) if isinstance(answer, dict) else None


def error_of(answer: Mapping[str, object]) -> ApiError | None:
    """Return the `error` of an API answer, None where there is none."""
    raw = answer.get("error")
    if raw is None:
        return None
    fields = cast("JsonObject", raw) if isinstance(raw, dict) else {}
    code, err_code = fields.get("code"), fields.get("err_code")
    return ApiError(
        code if isinstance(code, int) else 0,
        err_code if isinstance(err_code, int) else 0,
        str(fields.get("description") or "no description"),
    )


async def read(
    connection: Connection, subject: str, body: JsonObject | None = None, absent: frozenset[int] = frozenset()
) -> JsonObject | None:
    """Ask a question that changes nothing; None where the answer's err_code is in `absent`. Raises `Unreadable`."""
    try:
        message = await connection.request(subject, _payload(body))
    except RequestFailed as failed:
        raise read_error(failed) from failed
    answer = parsed(message.data)
    if answer is None:
        raise Unreadable(f"The answer on {subject} is not a JSON object ({len(message.data)} bytes).")
    error = error_of(answer)
    if error is None:
        return answer
    if error.err_code in absent:
        return None
    raise Unreadable(
        f"JetStream answered {subject} with: {error.description} (code {error.code}, err_code {error.err_code})."
    )


async def write(connection: Connection, subject: str, body: JsonObject | None = None) -> JsonObject:
    """Send one change, once, and return the answer. Raises `NotApplied` or `OutcomeUnknown`."""
    try:
        message: Msg = await connection.request(subject, _payload(body), lambda: crashpoints.reached(Point.P12))
    except RequestFailed as failed:
        raise write_error(failed) from failed
    answer = parsed(message.data)
    if answer is None:
        raise OutcomeUnknown(f"The answer on {subject} is not a JSON object ({len(message.data)} bytes).")
    if (error := error_of(answer)) is not None:
        raise ApiRefused(error.code, error.err_code, error.description)
    return answer


def read_error(failed: RequestFailed) -> Unreadable:
    """Return what a failed question means to a reader."""
    detail = failed.detail
    match failed.why:
        case Why.DENIED | Why.LOGIN_REFUSED:
            return ReadDenied(f"Reading is denied: {detail}.")
        case Why.TIMED_OUT:
            return ReadTimedOut(f"Nobody answered in time: {detail}.")
        case Why.NO_RESPONDERS:
            return Unreachable(f"Nobody serves the question: {detail}; JetStream may be off for the account, or down.")
        case Why.NOT_CONNECTED | Why.LOST:
            return Unreachable(f"The cluster is not reachable: {detail}.")


def write_error(failed: RequestFailed) -> WriteError:
    """Return what a failed change means to a writer."""
    detail = failed.detail
    match failed.why:
        case Why.DENIED | Why.LOGIN_REFUSED:
            return WriteDenied(f"The change is denied and not applied: {detail}.")
        case Why.NO_RESPONDERS:
            return NoResponders(f"Nothing received the change: {detail}.")
        case Why.NOT_CONNECTED:
            return NotApplied(f"The change was not sent: {detail}.")
        case Why.TIMED_OUT | Why.LOST:
            return OutcomeUnknown(f"The change was sent and no answer came: {detail}.")


def _payload(body: JsonObject | None) -> bytes:
    return b"" if body is None else orjson.dumps(body)
