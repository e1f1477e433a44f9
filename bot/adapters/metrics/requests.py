"""Measures the HTTP requests of an app, as an ASGI middleware around all of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.adapters.metrics.prometheus import PrometheusMeter
from bot.adapters.metrics.words import OTHER

UNANSWERED: Final = 499
"""The status that nginx gives to a request whose sender hung up before an answer began."""
FAILED: Final = 500
"""What Starlette answers outside of this middleware where the app has raised."""


class MeteredRequests:
    """Counts by route and status. A path that is no route is `other`: strangers try many."""

    def __init__(self, app: ASGIApp, meter: PrometheusMeter, routes: Collection[str]) -> None:
        self._app = app
        self._meter = meter
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), UNANSWERED

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            status = FAILED
            raise
        finally:
            route = scope["path"] if scope["path"] in self._routes else OTHER
            self._meter.answered(route, status, time.perf_counter() - started)
