"""From *Other values…* to a new proposal and back to the person. Nothing here raises into Bolt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from bot.adapters.slack import modals
from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.desk import WRONG_MESSAGE, FrontDesk, heard
from bot.adapters.slack.gestures import Press, Tuned
from bot.errors import NatsmedicError
from bot.flow.approval import Answer
from bot.flow.tuning import TuningForm
from bot.model import JsonObject, SlackUser

TITLE: Final = "Other values?"

log = structlog.get_logger(__name__)


class Tunings(Protocol):
    """The part of `bot.flow.tuning.Tuning` that gestures need."""

    async def open(self, user: SlackUser, button: str) -> TuningForm | Answer: ...

    async def propose(self, user: SlackUser, button: str, typed: Mapping[str, str]) -> Answer: ...

    async def refuse(self, user: SlackUser, sentence: str) -> None: ...


class TuningFront:
    """Serves the button and its form."""

    def __init__(self, api: SlackApi, front: FrontDesk, tuning: Tunings) -> None:
        self._api = api
        self._front = front
        self._tuning = tuning

    async def open(self, press: Press) -> None:
        """Answer the button: the form, or a refusal in its place. A loading view uses the trigger, which lives 3 s."""
        try:
            if await self._front.proposal_of(press) is None:
                await self._tuning.refuse(press.user, WRONG_MESSAGE)
                await self._front.whisper(press, WRONG_MESSAGE)
                return
            opened = await self._api.open_view(
                press.trigger, modals.sentence_view(TITLE, "One moment, looking you up…")
            )
            found = await self._tuning.open(press.user, press.button)
            view = (
                modals.tuning_form(found.proposal)
                if isinstance(found, TuningForm)
                else modals.sentence_view(TITLE, found.sentence)
            )
            await self._api.update_view(opened.id, view, opened.hash)
        except NatsmedicError as error:
            log.warning("a form of other values could not be opened", reason=str(error))
            await self._front.whisper(press, f"Nothing was proposed: {error}")

    async def tuned(self, form: Tuned) -> JsonObject:
        """Propose and return the arguments of Bolt's `ack`."""
        work = heard(self._tuning.propose(form.user, form.button, form.values), "Nothing was proposed:")
        return await self._front.answer(
            work, form.view_id, lambda answer: self._front.tell_of(form.button, form.user, answer)
        )
