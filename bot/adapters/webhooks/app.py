"""`POST /webhooks/<source>`, `GET /healthz`, `GET /readyz`, and Slack's `POST /slack/events` where HTTP mode is used.

The order of the checks is the order of trust: method and route, secret (401), encoding (415), size (413), time (408), then the words (400).
2xx is answered only after the delivery is a durable row. Load is shed with 503, because Alertmanager never retries a 4xx
(reference/safety.md: its webhook notifier retries only 5xx).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.adapters.webhooks.alertmanager import parse_alertmanager
from bot.adapters.webhooks.authorization import authorized
from bot.errors import BadInput, StoreError
from bot.flow.intake import Parser
from bot.model import DeliveryId
from bot.settings import SourceKind, SourceSettings, WebhookSettings

log = structlog.get_logger(__name__)

READ_TIMEOUT: Final = 10.0
"""Seconds in which a body must have arrived; Alertmanager's own time-out per notification."""
RETRY_AFTER: Final = 15
"""Seconds a sender is asked to wait; Alertmanager's own backoff reaches this within its first retries."""
SLACK_PATH: Final = "/slack/events"

PARSERS: Final[Mapping[SourceKind, Parser]] = {SourceKind.ALERTMANAGER: parse_alertmanager}
"""The parser of each kind of source."""

Health = Callable[[], Awaitable[Sequence[str]]]
"""Returns one sentence per part that is not ready, none where all is well. It is shown without authentication: no secrets, no names."""
Handler = Callable[[Request], Awaitable[Response]]


class Accepts(Protocol):
    """What the app needs of `bot.flow.intake.Intake`."""

    async def accept(self, source: str, body: str) -> DeliveryId: ...


class _Rejected(Exception):
    """The request is answered with `status` and one sentence."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


def webhook_app(
    settings: WebhookSettings,
    intake: Accepts,
    health: Health | None = None,
    slack_handler: Handler | None = None,
    *,
    read_timeout: float = READ_TIMEOUT,
) -> Starlette:
    """Return the app; without `health` it is ready as soon as it answers. `slack_handler` verifies Slack's signature itself (Bolt's Starlette adapter does)."""

    def webhook(name: str, source: SourceSettings) -> Route:
        async def receive(request: Request) -> Response:
            return await _receive(name, source, request, settings, intake, read_timeout)

        return Route(f"/webhooks/{name}", receive, methods=["POST"])

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(_request: Request) -> Response:
        problems = list(await health()) if health else []
        return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

    routes = [
        *(webhook(name, source) for name, source in settings.sources.items()),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    if slack_handler is not None:
        routes.append(_slack_route(slack_handler, settings.max_body_bytes, read_timeout))
    return Starlette(routes=routes)


async def _receive(
    name: str, source: SourceSettings, request: Request, settings: WebhookSettings, intake: Accepts, read_timeout: float
) -> Response:
    try:
        if not authorized(source, request.headers.raw):
            raise _Rejected(
                401,
                "The Authorization header does not carry this source's secret.",
                {"WWW-Authenticate": _scheme(source)},
            )
        body = await _text(request, settings.max_body_bytes, read_timeout)
        delivery = await _accepted(intake, name, body)
    except _Rejected as rejected:
        log.warning("webhook refused", source=name, status=rejected.status, reason=rejected.sentence)
        return JSONResponse({"error": rejected.sentence}, status_code=rejected.status, headers=rejected.headers)
    except ClientDisconnect:
        log.warning("webhook sender hung up before the body was complete", source=name)
        return Response(status_code=400)
    return JSONResponse({"delivery": delivery}, status_code=202)


async def _accepted(intake: Accepts, name: str, body: str) -> DeliveryId:
    try:
        return await intake.accept(name, body)
    except BadInput as error:
        raise _Rejected(400, str(error)) from None
    except StoreError as error:
        log.warning("delivery not stored", source=name, reason=str(error))
        raise _Rejected(503, "The delivery was not stored. Send it again.", {"Retry-After": str(RETRY_AFTER)}) from None


async def _text(request: Request, limit: int, read_timeout: float) -> str:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise _Rejected(415, "The body is compressed; send it as it is, without Content-Encoding.")
    too_large = _Rejected(413, f"The body is larger than {limit} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(read_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise _Rejected(408, f"The body did not arrive within {read_timeout:g} seconds.") from None
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise _Rejected(400, "The body is not UTF-8.") from None


def _scheme(source: SourceSettings) -> str:
    return 'Bearer realm="natsmedic"' if source.bearer is not None else 'Basic realm="natsmedic", charset="UTF-8"'


def _slack_route(handler: Handler, limit: int, read_timeout: float) -> Route:
    """Slack signs the body, so it is read before it can be trusted: with the same limits as a webhook's."""

    async def receive(request: Request) -> Response:
        try:
            body = (await _text(request, limit, read_timeout)).encode()
        except _Rejected as rejected:
            log.warning("Slack request refused", status=rejected.status, reason=rejected.sentence)
            return JSONResponse({"error": rejected.sentence}, status_code=rejected.status)
        except ClientDisconnect:
            return Response(status_code=400)

        async def again() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        return await handler(Request(request.scope, again))

    return Route(SLACK_PATH, receive, methods=["POST"])
