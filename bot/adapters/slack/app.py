"""The Bolt app: the same listeners for Socket Mode and HTTP. Each acknowledges first and hands the work on.

A listener never raises: in HTTP mode an exception shortly after `ack()` loses the acknowledgement (reference/dependencies.md 3.2).
"""

from __future__ import annotations

import logging
from typing import Final

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_sdk.web.async_client import AsyncWebClient

from bot.adapters.slack import gestures, modals
from bot.adapters.slack.commands import MORE
from bot.adapters.slack.desk import FrontDesk
from bot.adapters.slack.talk import Talk
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS
from bot.adapters.slack.web import Registry
from bot.model import Choice, JsonObject

COMMAND: Final = "/nats"
MENTION: Final = "app_mention"

log = structlog.get_logger(__name__)


def build(client: AsyncWebClient, signing_secret: str, front: FrontDesk, talk: Talk) -> AsyncApp:
    """Return the app with every listener. Requests are authorised as ours without asking Slack; who a person is, is the desk's question."""
    quiet = logging.getLogger("natsmedic.slack.bolt")
    quiet.setLevel(logging.CRITICAL)

    async def authorize(team_id: str | None, enterprise_id: str | None) -> AuthorizeResult:
        return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id, bot_token=client.token)

    app = AsyncApp(
        client=client,
        signing_secret=signing_secret,
        authorize=authorize,
        logger=quiet,
        name="natsmedic",
        ssl_check_enabled=False,
    )
    register(app, Listeners(front, talk))
    return app


def register(app: Registry, listeners: Listeners) -> None:
    """Name every entry of Slack. Nothing else listens."""
    app.action(APPROVE)(listeners.approve)
    app.action(DENY)(listeners.deny)
    app.action(DETAILS)(listeners.details)
    app.view_submission(modals.CALLBACK)(listeners.submitted)
    app.command(COMMAND)(listeners.command)
    app.action(MORE)(listeners.more)
    app.event(MENTION)(listeners.mention)
    app.message_shortcut(modals.QUESTION)(listeners.shortcut)
    app.view_submission(modals.QUESTION)(listeners.asked)


class Listeners:
    """What Bolt calls; argument names are Bolt's."""

    def __init__(self, front: FrontDesk, talk: Talk) -> None:
        self._front = front
        self._talk = talk

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
            _malformed("details")
        else:
            self._front.spawn(self._front.details(press), "details")

    async def submitted(self, ack: AsyncAck, body: JsonObject) -> None:
        form = gestures.submission(body)
        if form is None:
            _malformed("form")
            await ack(response_action="clear")
            return
        await ack(**await self._front.submit(form))

    async def command(self, ack: AsyncAck, body: JsonObject) -> None:
        found = gestures.command(body)
        if found is None:
            _malformed("command")
            await ack()
            return
        reply = await self._talk.command(found)
        kind = "in_channel" if reply.public else "ephemeral"
        await ack(text=reply.text, blocks=list(reply.blocks), response_type=kind)

    async def mention(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        found = gestures.mention(body)
        if found is None:
            _malformed("mention")
        else:
            self._front.spawn(self._talk.mention(found), "mention")

    async def more(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        press = gestures.press(body)
        if press is None:
            _malformed("page")
        else:
            self._front.spawn(self._talk.more(press), "page")

    async def shortcut(self, ack: AsyncAck, body: JsonObject) -> None:
        await ack()
        found = gestures.shortcut(body)
        if found is None:
            _malformed("shortcut")
        else:
            self._front.spawn(self._talk.shortcut(found), "shortcut")

    async def asked(self, ack: AsyncAck, body: JsonObject) -> None:
        found = gestures.question(body)
        if found is None:
            _malformed("question")
            await ack(response_action="clear")
            return
        await ack(response_action="clear")
        self._front.spawn(self._talk.asked(found), "question")

    def _press(self, body: JsonObject, choice: Choice) -> None:
        press = gestures.press(body)
        if press is None:
            _malformed("button")
        else:
            self._front.spawn(self._front.press(press, choice), choice.value)


def _malformed(what: str) -> None:
    log.warning("Slack delivered something of an unknown shape, so nothing was done", what=what)
