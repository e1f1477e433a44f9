"""How payloads reach the app: Socket Mode or signed HTTP requests, one queue and one log for both.

Socket Mode: each payload goes to one of the open connections (python-slack-sdk's answer in bolt-python issue 462).
HTTP: docs.slack.dev/authentication/verifying-requests-from-slack. Acknowledgement within three seconds, or the person
sees a failure; only events are sent again (docs.slack.dev/apis/events-api: at once, after 1 and after 5 minutes).
"""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from bot.lab.slack.records import APP_ID, Delivery, random_id
from bot.lab.slack.workspace import Workspace
from bot.model.base import JsonObject

ACK_TIMEOUT_S = 3.0
EVENT_RETRY_DELAYS_S = (0.0, 60.0, 300.0)
CONNECTIONS_MAX = 10  # per app, Socket Mode
CONNECTION_LIFE_S = 18_060  # what Slack's hello announces, about five hours

INTERACTIVE, SLASH_COMMANDS, EVENTS_API = "interactive", "slash_commands", "events_api"


def signature(secret: str, timestamp: str, body: str) -> str:
    """`X-Slack-Signature` of a request."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256).hexdigest()


def http_body(kind: str, payload: JsonObject) -> tuple[str, str]:
    """The body and content type of a request of this kind."""
    if kind == EVENTS_API:
        return json.dumps(payload), "application/json"
    form = payload if kind == SLASH_COMMANDS else {"payload": json.dumps(payload)}
    return urlencode(form), "application/x-www-form-urlencoded"


class Deliveries:
    """Sends payloads to the app and keeps what came back."""

    def __init__(
        self,
        workspace: Workspace,
        signing_secret: str,
        *,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        event_retry_delays_s: Sequence[float] = EVENT_RETRY_DELAYS_S,
    ) -> None:
        self.workspace = workspace
        self.signing_secret = signing_secret
        self.request_url: str | None = None
        self.ack_timeout_s = ack_timeout_s
        self.event_retry_delays_s = event_retry_delays_s
        self.log: dict[str, Delivery] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self._turn = 0
        self._waiting: dict[str, asyncio.Future[JsonObject]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes every connection and drops what still waits to be sent again."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.close_sockets()
        if self._session is not None:
            await self._session.close()

    # --- sending -----------------------------------------------------------------------------------------------

    async def send(self, kind: str, payload: JsonObject, *, retry_attempt: int = 0) -> Delivery:
        """Sends one payload and waits for its acknowledgement, at most `ack_timeout_s` seconds."""
        delivery = Delivery(
            id=random_id("E"), kind=kind, payload=payload, at=self.workspace.clock(), transport="none",
            retry_attempt=retry_attempt,
        )  # fmt: skip
        if self.request_url is not None:
            delivery = await self._over_http(replace(delivery, transport="http"), self.request_url)
        elif socket := self._next_socket():
            delivery = await self._over_socket(replace(delivery, transport="socket"), socket)
        else:
            delivery = replace(delivery, failure="dispatch_failed")
        known = self.log.get(delivery.id)
        self.log[delivery.id] = replace(delivery, late_ack=known.late_ack) if known else delivery
        self.workspace.changed()
        return self.log[delivery.id]

    async def send_copies(self, kind: str, payload: JsonObject, copies: int) -> list[Delivery]:
        """Sends the same payload several times at once, each copy in an envelope of its own."""
        return list(await asyncio.gather(*(self.send(kind, payload) for _ in range(max(1, copies)))))

    def send_event(self, payload: JsonObject) -> None:
        """Sends an event in the background, and again when it is not acknowledged."""
        task = asyncio.create_task(self._event_with_retries(payload))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _event_with_retries(self, payload: JsonObject) -> None:
        delivery = await self.send(EVENTS_API, payload)
        for attempt, delay in enumerate(self.event_retry_delays_s, start=1):
            if delivery.failure is None:
                return
            await asyncio.sleep(delay)
            delivery = await self.send(EVENTS_API, payload, retry_attempt=attempt)

    def _next_socket(self) -> web.WebSocketResponse | None:
        self.sockets = [s for s in self.sockets if not s.closed]
        if not self.sockets:
            return None
        self._turn += 1
        return self.sockets[self._turn % len(self.sockets)]

    async def _over_socket(self, delivery: Delivery, socket: web.WebSocketResponse) -> Delivery:
        envelope: JsonObject = {
            "type": delivery.kind,
            "envelope_id": delivery.id,
            "payload": delivery.payload,
            "accepts_response_payload": delivery.kind != EVENTS_API,
        }
        if delivery.kind == EVENTS_API:
            reason = "timeout" if delivery.retry_attempt else ""
            envelope |= {"retry_attempt": delivery.retry_attempt, "retry_reason": reason}
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[delivery.id] = answer
        self.log[delivery.id] = delivery
        try:
            await socket.send_json(envelope)
            return replace(delivery, response=await asyncio.wait_for(answer, self.ack_timeout_s))
        except TimeoutError:
            return replace(delivery, failure="operation_timeout")
        except ConnectionError:
            return replace(delivery, failure="dispatch_failed")
        finally:
            self._waiting.pop(delivery.id, None)

    async def _over_http(self, delivery: Delivery, url: str) -> Delivery:
        body, content_type = http_body(delivery.kind, delivery.payload)
        status, text, failure = await self.post_signed(url, body, content_type, delivery.retry_attempt)
        response: JsonObject = {}
        if text.startswith("{"):
            response = json.loads(text)
        elif text:
            response = {"text": text}
        return replace(delivery, status=status, failure=failure, response=None if failure else response)

    async def post_signed(
        self, url: str, body: str, content_type: str, retry_attempt: int = 0
    ) -> tuple[int | None, str, str | None]:
        """Posts a signed request: (HTTP status, text of the answer, failure)."""
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        timestamp = str(int(time.time()))  # the receiver compares it with the real time
        headers = {
            "Content-Type": content_type,
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature(self.signing_secret, timestamp, body),
        }
        if retry_attempt:
            headers |= {"X-Slack-Retry-Num": str(retry_attempt), "X-Slack-Retry-Reason": "http_timeout"}
        timeout = aiohttp.ClientTimeout(total=self.ack_timeout_s)
        try:
            async with self._session.post(url, data=body, headers=headers, timeout=timeout) as answer:
                text = await answer.text()
                return answer.status, text, None if answer.status < 300 else "dispatch_failed"
        except TimeoutError:
            return None, "", "operation_timeout"
        except aiohttp.ClientError:
            return None, "", "dispatch_failed"

    async def verify_request_url(self, url: str) -> bool:
        """Does what Slack does when a request URL is saved: sends a challenge and wants it back."""
        challenge = random_id("C")
        body = json.dumps({"type": "url_verification", "challenge": challenge, "token": ""})
        _, text, failure = await self.post_signed(url, body, "application/json")
        return failure is None and challenge in text

    # --- Socket Mode connections -------------------------------------------------------------------------------

    async def serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        """One Socket Mode connection, from hello to close."""
        socket = web.WebSocketResponse(heartbeat=30.0)
        await socket.prepare(request)
        if len(self.sockets) >= CONNECTIONS_MAX:
            await socket.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        hello: JsonObject = {
            "type": "hello",
            "num_connections": len(self.sockets) + 1,
            "connection_info": {"app_id": APP_ID},
            "debug_info": {"host": "stand-in-slack", "approximate_connection_time": CONNECTION_LIFE_S},
        }
        await socket.send_json(hello)
        self.sockets.append(socket)
        self.workspace.changed()
        try:
            async for frame in socket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    self._acknowledged(json.loads(frame.data))
        finally:
            self.sockets = [s for s in self.sockets if s is not socket]
            self.workspace.changed()
        return socket

    def _acknowledged(self, answer: JsonObject) -> None:
        envelope_id = str(answer.get("envelope_id", ""))
        waiting = self._waiting.get(envelope_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.get("payload") or {})
        elif envelope_id in self.log:
            self.log[envelope_id] = replace(self.log[envelope_id], late_ack=True)
            self.workspace.changed()

    async def close_sockets(self, reason: str = "refresh_requested") -> int:
        """Says `disconnect` to every connection and closes it; gives their number."""
        closing, self.sockets = self.sockets, []
        for socket in closing:
            if not socket.closed:
                try:
                    await socket.send_json({"type": "disconnect", "reason": reason})
                except ConnectionError:
                    continue
                await socket.close()
        return len(closing)
