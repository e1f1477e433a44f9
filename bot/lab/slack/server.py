"""`StandInSlack`: the whole stand-in as one object, for tests and for the demo."""

import asyncio
import ipaddress
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from bot.lab.slack.delivery import ACK_TIMEOUT_S, EVENT_RETRY_DELAYS_S, Deliveries
from bot.lab.slack.faults import Fault, FaultKind, Faults
from bot.lab.slack.page import Page, guard, safety_headers
from bot.lab.slack.person import Person
from bot.lab.slack.records import Call, Channel, Clock, Delivery, Message, User, UserGroup, View
from bot.lab.slack.render import Renderer
from bot.lab.slack.web_api import ALL_SCOPES, WebApi, drop
from bot.lab.slack.workspace import Workspace

BODY_BYTES_MAX = 80 * 1024 * 1024  # above the largest file the stand-in takes
SHUTDOWN_S = 1.0

DEFAULT_USERS = (
    User(id="U0ADA", name="ada", real_name="Ada Lovelace", email="ada@example.org"),
    User(id="U0GRACE", name="grace", real_name="Grace Hopper", email="grace@example.org"),
)
DEFAULT_CHANNELS = (Channel(id="C0OPS", name="nats-ops", topic="Alerts of the NATS clusters"),)


class StandInSlack:
    """A stand-in for Slack on a loopback address.

    Args:
        users, channels, usergroups: who and what the workspace has; the bot's own user is added.
        bot_token: what the app must send with Web API calls (`xoxb-`).
        app_token: what it must send with `apps.connections.open` (`xapp-`).
        signing_secret: signs the requests of HTTP mode.
        scopes: what the bot token may do; a method that needs another one is refused.
        rate_limits: whether Slack's rate limits are enforced.
        ack_timeout_s: seconds an app has to acknowledge; Slack gives three.
        event_retry_delays_s: seconds before each repetition of an event that was not acknowledged.
        clock: seconds since the epoch.

    Use it as an async context manager, or call `start` and `stop`. `person` acts, `workspace` and the methods here
    look, `fault`, `outage` and `close_sockets` break things.
    """

    def __init__(
        self,
        users: Iterable[User] = DEFAULT_USERS,
        channels: Iterable[Channel] = DEFAULT_CHANNELS,
        usergroups: Iterable[UserGroup] = (),
        *,
        bot_token: str = "xoxb-lab",  # noqa: S107  made up, opens this stand-in only
        app_token: str = "xapp-lab",  # noqa: S107
        signing_secret: str = "lab-signing-secret",  # noqa: S107
        scopes: Sequence[str] = ALL_SCOPES,
        rate_limits: bool = True,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        event_retry_delays_s: Sequence[float] = EVENT_RETRY_DELAYS_S,
        clock: Clock = time.time,
    ) -> None:
        self.bot_token, self.app_token, self.signing_secret = bot_token, app_token, signing_secret
        self.workspace = Workspace(users, channels, usergroups, clock)
        self.faults = Faults(clock, limited=rate_limits)
        self.deliveries = Deliveries(
            self.workspace, signing_secret, ack_timeout_s=ack_timeout_s, event_retry_delays_s=event_retry_delays_s
        )
        self.person = Person(self.workspace, self.deliveries, self.faults)
        self._web_api = WebApi(self.workspace, self.faults, bot_token, app_token, scopes)
        self._page = Page(self.workspace, self.person, self.deliveries, self.faults)
        self._renderer = Renderer(self.workspace)
        self._runner: web.AppRunner | None = None

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens on a loopback address; port 0 takes a free one.

        Raises:
            ValueError: the host is not a loopback address. Anybody who reaches the stand-in can act as anybody.
            OSError: the port is taken.
        """
        if not ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback:
            raise ValueError(f"the stand-in Slack listens on loopback addresses only, not on {host}")
        app = web.Application(middlewares=[guard], client_max_size=BODY_BYTES_MAX)
        app.on_response_prepare.append(safety_headers)
        app.add_routes([*self._web_api.routes(), web.get("/link/", self._link), *self._page.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        self.workspace.public_url = f"http://{shown}:{bound}"

    async def stop(self) -> None:
        """Closes every connection; may be called twice."""
        self._page.end_streams()
        await self.deliveries.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        if self._runner is None:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if self.faults.outage:
            return drop(request)
        if ticket not in self._web_api.tickets:
            return web.Response(status=403, text="unknown ticket")
        self._web_api.tickets.discard(ticket)
        return await self.deliveries.serve_socket(request)

    @property
    def api_url(self) -> str:
        """Base URL for `AsyncWebClient(base_url=...)`."""
        return f"{self.workspace.public_url}/api/"

    @property
    def page_url(self) -> str:
        """Address of the web page."""
        return f"{self.workspace.public_url}/"

    def use_http_mode(self, request_url: str | None) -> None:
        """Sends payloads as signed requests to this URL; None goes back to Socket Mode."""
        self.deliveries.request_url = request_url

    # --- breaking ----------------------------------------------------------------------------------------------

    def fault(
        self,
        kind: FaultKind,
        method: str = "*",
        *,
        count: int = 1,
        seconds: float = 1.0,
        status: int = 503,
        error: str = "internal_error",
    ) -> None:
        """The next `count` calls of `method` suffer this fault."""
        self.faults.add(Fault(method=method, kind=kind, count=count, seconds=seconds, status=status, error=error))

    def duplicate_gestures(self, count: int) -> None:
        """The next `count` interactions are delivered twice."""
        self.faults.duplicate_gestures = count

    async def close_sockets(self) -> int:
        """Closes all Socket Mode connections, as Slack does every few hours; gives their number."""
        return await self.deliveries.close_sockets()

    async def outage(self, seconds: float) -> None:
        """Nothing of Slack answers for so long."""
        self.faults.outage_until = self.workspace.clock() + seconds
        await self.deliveries.close_sockets("link_disabled")

    # --- looking -----------------------------------------------------------------------------------------------

    def messages(self, channel: str) -> list[Message]:
        """Every message of the channel that was not deleted, replies included, oldest first."""
        return [m for m in self.workspace.messages.get(channel, {}).values() if not m.deleted]

    def thread(self, channel: str, ts: str) -> list[Message]:
        """The parent and its replies, oldest first, each with the history of its edits."""
        return self.workspace.thread(channel, ts)

    def ephemerals(self, user: str) -> list[Message]:
        """What was shown to this person alone, oldest first."""
        return [m for m in self.workspace.ephemerals if m.visible_to == user]

    def open_view(self, user: str) -> View | None:
        """The dialog this person has on top."""
        return self.person.open_view(user)

    def home(self, user: str) -> View | None:
        """The App Home published for this person."""
        return self.workspace.homes.get(user)

    def calls(self, method: str | None = None) -> list[Call]:
        """The Web API calls made, of one method or all."""
        return [call for call in self.workspace.calls if method in (None, call.method)]

    def delivered(self) -> list[Delivery]:
        """Every payload sent to the app, oldest first."""
        return list(self.deliveries.log.values())

    def render_text(self, channel: str, *, for_user: str | None = None) -> str:
        """The channel as plain text, as a person reads it; with `for_user` also what only they see."""
        return self._renderer.channel(channel, for_user=for_user)

    async def connected(self, timeout_s: float = 10.0) -> None:
        """Returns once the app has a Socket Mode connection.

        Raises:
            TimeoutError: none came in time.
        """
        await self.workspace.wait_until(lambda: bool(self.deliveries.sockets), timeout_s)

    async def serve_forever(self) -> None:
        """Waits until cancelled, then stops."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()
