"""Asks the API server what its reader and its applier may do (`SelfSubjectAccessReview`), which changes nothing and everybody may ask; and for its time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient

from bot.adapters.kubernetes.api import CONNECT_TIMEOUT, cut, exchange, send
from bot.adapters.kubernetes.identity import open_client
from bot.errors import Unreadable
from bot.model import JsonObject
from bot.model.checkup import Permission, Right, moment_of_header
from bot.settings.clusters import KubernetesSettings

_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_CREATED: Final = 201
_SILENT: Final = (TimeoutError, aiohttp.ClientError, ssl.SSLError, OSError)
"""What aiohttp raises where no answer came."""


class Asked(NamedTuple):
    """A right; `resource` may have a subresource behind a slash. `exact` is False where a role may rightly name single objects."""

    verb: str
    group: str
    resource: str
    needed: bool
    exact: bool = True
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f' ({self.group})' if self.group else ''}"


def _rights(
    *rows: tuple[str, str, str], needed: bool, exact: bool = True, namespaced: bool = True
) -> tuple[Asked, ...]:
    return tuple(
        Asked(verb, group, resource, needed, exact, namespaced)
        for verbs, group, resources in rows
        for resource in resources.split()
        for verb in verbs.split()
    )


_NOBODY: Final = (
    *_rights(("list", "", "secrets"), ("create", "", "pods/exec"), needed=False),
    *_rights(("delete", "apps", "statefulsets"), ("delete", "", "persistentvolumeclaims"), needed=False),
    *_rights(("get", "", "nodes/proxy"), ("delete", "", "namespaces"), needed=False, namespaced=False),
)
"""What neither may ever do (design/safety.md, Applying 9; reference/safety.md 5.7)."""
READER: Final = (
    *_rights(("get list", "apps", "statefulsets controllerrevisions"), needed=True),
    *_rights(("get list", "", "persistentvolumeclaims"), ("list", "", "pods services endpoints events"), needed=True),
    *_rights(("list", "discovery.k8s.io", "endpointslices"), needed=True),
    *_rights(("get list", "policy", "poddisruptionbudgets"), needed=True),
    *_rights(("get", "", "configmaps"), needed=True, exact=False),
    *_rights(("get", "", "nodes persistentvolumes"), needed=True, namespaced=False),
    *_rights(("get", "storage.k8s.io", "storageclasses"), needed=True, namespaced=False),
    *_rights(("patch", "apps", "statefulsets"), ("delete", "", "pods"), ("patch", "", "configmaps"), needed=False),
    *_NOBODY,
)
APPLIER: Final = (
    *_rights(("patch", "apps", "statefulsets"), ("patch", "", "configmaps"), needed=True, exact=False),
    *_rights(("delete", "", "pods"), ("patch", "", "persistentvolumeclaims"), needed=True),
    *_rights(("create patch delete", "policy", "poddisruptionbudgets"), needed=True),
    *_NOBODY,
)
"""deploy/kubernetes-reader.yaml and deploy/kubernetes-applier.yaml."""


async def rights(who: str, settings: KubernetesSettings, asked: Sequence[Asked]) -> list[Permission]:
    """Ask for all at once. Raises `Unreachable` where nobody can log in."""
    async with open_client(settings) as client:
        return list(await asyncio.gather(*(_ask(client, who, settings, one) for one in asked)))


async def server_time(settings: KubernetesSettings) -> datetime | None:
    """Return the API server's clock, whole seconds, from the Date header that its every answer has, also that to a stranger; None where there is no answer."""
    async with open_client(settings) as client:
        try:
            answer = await send(client, _patience(settings), "GET", "/version", {})
        except _SILENT:
            return None
        try:
            return moment_of_header(answer.headers.get("Date"))
        finally:
            answer.release()


async def _ask(client: ApiClient, who: str, settings: KubernetesSettings, asked: Asked) -> Permission:
    resource, _, below = asked.resource.partition("/")
    wanted = {"verb": asked.verb, "group": asked.group, "resource": resource, "subresource": below}
    place = {"namespace": settings.namespace} if asked.namespaced else {}
    review: JsonObject = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted | place},
    }
    seen, detail = Right.UNKNOWN, ""
    try:
        status, body = await exchange(client, _patience(settings), "POST", _PATH, {}, review)
        allowed = _verdict(body) if status == _CREATED else None
        if allowed is None:
            detail = f"the API server answered with {status} and no verdict"
        else:
            seen = Right.ALLOWED if allowed else Right.DENIED
    except (*_SILENT, Unreadable) as error:
        detail = f"the API server did not answer: {cut(str(error) or type(error).__name__)}"
    return Permission(who=who, what=str(asked), needed=asked.needed, exact=asked.exact, seen=seen, detail=detail)


def _patience(settings: KubernetesSettings) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=settings.timeout_seconds, sock_connect=CONNECT_TIMEOUT)


def _verdict(body: bytes) -> bool | None:
    try:
        answer: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    match answer:
        case {"status": {"allowed": bool(allowed)}}:
            return allowed
        case _:
            return None
