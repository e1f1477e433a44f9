"""The whole of Slack behind one door: the `Chat` and `Directory` ports, and the app people click in.

Built in two moves, because the approval desk needs the directory and the chat, and the app needs the desk: construct it, give its ports to the
flow, then `start(desk)`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import to_starlette_response
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from starlette.requests import Request
from starlette.responses import Response

from bot.adapters.fenced import always
from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.app import build
from bot.adapters.slack.case_front import CaseFront, Cases
from bot.adapters.slack.chat import ChatHealth, SlackProjector
from bot.adapters.slack.checkpoints import ChannelSink
from bot.adapters.slack.client import is_loopback, make_client, make_hooks
from bot.adapters.slack.commands import Commands
from bot.adapters.slack.commands.acting import Acting
from bot.adapters.slack.commands.looking import Looking
from bot.adapters.slack.desk import Desk, FrontDesk
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.guard import Guard
from bot.adapters.slack.home import Home
from bot.adapters.slack.misshapen import Misshapen
from bot.adapters.slack.projector import SlackDrawer
from bot.adapters.slack.talk import Talk
from bot.adapters.slack.tuning_front import TuningFront, Tunings
from bot.flow.admission import Admission
from bot.flow.asking import Asking
from bot.flow.checkpoints import Kept
from bot.ports import UNMETERED, Clock, Draw, Messages, Meter, Store, WriteReport
from bot.runbook import Runbook
from bot.settings import PolicySettings, SlackSettings, Transport

DRAIN_SECONDS: Final = 5.0
"""How long `stop` waits for clicks that are being handled."""
PING_SECONDS: Final = 5.0
"""slack_sdk's default for Socket Mode; also its pause between attempts to connect while Slack is down."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Office:
    """What commands and boards need beside the store."""

    asking: Asking
    clusters: tuple[str, ...]
    runbooks: tuple[Runbook, ...]
    cases: Cases
    tuning: Tunings
    checkpoints: Callable[[], Sequence[Kept]]
    """What the places outside of the database have of the audit log."""


class SlackAdapter:
    """Slack for one bot. `chat` and `directory` work once constructed; clicks arrive after `start`."""

    def __init__(
        self,
        settings: SlackSettings,
        rules: PolicySettings,
        store: Store,
        messages: Messages,
        clock: Clock,
        *,
        draw: Draw,
        report: WriteReport,
        meter: Meter = UNMETERED,
        may_send: Callable[[], bool] = always,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._store = store
        self._messages = messages
        self._clock = clock
        self._client = make_client(settings.bot_token.get_secret_value(), settings.api_url)
        self._api = SlackApi(self._client, clock, make_hooks(settings.api_url), meter, may_send)
        drawer = SlackDrawer(self._api, store, messages, rules, clock, draw=draw, report=report, meter=meter)
        self.chat = SlackProjector(drawer, store, messages, clock)
        self.directory = SlackDirectory(self._api, settings.workspaces, rules, clock)
        self.guard = Guard(settings.signing_secret, clock) if settings.signing_secret is not None else None
        self._app: AsyncApp | None = None
        self._front: FrontDesk | None = None
        self._socket: AsyncSocketModeHandler | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def checkpoints(self, channel: str, clock: Clock) -> ChannelSink:
        """Return the channel as a place for checkpoints of the audit log."""
        return ChannelSink(self._api, channel, clock)

    @property
    def http_mode(self) -> bool:
        """True where Slack reaches the bot over `POST /slack/events`."""
        return self._settings.transport is Transport.HTTP

    def health(self) -> ChatHealth:
        """Return whether threads can be drawn and, in Socket Mode, whether clicks arrive."""
        drawing = self.chat.health()
        if self.http_mode or self._app is None or self._connected():
            return drawing
        deaf = "The Socket Mode connection to Slack is down, so clicks and commands do not arrive."
        return ChatHealth(ok=False, problems=(*drawing.problems, deaf), since=drawing.since)

    def _connected(self) -> bool:
        session = self._socket.client.current_session if self._socket is not None else None
        return session is not None and not session.closed

    async def start(self, desk: Desk, office: Office, leading: asyncio.Event | None = None) -> None:
        """Begin to draw and to listen. Slack may be down: it is tried until it answers, and this returns at once.

        Of several processes only one draws threads: this one does once `leading` is set.
        """
        admission = Admission(self._store, self.directory, self._rules)
        front = FrontDesk(self._api, self._store, self._messages, self.chat, desk, self._rules, admission)
        looking = Looking(
            self._store,
            self._clock,
            self.directory,
            desk,
            self.chat,
            self._rules,
            office.runbooks,
            office.clusters,
            office.checkpoints,
        )
        acting = Acting(
            self._store, self._clock, self._messages, self._api, office.asking, office.clusters, office.runbooks
        )
        commands = Commands(looking, acting, admission)
        talk = Talk(self._api, self._store, self._messages, commands, admission, front.spawn, office)
        cases = CaseFront(self._api, self._messages, front, office.cases)
        home = Home(self._api, self._store, self._clock, self.directory, admission, self._rules, office.clusters)
        misshapen = Misshapen(admission, self._api, front.spawn)
        tuning = TuningFront(self._api, front, office.tuning)
        secret = self._settings.signing_secret
        self._front = front
        self._app = build(
            self._client, secret.get_secret_value() if secret else "", front, talk, cases, home, tuning, misshapen
        )
        self._tasks.append(asyncio.create_task(self._draw(leading), name="slack-projector"))
        self._tasks.append(asyncio.create_task(home.run(), name="slack-home"))
        if not self.http_mode:
            self._tasks.append(asyncio.create_task(self._listen(self._app), name="slack-socket"))

    async def _draw(self, leading: asyncio.Event | None) -> None:
        if leading is not None:
            await leading.wait()
        await self.chat.run()

    async def stop(self) -> None:
        """Stop listening, let running clicks end, stop drawing. What is not drawn is drawn after the next start."""
        if self._socket is not None:
            await self._socket.close_async()
        if self._front is not None:
            await self._front.close(DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def http_handler(self, request: Request) -> Response:
        """Serve `POST /slack/events`: 401 for everything that is not Slack's, 503 before `start`."""
        body = await self.guard.admit(request) if self.guard is not None else None
        if body is None:
            return Response(status_code=401)
        if self._app is None:
            return Response(status_code=503)
        try:
            asked = AsyncBoltRequest(body=body, query=request.url.query, headers=dict(request.headers))
            return to_starlette_response(await self._app.async_dispatch(asked))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("a signed request of Slack has an unknown shape", error=type(error).__name__)
            return Response(status_code=400)

    async def _listen(self, app: AsyncApp) -> None:
        """Hold a Socket Mode connection. The SDK tries again by itself for as long as it is not closed."""
        token = self._settings.app_token
        if token is None:
            return
        quiet = logging.getLogger("natsmedic.slack.socket")
        quiet.setLevel(logging.CRITICAL)
        self._socket = AsyncSocketModeHandler(app, token.get_secret_value(), logger=quiet, ping_interval=PING_SECONDS)
        if is_loopback(self._settings.api_url):
            self._socket.client.proxy = None
        await self._socket.connect_async()
        log.info("listening to Slack", transport="socket")
