"""From a board's buttons to the case desk and back to the person. Nothing here raises into Bolt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from bot.adapters.slack import modals
from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.desk import FrontDesk, heard
from bot.adapters.slack.gestures import Hush, Press
from bot.errors import NatsmedicError
from bot.flow.approval import Answer
from bot.model import IncidentId, JsonObject, SlackUser
from bot.ports import Messages

WRONG_MESSAGE: Final = "This button does not belong to this message, so nothing was changed."
TITLE: Final = "Silence this alert?"

log = structlog.get_logger(__name__)


class Cases(Protocol):
    """The part of `bot.flow.cases.CaseDesk` that gestures need."""

    async def take(self, user: SlackUser, incident_id: IncidentId) -> Answer: ...

    async def may_silence(self, user: SlackUser, incident_id: IncidentId) -> Answer: ...

    async def silence(self, user: SlackUser, incident_id: IncidentId, lasts: str, reason: str) -> Answer: ...

    async def end_silence(self, user: SlackUser, incident_id: IncidentId) -> Answer: ...

    async def open_thread(self, user: SlackUser, incident_id: IncidentId, storm: IncidentId) -> Answer: ...

    async def refuse(self, user: SlackUser, gesture: str, sentence: str) -> None: ...


class CaseFront:
    """Serves the gestures of boards."""

    def __init__(self, api: SlackApi, messages: Messages, front: FrontDesk, cases: Cases) -> None:
        self._api = api
        self._messages = messages
        self._front = front
        self._cases = cases

    async def take(self, press: Press) -> None:
        """Answer *I take it*."""
        await self._do(press, "take", self._cases.take)

    async def end_silence(self, press: Press) -> None:
        """Answer *End the silence*."""
        await self._do(press, "end_silence", self._cases.end_silence)

    async def open_thread(self, press: Press) -> None:
        """Give the chosen incident of a storm a thread of its own."""
        try:
            row = await self._messages.at(press.channel, press.ts)
            if row is None or not press.single or row.key != f"board:{row.incident_id}":
                await self._elsewhere(press, "open_thread")
                return
            answer = await self._cases.open_thread(press.user, IncidentId(press.button), row.incident_id)
            await self._front.tell(row.incident_id, press.user, answer)
        except NatsmedicError as error:
            await self._failed(press, error)

    async def silence(self, press: Press) -> None:
        """Answer *Silence…*: the form, or a refusal in its place. A loading view uses the trigger, which lives 3 s."""
        try:
            incident = await self._board(press, "silence")
            if incident is None:
                return
            opened = await self._api.open_view(
                press.trigger, modals.sentence_view(TITLE, "One moment, looking you up…")
            )
            answer = await self._cases.may_silence(press.user, incident)
            form = modals.hush_form(incident) if answer.accepted else modals.sentence_view(TITLE, answer.sentence)
            await self._api.update_view(opened.id, form, opened.hash)
        except NatsmedicError as error:
            await self._failed(press, error)

    async def hushed(self, form: Hush) -> JsonObject:
        """Record a silence and return the arguments of Bolt's `ack`."""
        work = heard(self._cases.silence(form.user, form.incident, form.lasts, form.reason), "Nothing was silenced:")
        return await self._front.answer(
            work, form.view_id, lambda answer: self._front.tell(form.incident, form.user, answer)
        )

    async def _do(
        self, press: Press, gesture: str, change: Callable[[SlackUser, IncidentId], Awaitable[Answer]]
    ) -> None:
        try:
            incident = await self._board(press, gesture)
            if incident is not None:
                await self._front.tell(incident, press.user, await change(press.user, incident))
        except NatsmedicError as error:
            await self._failed(press, error)

    async def _board(self, press: Press, gesture: str) -> IncidentId | None:
        """The incident of the button, where the button stands on the very board that natsmedic posted for it."""
        row = await self._messages.at(press.channel, press.ts)
        if row is not None and press.single and row.key == f"board:{press.button}":
            return row.incident_id
        await self._elsewhere(press, gesture)
        return None

    async def _elsewhere(self, press: Press, gesture: str) -> None:
        await self._cases.refuse(press.user, gesture, WRONG_MESSAGE)
        await self._front.whisper(press, WRONG_MESSAGE)

    async def _failed(self, press: Press, error: NatsmedicError) -> None:
        log.warning("a board's button could not be answered", reason=str(error))
        await self._front.whisper(press, f"Nothing was changed: {error}")
