"""Lists, pages and watches: what a reader is shown of the store."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bot.lab.kubernetes.kinds import Kind
from bot.lab.kubernetes.objects import Raw, name_of, namespace_of
from bot.lab.kubernetes.refusals import Refused, bad_request, expired
from bot.lab.kubernetes.selectors import Selected
from bot.lab.kubernetes.store import Change, Store

WATCH_TIMEOUT: Final = 1800.0
"""Seconds that a watch lasts at least (`--min-request-timeout`)."""
LOOK_AT_PEERS: Final = 0.5
"""Seconds between two looks whether watcher and server are still there."""


def shown(kind: Kind, version: str, raw: Raw) -> Raw:
    """An object as that version of its API shows it."""
    return {"kind": kind.kind, "apiVersion": kind.api(version)} | {
        key: value for key, value in raw.items() if key not in ("kind", "apiVersion")
    }


def page(store: Store, kind: Kind, version: str, namespace: str, chosen: Selected, query: dict[str, str]) -> Raw:
    """One page of a list. Pages after the first show the objects as they are now, not as they were (a gap). Raises `Refused`."""
    start, revision = _start(store, query.get("continue", ""))
    _check_revision(store, query.get("resourceVersion", ""))
    found = [raw for raw in store.list(kind, namespace) if (namespace_of(raw), name_of(raw)) >= start and chosen(raw)]
    limit = int(query.get("limit") or 0)
    meta: Raw = {"resourceVersion": str(revision)}
    if limit and len(found) > limit:
        following = found[limit]
        meta["continue"] = _token(revision, namespace_of(following), name_of(following))
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            meta["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    items = [{key: value for key, value in raw.items() if key not in ("kind", "apiVersion")} for raw in found]
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api(version), "metadata": meta, "items": items}


def _token(revision: int, namespace: str, name: str) -> str:
    content = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": [namespace, name]})
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _start(store: Store, token: str) -> tuple[tuple[str, str], int]:
    if not token:
        return ("", ""), store.revision
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = content["start"]
        revision = int(content["rv"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error
    if revision < store.oldest:
        words = (
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
            "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
        )
        raise Refused(410, "Expired", words)
    return (namespace, name), revision


def _check_revision(store: Store, text: str) -> int:
    try:
        revision = int(text or 0)
    except ValueError as error:
        words = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise Refused(500, "", words) from error
    if revision > store.revision:
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        words = f"Timeout: Too large resource version: {revision}, current: {store.revision}"
        raise Refused(504, "Timeout", words, {"causes": causes}, retry_after=1)
    return revision


@dataclass(frozen=True, slots=True)
class Watch:
    """What somebody watches. `away` tells whether the server is gone."""

    store: Store
    kind: Kind
    version: str
    namespace: str
    chosen: Selected
    away: Callable[[], bool]

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Streams changes as lines of JSON until the time asked for is over, or watcher or server are gone. Raises `Refused` before the first line."""
        since = _check_revision(self.store, request.query.get("resourceVersion", ""))
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        if since and since < self.store.oldest:
            await _tell(answer, "ERROR", expired(since, self.store.oldest).status())
            return answer
        position = since or self.store.revision
        seconds = float(request.query.get("timeoutSeconds") or WATCH_TIMEOUT)
        with contextlib.suppress(ConnectionResetError):  # the watcher went while it was told something
            if not since:
                for raw in filter(self.chosen, self.store.list(self.kind, self.namespace)):
                    await _tell(answer, "ADDED", shown(self.kind, self.version, raw))
            await self._follow(request, answer, position, asyncio.get_running_loop().time() + seconds)
        return answer

    async def _follow(self, request: web.Request, answer: web.StreamResponse, position: int, end: float) -> None:
        while (left := end - asyncio.get_running_loop().time()) > 0 and not _gone(request):
            if self.away():
                drop(request)
                return
            for change in self.store.since(position):
                position = change.revision
                for told, raw in self._seen(change):
                    await _tell(answer, told, shown(self.kind, self.version, raw))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_AT_PEERS)):
                    await self.store.after(position)

    def _seen(self, change: Change) -> Iterator[tuple[str, Raw]]:
        """What a watch with a selector sees of a change: an object that no longer matches is gone for it."""
        if change.kind is not self.kind or self.namespace not in ("", namespace_of(change.object)):
            return
        before = change.previous is not None and self.chosen(change.previous)
        after = change.type != "DELETED" and self.chosen(change.object)
        if before or after:
            yield ("MODIFIED" if before and after else "ADDED" if after else "DELETED"), change.object


async def _tell(answer: web.StreamResponse, change: str, raw: Raw) -> None:
    await answer.write(json.dumps({"type": change, "object": raw}).encode() + b"\n")


def drop(request: web.Request) -> web.Response:
    """Closes the connection so that the caller gets no answer, or no end of it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)  # never leaves: the connection is gone


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
