"""`POST /webhooks/<source>`, `GET /livez`, `GET /readyz`, and Slack's `POST /slack/events` where HTTP mode is used.

The order of the checks is the order of trust: method and route, secret (401), encoding (415), size (413), time (408), signature (401), quota
(503), then the words (400). A signature is over the body, so its sender gets the same size and time as everybody before it can be checked; its form and its
signed time are looked at first.
2xx is answered only after the delivery is a durable row. Load is shed with 503, because Alertmanager never retries a 4xx
(reference/safety.md: its webhook notifier retries only 5xx).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.adapters.clock import SystemClock
from bot.adapters.webhooks import cloudevents
from bot.adapters.webhooks.authorization import authorized, signed
from bot.adapters.webhooks.room import Held, NoRoom, Room
from bot.crashpoints import Point, reached
from bot.errors import BadInput, StoreError
from bot.flow.quota import OverQuota
from bot.model import DeliveryId, Json
from bot.ports import Clock
from bot.settings import SourceKind, SourceSettings, WebhookSettings

log = structlog.get_logger(__name__)

READ_TIMEOUT: Final = 10.0
"""Seconds in which a body must have arrived; Alertmanager's own time-out per notification."""
RETRY_AFTER: Final = 15
"""Seconds a sender is asked to wait; Alertmanager's own backoff reaches this within its first retries."""
HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of bodies that are read or stored at once, all requests together; an eighth of the memory of reference/safety.md B4, since a body is three times as
large while it is parsed. One body of the largest size always has room."""
SLACK_PATH: Final = "/slack/events"

Health = Callable[[], Awaitable[Sequence[str]]]
"""Returns one sentence per part that is not ready, none where all is well. It is shown without authentication: no secrets, no names."""
Alive = Callable[[], str | None]
"""Returns why the process should be started anew. It asks nothing outside: a database or a Slack that is away is no reason."""
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
    clock: Clock | None = None,
    checkpoints: Callable[[], Sequence[Json]] = tuple,
    alive: Alive = lambda: None,
    held_bytes: int = HELD_BYTES,
) -> Starlette:
    """Return the app; without `health` it is ready as soon as it answers. `slack_handler` verifies Slack's signature itself (Bolt's Starlette adapter does).

    `clock` is what signed times are compared with; the machine's own unless given. `checkpoints` says where the head of the audit log is kept; a place that
    is away makes nothing unready, since alerts must still be stored.
    """
    reading = _Reading(settings.max_body_bytes, read_timeout, Room(max(held_bytes, settings.max_body_bytes)))

    def webhook(name: str, source: SourceSettings) -> Route:
        door = _Door(name, source, intake, clock or SystemClock(), reading)
        return Route(f"/webhooks/{name}", door.receive, methods=["POST"])

    async def livez(_request: Request) -> Response:
        problem = alive()
        told = {"alive": True} if problem is None else {"alive": False, "problem": problem}
        return JSONResponse(told, status_code=200 if problem is None else 503)

    async def readyz(_request: Request) -> Response:
        problems = list(await health()) if health else []
        told = {"ready": not problems, "problems": problems, "checkpoints": list(checkpoints())}
        return JSONResponse(told, status_code=503 if problems else 200)

    routes = [
        *(webhook(name, source) for name, source in settings.sources.items()),
        Route("/livez", livez, methods=["GET"]),
        Route("/healthz", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    if slack_handler is not None:
        routes.append(_slack_route(slack_handler, reading))
    return Starlette(routes=routes)


@dataclass(frozen=True)
class _Reading:
    """The bounds of every body."""

    limit: int
    timeout: float
    room: Room


@dataclass(frozen=True)
class _Door:
    """The way in of one source."""

    name: str
    source: SourceSettings
    intake: Accepts
    clock: Clock
    reading: _Reading

    async def receive(self, request: Request) -> Response:
        try:
            with self.reading.room.hold() as held:
                delivery = await self._accepted(await self._trusted(request, held))
        except _Rejected as rejected:
            log.warning("webhook refused", source=self.name, status=rejected.status, reason=rejected.sentence)
            return JSONResponse({"error": rejected.sentence}, status_code=rejected.status, headers=rejected.headers)
        except ClientDisconnect:
            log.warning("webhook sender hung up before the body was complete", source=self.name)
            return Response(status_code=400)
        return JSONResponse({"delivery": delivery}, status_code=202)

    async def _trusted(self, request: Request, held: Held) -> str:
        """Return the body of a request that is proven to come from this source; of a CloudEvent, the event with its attributes."""
        headers = request.headers.raw
        if not authorized(self.source, headers, self.clock.now()):
            raise self._stranger()
        binary = self.source.kind is SourceKind.GENERIC and cloudevents.is_binary(headers)
        if self.source.kind is SourceKind.GENERIC:
            self._check_mode(request, binary=binary)
        raw = await _read(request, self.reading, held)
        reached(Point.P00)
        if self.source.signature_name is not None and not signed(self.source, headers, raw, self.clock.now()):
            raise self._stranger()
        try:
            body = raw.decode()
            return cloudevents.structured(headers, body) if binary else body
        except UnicodeDecodeError:
            raise _Rejected(400, "The body is not UTF-8.") from None
        except BadInput as error:
            raise _Rejected(400, str(error)) from None

    async def _accepted(self, body: str) -> DeliveryId:
        try:
            return await self.intake.accept(self.name, body)
        except BadInput as error:
            raise _Rejected(400, str(error)) from None
        except OverQuota as error:
            raise _later(error.seconds) from None
        except StoreError as error:
            log.warning("delivery not stored", source=self.name, reason=str(error))
            raise _later() from None

    def _check_mode(self, request: Request, *, binary: bool) -> None:
        if request.headers.get("content-type", "").lower().startswith(cloudevents.BATCH):
            raise _Rejected(415, "The body is a batch of CloudEvents; send each in a request of its own.")
        if binary and self.source.signature_name is not None:
            raise _Rejected(415, "A signature does not cover the ce- headers; send the CloudEvent in structured mode.")

    def _stranger(self) -> _Rejected:
        scheme = _scheme(self.source)
        if self.source.signature_name is None:
            sentence = "The Authorization header does not carry this source's secret."
        else:
            sentence = "The request is not signed with this source's secret, or not recently."
        return _Rejected(401, sentence, {"WWW-Authenticate": scheme})


def _later(seconds: int = RETRY_AFTER) -> _Rejected:
    return _Rejected(503, "The delivery was not stored. Send it again.", {"Retry-After": str(seconds)})


async def _read(request: Request, reading: _Reading, held: Held) -> bytes:
    limit = reading.limit
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise _Rejected(415, "The body is compressed; send it as it is, without Content-Encoding.")
    too_large = _Rejected(413, f"The body is larger than {limit} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(reading.timeout):
            async for chunk in request.stream():
                held.add(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise _Rejected(408, f"The body did not arrive within {reading.timeout:g} seconds.") from None
    except NoRoom:
        raise _later() from None
    return bytes(body)


def _scheme(source: SourceSettings) -> str:
    if source.signature_name is not None:
        return 'HMAC-SHA256 realm="natsmedic"'
    return 'Bearer realm="natsmedic"' if source.bearer is not None else 'Basic realm="natsmedic", charset="UTF-8"'


def _slack_route(handler: Handler, reading: _Reading) -> Route:
    """Slack signs the body, so it is read before it can be trusted: with the same limits as a webhook's."""

    async def receive(request: Request) -> Response:
        try:
            with reading.room.hold() as held:
                body = await _read(request, reading, held)
        except _Rejected as rejected:
            log.warning("Slack request refused", status=rejected.status, reason=rejected.sentence)
            return JSONResponse({"error": rejected.sentence}, status_code=rejected.status)
        except ClientDisconnect:
            return Response(status_code=400)

        async def again() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        return await handler(Request(request.scope, again))

    return Route(SLACK_PATH, receive, methods=["POST"])
