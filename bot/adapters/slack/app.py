"""The Bolt app: the same listeners for Socket Mode and HTTP. Each acknowledges first and hands the work on.

A listener never raises: in HTTP mode an exception shortly after `ack()` loses the acknowledgement (reference/dependencies.md 3.2). What none listens to
is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Final

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from bot.adapters.slack import gestures, modals
from bot.adapters.slack.case_front import CaseFront
from bot.adapters.slack.commands import MORE
from bot.adapters.slack.desk import FrontDesk
from bot.adapters.slack.gestures import Press
from bot.adapters.slack.home import Home
from bot.adapters.slack.misshapen import Misshapen
from bot.adapters.slack.talk import Talk
from bot.adapters.slack.tuning_front import TuningFront
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS, END_SILENCE, OPEN_THREAD, SILENCE, TAKE, TUNE
from bot.adapters.slack.web import Registry
from bot.model import Choice, JsonObject

COMMAND: Final = "/nats"
MENTION: Final = "app_mention"
HOME: Final = "app_home_opened"

log = structlog.get_logger(__name__)


def build(
    client: AsyncWebClient,
    signing_secret: str,
    front: FrontDesk,
    talk: Talk,
    cases: CaseFront,
    home: Home,
    tuning: TuningFront,
    misshapen: Misshapen,
) -> AsyncApp:
    """Return the app with every listener. Requests are authorised as ours without asking Slack; who a person is, is the desk's question."""
    quiet = logging.getLogger("natsmedic.slack.bolt")
    quiet.setLevel(logging.CRITICAL)

    app = ServedApp(client, signing_secret, quiet, misshapen)
    register(app, Listeners(front, talk, cases, home, tuning, misshapen))
    return app


class ServedApp(AsyncApp):
    """Bolt's app behind a look at the shape: on others than Slack's, Bolt 1.30 raises out of its own dispatch."""

    def __init__(
        self, client: AsyncWebClient, signing_secret: str, logger: logging.Logger, misshapen: Misshapen
    ) -> None:
        async def authorize(team_id: str | None, enterprise_id: str | None) -> AuthorizeResult:
            return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id, bot_token=client.token)

        super().__init__(
            client=client,
            signing_secret=signing_secret,
            authorize=authorize,
            logger=logger,
            name="natsmedic",
            ssl_check_enabled=False,
            raise_error_for_unhandled_request=True,
        )
        self._misshapen = misshapen
        self.error(self._failed)

    async def async_dispatch(self, req: AsyncBoltRequest) -> BoltResponse:
        body: JsonObject = req.body
        return await super().async_dispatch(req) if gestures.is_served(body) else await self._unserved(body)

    async def _failed(self, error: Exception, body: JsonObject) -> BoltResponse:
        """Answer where no listener has: 200 for what nobody listens to, 500 for a fault of our own, which is logged."""
        if isinstance(error, BoltUnhandledRequestError):
            return await self._unserved(body)
        log.error("a request of Slack could not be served", exc_info=error)
        return BoltResponse(status=500)

    async def _unserved(self, body: JsonObject) -> BoltResponse:
        """Acknowledge, or Slack would show an error of its own; a gesture is refused with a word and an audit row."""
        if body.get("type") == "view_submission":
            return BoltResponse(status=200, body=await self._misshapen.form(body, "unserved"))
        if "command" in body:
            return BoltResponse(status=200, body=await self._misshapen.command(body))
        if gestures.is_gesture(body):
            self._misshapen.click(body, "unserved")
        else:
            log.info("Slack delivered what nobody listens to")
        return BoltResponse(status=200)


def register(app: Registry, listeners: Listeners) -> None:
    """Name every entry of Slack. Nothing else listens."""
    app.action(APPROVE)(listeners.approve)
    app.action(DENY)(listeners.deny)
    app.action(DETAILS)(listeners.details)
    app.view_submission(modals.CALLBACK)(listeners.submitted)
    app.action(TUNE)(listeners.tune)
    app.view_submission(modals.TUNED)(listeners.tuned)
    app.action(TAKE)(listeners.take)
    app.action(SILENCE)(listeners.silence)
    app.action(END_SILENCE)(listeners.end_silence)
    app.action(OPEN_THREAD)(listeners.open_thread)
    app.view_submission(modals.HUSH)(listeners.hushed)
    app.command(COMMAND)(listeners.command)
    app.action(MORE)(listeners.more)
    app.event(MENTION)(listeners.mention)
    app.event(HOME)(listeners.home)
    app.message_shortcut(modals.QUESTION)(listeners.shortcut)
    app.view_submission(modals.QUESTION)(listeners.asked)


