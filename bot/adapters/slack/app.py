"""The Bolt app: the same listeners for Socket Mode and HTTP. Each acknowledges first and hands the work on.

A listener never raises: in HTTP mode an exception shortly after `ack()` loses the acknowledgement (reference/dependencies.md 3.2).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_sdk.web.async_client import AsyncWebClient

from bot.adapters.slack import gestures, modals
from bot.adapters.slack.commands import Commands, Reply, say
from bot.adapters.slack.desk import FrontDesk
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS
from bot.adapters.slack.web import Registry
from bot.errors import NatsmedicError
from bot.model import Choice, JsonObject

COMMAND: Final = "/nats"
COMMAND_PATIENCE: Final = 2.3
"""Seconds in which a command is answered; Slack waits 3 s."""

log = structlog.get_logger(__name__)


def build(client: AsyncWebClient, signing_secret: str, front: FrontDesk, commands: Commands) -> AsyncApp:
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
    _register(app, Listeners(front, commands))
    return app


def _register(app: Registry, listeners: Listeners) -> None:
    app.action(APPROVE)(listeners.approve)
    app.action(DENY)(listeners.deny)
    app.action(DETAILS)(listeners.details)
    app.view_submission(modals.CALLBACK)(listeners.submitted)
    app.command(COMMAND)(listeners.command)


class Listeners:
    """What Bolt calls; argument names are Bolt's."""

    def __init__(self, front: FrontDesk, commands: Commands) -> None:
        self._front = front
        self._commands = commands

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
        reply = await self._reply(found)
        await ack(text=reply.text, blocks=list(reply.blocks), response_type="ephemeral")

    def _press(self, body: JsonObject, choice: Choice) -> None:
        press = gestures.press(body)
        if press is None:
            _malformed("button")
        else:
            self._front.spawn(self._front.press(press, choice), choice.value)

    async def _reply(self, command: gestures.Command) -> Reply:
        try:
            async with asyncio.timeout(COMMAND_PATIENCE):
                return await self._commands.answer(command.user, command.line)
        except TimeoutError:
            return say("That took too long. Try again, or use the natsmedic command in a terminal.")
        except NatsmedicError as error:
            return say(f"That did not work: {error}")


def _malformed(what: str) -> None:
    log.warning("Slack delivered something of an unknown shape, so nothing was done", what=what)
