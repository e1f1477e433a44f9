"""Writes single objects as the applier: each change once, with what was read as its condition, our field manager, and never by force.

A patch is a JSON patch (RFC 6902) from the object as it was read to what it shall be, with uid and resourceVersion of that reading: if anybody wrote in
between, the server answers 409 and nothing is changed. What may be written at all stands in `ALLOWED`, whatever a role grants.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
import jsonpatch
import orjson
from kubernetes.aio.client import ApiClient

from bot import crashpoints
from bot.adapters.kubernetes.api import CONNECT_TIMEOUT, RESOURCES, Question, cut, exchange
from bot.adapters.kubernetes.identity import open_client
from bot.adapters.kubernetes.redaction import shown
from bot.crashpoints import Point
from bot.errors import (
    BadInput,
    NotSent,
    ObjectMoved,
    ObjectRefused,
    OutcomeUnknown,
    ReadDenied,
    Refused,
    Unreachable,
    Unreadable,
    WriteDenied,
)
from bot.model import Json, JsonObject
from bot.model.kubernetes import Change, Kind, Rehearsal, Verb
from bot.settings.clusters import KubernetesSettings

FIELD_MANAGER: Final = "natsmedic"

ALLOWED: Final = frozenset(
    {
        (Verb.PATCH, Kind.STATEFUL_SET),
        (Verb.PATCH, Kind.CONFIG_MAP),
        (Verb.PATCH, Kind.CLAIM),
        (Verb.PATCH, Kind.BUDGET),
        (Verb.CREATE, Kind.BUDGET),
        (Verb.DELETE, Kind.BUDGET),
        (Verb.DELETE, Kind.POD),
    }
)
"""Everything that natsmedic ever writes. The role of the applier in deploy/ grants the same and nothing else."""

_DRY_RUN: Final = {"dryRun": "All"}
_METHODS: Final[Mapping[Verb, str]] = {Verb.PATCH: "PATCH", Verb.CREATE: "POST", Verb.DELETE: "DELETE"}
_OK: Final = range(200, 300)
_UNAUTHORIZED, _FORBIDDEN, _CONFLICT, _TOO_MANY = 401, 403, 409, 429
_SERVER_ERRORS: Final = 500
"""From here nobody knows whether the write reached etcd: 500 stands for its time-outs, 504 for the server's own."""
_ALREADY_EXISTS: Final = "AlreadyExists"
"""`metav1.StatusReason` of a creation that comes too late; it is a 409, too, and no retry helps."""


class KubernetesApiWriter:
    """Implements `bot.ports.KubernetesWriter`."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds, sock_connect=CONNECT_TIMEOUT)

    async def write(self, change: Change) -> JsonObject:
        """Send the one change and return the object as it was stored. Raises `NotApplied` or `OutcomeUnknown`."""
        try:
            async with open_client(self._settings, once=True) as client:
                status, body = await self._exchange(client, change, {})
        except Unreachable as error:
            raise NotSent(f"The change was not sent: {error}") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ssl.SSLError) as error:
            raise NotSent(f"The change was not sent, the API server can't be reached: {_said(error)}.") from error
        except (TimeoutError, aiohttp.ClientError, OSError, Unreadable) as error:
            raise OutcomeUnknown(
                f"The API server got `{change}` and its answer did not come: {_said(error)}."
            ) from error
        crashpoints.reached(Point.P12)
        answer = _parsed(body)
        if status in _OK:
            return answer
        raise _refusal(change, status, answer)

    async def rehearse(self, change: Change) -> Rehearsal:
        """Return what the API server would make of the change. Raises `Unreadable` or `Refused`."""
        try:
            async with open_client(self._settings, once=True) as client:
                status, body = await self._exchange(client, change, _DRY_RUN)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(
                f"The API server did not say what it would make of `{change}`: {_said(error)}."
            ) from error
        answer = _parsed(body)
        if status in _OK:
            after = {} if change.verb is Verb.DELETE else answer
            return shown(change.model_copy(update={"after": after}), by_server=True)
        said = _words(answer)
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise ReadDenied(f"The applier may not {change}: {said}.")
        if status >= _SERVER_ERRORS or status in {_CONFLICT, _TOO_MANY}:
            raise Unreadable(f"The API server did not say what it would make of `{change}`: {said} ({status}).")
        raise Refused(f"The API server would refuse to {change}: {said} ({status}).")

    async def _exchange(self, client: ApiClient, change: Change, query: Mapping[str, str]) -> tuple[int, bytes]:
        body, content_type = _body(change)
        managed = {} if change.verb is Verb.DELETE else {"fieldManager": FIELD_MANAGER}
        path = _path(change, self._settings.namespace)
        method = _METHODS[change.verb]
        return await exchange(client, self._timeout, method, path, {**query, **managed}, body, content_type)


def _path(change: Change, namespace: str) -> str:
    if (change.verb, change.kind) not in ALLOWED:
        raise BadInput(
            f"natsmedic never writes `{change}`: {change.verb} on {change.kind} is not among what it may do."
        )
    resource = RESOURCES[change.kind]
    api = str((change.after or change.before).get("apiVersion") or "")
    version = api.rpartition("/")[2] or resource.versions[0]
    if version not in resource.versions:
        raise BadInput(f"{change.kind} of {api} are not written; natsmedic knows {', '.join(resource.versions)}.")
    name = None if change.verb is Verb.CREATE else change.name
    return Question(change.verb, resource, version, namespace, name).path


def _body(change: Change) -> tuple[Json, str]:
    match change.verb:
        case Verb.CREATE:
            return change.after, "application/json"
        case Verb.DELETE:
            guards = {"uid": change.uid}
            if change.resource_version:
                guards["resourceVersion"] = change.resource_version
            return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": guards}, "application/json"
        case Verb.PATCH:
            return _operations(change), "application/json-patch+json"


def _operations(change: Change) -> list[Json]:
    """Return the JSON patch. A resourceVersion in it that is no longer the object's makes the answer a 409, not a retry in the server."""
    guards: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": change.uid},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": change.resource_version},
    ]
    return guards + cast("list[Any]", jsonpatch.make_patch(change.before, change.after).patch)


def _refusal(change: Change, status: int, answer: JsonObject) -> Exception:
    said, reason = _words(answer), str(answer.get("reason") or "")
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        resource = RESOURCES[change.kind]
        full = f"{change.kind}.{resource.group}" if resource.group else str(change.kind)
        return WriteDenied(
            f"The applier may not {change.verb} {full} {change.name}, so nothing was applied: no role grants it `{change.verb}` on `{full}` ({said})."
        )
    if status >= _SERVER_ERRORS:
        return OutcomeUnknown(f"The API server answered `{change}` with {status}: {said}.")
    moved = status == _TOO_MANY or (status == _CONFLICT and reason != _ALREADY_EXISTS)
    return (ObjectMoved if moved else ObjectRefused)(str(change), status, reason, said)


def _parsed(body: bytes) -> JsonObject:
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _words(answer: JsonObject) -> str:
    return cut(str(answer.get("message") or answer.get("reason") or "nothing more"))


def _said(error: BaseException) -> str:
    return cut(str(error) or type(error).__name__)
