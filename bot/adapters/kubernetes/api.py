"""Asks the API server: raw JSON, no client models (kubernetes 37 refuses or drops what it does not know), bounded in time, size and number.

Every failure is an error of `bot.errors` that says what was asked. Nothing is tried twice, except a list whose pages expired in the middle, which is begun anew once.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient

from bot.errors import NotInVersion, ReadDenied, ReadTimedOut, Unreachable, Unreadable, VerbDenied
from bot.model import Json, JsonObject, Unknown, UnknownReason, part, parts
from bot.model.kubernetes import Kind

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to open a connection, TLS included (reference/safety.md 3.3)."""
AT_ONCE: Final = 8
"""Questions under way at once: API priority and fairness gives a reader without a class of its own few seats."""
PAGE: Final = 250
"""Objects in one answer; 250 pods are 2 to 3 MB."""
MAX_PAGES: Final = 40
"""Of one list: 10,000 objects. A namespace has fewer events than that unless something is very wrong."""
WHOLE_LIST: Final = 3
"""Time-outs of one answer that all pages of a list together may take."""
MAX_BYTES: Final = 32 * 2**20
"""Of one answer, unpacked. etcd holds objects up to 1.5 MB, so a page within it is no exception."""
LARGE: Final = 2**20
"""Bytes from which an answer is parsed on a thread; 1 MB takes 5 ms."""
LONGEST_REASON: Final = 200
"""Characters of what the server says that an error repeats."""


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind is addressed. `versions` are in order of preference; the newest that the server has is asked."""

    kind: Kind
    group: str
    versions: tuple[str, ...]
    namespaced: bool = True
    custom: bool = False
    """Defined by an operator: where the server does not know it, there are none."""


_CORE: Final = ("v1",)
RESOURCES: Final[Mapping[Kind, Resource]] = {
    resource.kind: resource
    for resource in (
        Resource(Kind.STATEFUL_SET, "apps", ("v1",)),
        Resource(Kind.REVISION, "apps", ("v1",)),
        Resource(Kind.POD, "", _CORE),
        Resource(Kind.SERVICE, "", _CORE),
        Resource(Kind.ENDPOINTS, "", _CORE),
        Resource(Kind.CONFIG_MAP, "", _CORE),
        Resource(Kind.SECRET, "", _CORE),
        Resource(Kind.CLAIM, "", _CORE),
        Resource(Kind.EVENT, "", _CORE),
        Resource(Kind.VOLUME, "", _CORE, namespaced=False),
        Resource(Kind.NODE, "", _CORE, namespaced=False),
        Resource(Kind.STORAGE_CLASS, "storage.k8s.io", ("v1",), namespaced=False),
        Resource(Kind.ENDPOINT_SLICE, "discovery.k8s.io", ("v1", "v1beta1")),
        Resource(Kind.BUDGET, "policy", ("v1", "v1beta1")),
        # NACK's resources may lie in any namespace, beside the applications.
        Resource(Kind.STREAM, "jetstream.nats.io", ("v1beta2",), namespaced=False, custom=True),
        Resource(Kind.CONSUMER, "jetstream.nats.io", ("v1beta2",), namespaced=False, custom=True),
    )
}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask, for its address and for the words of an error."""

    verb: str
    resource: Resource
    version: str
    namespace: str | None = None
    name: str | None = None

    @property
    def api(self) -> str:
        """`apps/v1`, or `v1` for the core."""
        return f"{self.resource.group}/{self.version}" if self.resource.group else self.version

    @property
    def path(self) -> str:
        root = f"/apis/{self.api}" if self.resource.group else f"/api/{self.api}"
        place = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}{place}/{self.resource.kind}" + (f"/{self.name}" if self.name else "")

    def __str__(self) -> str:
        place = f" in namespace {self.namespace}" if self.namespace else ""
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource.kind}{name}{place}"