class Listeners:
    """What Bolt calls; argument names are Bolt's."""

    def __init__(
        self, front: FrontDesk, talk: Talk, cases: CaseFront, home: Home, tuning: TuningFront, misshapen: Misshapen
    ) -> None:
        self._misshapen = misshapen
        self._tuning = tuning
        self._front = front
        self._talk = talk
        self._cases = cases
        self._home = home

    async def approve(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._press(body, Choice.APPROVE)

    async def deny(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._press(body, Choice.DENY)

    async def details(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        press = gestures.press(body)
        if press is None:
            self._misshapen.click(body, "details")
        else:
            self._front.spawn(self._front.details(press), "details")

    async def submitted(self, ack: AsyncAck, body: JsonObject) -> None:
        form = gestures.submission(body)
        if form is None:
            await ack(**await self._misshapen.form(body, "form"))
            return
        await ack(**await self._front.submit(form))

    async def tune(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._board(body, self._tuning.open, TUNE)

    async def tuned(self, ack: AsyncAck, body: JsonObject) -> None:
        form = gestures.tuned(body)
        if form is None:
            await ack(**await self._misshapen.form(body, TUNE))
            return
        await ack(**await self._tuning.tuned(form))

    async def take(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._board(body, self._cases.take, TAKE)

    async def silence(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._board(body, self._cases.silence, SILENCE)

    async def end_silence(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._board(body, self._cases.end_silence, END_SILENCE)

    async def open_thread(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        self._board(body, self._cases.open_thread, OPEN_THREAD)

    async def hushed(self, ack: AsyncAck, body: JsonObject) -> None:
        form = gestures.hush(body)
        if form is None:
            await ack(**await self._misshapen.form(body, "silence"))
            return
        await ack(**await self._cases.hushed(form))

    async def command(self, ack: AsyncAck, body: JsonObject) -> None:
        found = gestures.command(body)
        if found is None:
            await ack(await self._misshapen.command(body))
            return
        reply = await self._talk.command(found)
        kind = "in_channel" if reply.public else "ephemeral"
        await ack(text=reply.text, blocks=list(reply.blocks), response_type=kind)

    async def mention(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        found = gestures.mention(body)
        if found is None:
            log.info("a mention of an unknown shape was left alone; bots and edits are among them")
        else:
            self._front.spawn(self._talk.mention(found), "mention")

    async def home(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        user = gestures.home(body)
        if user is not None:
            self._front.spawn(self._home.opened(user), "home")

    async def more(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        press = gestures.press(body)
        if press is None:
            self._misshapen.click(body, "page")
        else:
            self._front.spawn(self._talk.more(press), "page")

    async def shortcut(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        found = gestures.shortcut(body)
        if found is None:
            self._misshapen.click(body, "shortcut")
        else:
            self._front.spawn(self._talk.shortcut(found), "shortcut")

    async def asked(self, ack: AsyncAck, body: JsonObject) -> None:
        found = gestures.question(body)
        if found is None:
            await ack(**await self._misshapen.form(body, "question"))
            return
        await ack(response_action="clear")
        self._front.spawn(self._talk.asked(found), "question")

    def _board(self, body: JsonObject, work: Callable[[Press], Coroutine[None, None, None]], name: str) -> None:
        press = gestures.press(body)
        if press is None:
            self._misshapen.click(body, name)
        else:
            self._front.spawn(work(press), name)

    def _press(self, body: JsonObject, choice: Choice) -> None:
        press = gestures.press(body)
        if press is None:
            self._misshapen.click(body, choice.value)
        else:
            self._front.spawn(self._front.press(press, choice), choice.value)
