"""Gestures that Slack does not send: of an unknown shape, or on something that nobody listens to. Refused, recorded, and said where it can be said."""

from __future__ import annotations

import structlog

from bot.adapters.slack import gestures, modals
from bot.adapters.slack.api import SlackApi, SlackCallFailed
from bot.adapters.slack.talk import Spawn
from bot.errors import StoreError
from bot.flow.admission import UNREADABLE, Admission
from bot.model import JsonObject

log = structlog.get_logger(__name__)


class Misshapen:
    """Answers them. Nothing here raises into Bolt."""

    def __init__(self, admission: Admission, api: SlackApi, spawn: Spawn) -> None:
        self._admission = admission
        self._api = api
        self._spawn = spawn

    def click(self, body: JsonObject, what: str) -> None:
        """Record it and whisper to whoever made it, where both who and where can be read."""
        self._spawn(self._click(body, what), "misshapen")

    async def form(self, body: JsonObject, what: str) -> JsonObject:
        """Record it and return the arguments of Bolt's `ack`: a form stands in no channel, so its view says it."""
        await self._record(body, what)
        return {"response_action": "update", "view": modals.sentence_view("Not recorded", UNREADABLE)}

    async def command(self, body: JsonObject) -> str:
        """Record it and return the answer."""
        await self._record(body, "command")
        return UNREADABLE

    async def _click(self, body: JsonObject, what: str) -> None:
        await self._record(body, what)
        found = gestures.traces(body)
        if found.user is None or found.channel is None:
            return
        try:
            await self._api.whisper(found.channel, found.user.user_id, UNREADABLE, found.thread)
        except SlackCallFailed as error:
            log.warning("a sentence did not reach the person who clicked", reason=str(error))

    async def _record(self, body: JsonObject, what: str) -> None:
        try:
            await self._admission.unreadable(gestures.traces(body).user, what)
        except StoreError as error:
            log.warning("a refused gesture could not be recorded", what=what, reason=str(error))