class Api:
    """One client's way of asking. `timeout` is seconds for each answer."""

    def __init__(self, client: ApiClient, timeout: float, page: int = PAGE) -> None:
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        self._whole_list = WHOLE_LIST * timeout
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._page = page

    async def get(self, question: Question) -> JsonObject | None:
        """Return one object; None is a definite *not found*. Raises `Unreadable`."""
        status, answer = await self._ask(question.path, {}, str(question))
        # A missing API answers 404 too, but does not name the object.
        if status == _NOT_FOUND and part(answer, "details").get("name"):
            return None
        self._check(status, answer, question)
        return answer

    async def list(self, question: Question, selector: str = "") -> tuple[JsonObject, ...]:
        """Return all objects, page by page, each with its own `apiVersion` and `kind`. Raises `Unreadable`."""
        try:
            async with asyncio.timeout(self._whole_list):
                for last_try in (False, True):
                    found = await self._pages(question, selector, last_try=last_try)
                    if found is not None:
                        return found
        except TimeoutError as error:
            raise ReadTimedOut(f"Not all pages of `{question}` came within {self._whole_list:.0f} s.") from error
        raise Unreadable(f"The pages of `{question}` expired twice while they were read.")

    async def plain(self, path: str) -> JsonObject:
        """Return what an address outside the resources answers, e.g. `/version`. Raises `Unreadable`."""
        status, answer = await self._ask(path, {}, f"get {path}")
        if status != _OK:
            raise _failure(status, answer, f"get {path}")
        return answer

    async def _pages(self, question: Question, selector: str, *, last_try: bool) -> tuple[JsonObject, ...] | None:
        """Return all objects; None where the token for the next page expired, which compaction of etcd brings about after 5 minutes."""
        found: list[JsonObject] = []
        query = {"limit": str(self._page)} | ({"labelSelector": selector} if selector else {})
        for _ in range(MAX_PAGES):
            status, answer = await self._ask(question.path, query, str(question))
            if status == _GONE and not last_try:
                return None
            self._check(status, answer, question)
            identity = {"apiVersion": answer.get("apiVersion"), "kind": str(answer.get("kind")).removesuffix("List")}
            found += [identity | item for item in parts(answer, "items")]
            token = part(answer, "metadata").get("continue")
            if not token:
                return tuple(found)
            query["continue"] = str(token)
        raise Unreadable(f"There are more than {len(found)} objects to `{question}`: more than are read.")

    def _check(self, status: int, answer: JsonObject, question: Question) -> None:
        if status == _OK:
            return
        resource = question.resource
        if status == _FORBIDDEN:
            raise VerbDenied(question.verb, resource.kind, resource.group, question.namespace)
        if status == _NOT_FOUND:
            raise NotInVersion(f"The API server has no {resource.kind} in {question.api}.")
        raise _failure(status, answer, str(question))

    async def _ask(self, path: str, query: Mapping[str, str], what: str) -> tuple[int, JsonObject]:
        async with self._seats:
            try:
                status, body = await self._send(path, query)
            except TimeoutError as error:
                raise ReadTimedOut(
                    f"The API server did not answer `{what}` within {self._timeout.total or 0:.0f} s."
                ) from error
            except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
                raise Unreachable(f"The API server's certificate is not trusted, so `{what}` was not asked.") from error
            except (aiohttp.ClientError, OSError) as error:
                reason = str(error) or type(error).__name__
                raise Unreachable(f"The API server can't be reached to {what}: {cut(reason)}.") from error
        return status, await _parsed(body, status, what)

    async def _send(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        return await exchange(self._client, self._timeout, "GET", path, query)


async def exchange(
    client: ApiClient,
    patience: aiohttp.ClientTimeout,
    method: str,
    path: str,
    query: Mapping[str, str],
    body: Json = None,
    content_type: str = "application/json",
) -> tuple[int, bytes]:
    """Send one request, once, and return status and body. Raises what aiohttp raises, and `Unreadable` for an answer that is too large."""
    response = await send(client, patience, method, path, query, body, content_type)
    try:
        return response.status, await _bounded(response)
    finally:
        response.release()


async def send(
    client: ApiClient,
    patience: aiohttp.ClientTimeout,
    method: str,
    path: str,
    query: Mapping[str, str],
    body: Json = None,
    content_type: str = "application/json",
) -> aiohttp.ClientResponse:
    """Send one request, once, and return the answer with its body unread; the caller releases it. Raises what aiohttp raises."""
    sent, url, headers, content, _ = await client.param_serialize(  # pyright: ignore[reportUnknownMemberType] - it has no types
        method,
        path,
        query_params=list(query.items()),
        header_params={"Accept": "application/json"} | ({} if body is None else {"Content-Type": content_type}),
        body=body,
        auth_settings=["BearerToken"],
    )
    answer = await client.call_api(sent, url, headers, content, _request_timeout=patience)  # pyright: ignore[reportUnknownMemberType]
    return cast("aiohttp.ClientResponse", answer.response)


_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_GONE: Final = 410
_GATEWAY_TIMEOUT: Final = 504
"""How the API server says that its own time for a request was up."""


def unknown_of(error: Unreadable) -> Unknown:
    """Return an error as the unknown fact that it leaves."""
    match error:
        case ReadDenied():
            reason = UnknownReason.DENIED
        case ReadTimedOut():
            reason = UnknownReason.TIMED_OUT
        case NotInVersion():
            reason = UnknownReason.NOT_IN_VERSION
        case Unreachable():
            reason = UnknownReason.UNREACHABLE
        case _:
            reason = UnknownReason.UNREADABLE
    return Unknown(reason=reason, detail=str(error))


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Unreadable(f"An answer of the API server is larger than what is read ({MAX_BYTES // 2**20} MiB).")
    return bytes(body)


async def _parsed(body: bytes, status: int, what: str) -> JsonObject:
    try:
        value: object = await asyncio.to_thread(orjson.loads, body) if len(body) > LARGE else orjson.loads(body)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return cast("JsonObject", value)
    if status == _OK:
        raise Unreadable(f"The API server's answer to `{what}` is not a JSON object.")
    return {}


def _failure(status: int, answer: JsonObject, what: str) -> Unreadable:
    said = cut(str(answer.get("message") or answer.get("reason") or "nothing more"))
    if status == _UNAUTHORIZED:
        return ReadDenied(f"The API server does not know the reader's credentials, so `{what}` is not answered (401).")
    if status == _FORBIDDEN:
        return ReadDenied(f"The reader may not {what}: {said}.")
    if status == _GATEWAY_TIMEOUT:
        return ReadTimedOut(f"The API server gave up on `{what}` (504).")
    return Unreadable(f"The API server answered `{what}` with {status}: {said}.")


def cut(said: str) -> str:
    """Return what the server says as one line of bounded length."""
    line = re.sub(r"\s+", " ", said).strip().rstrip(".")
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + "…"
