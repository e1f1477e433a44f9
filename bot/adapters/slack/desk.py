"""From a gesture to the approval desk and back to the person: look-ups, dialogs, and sentences for the clicker alone. Knows nothing of Bolt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, Protocol

import structlog

from bot.adapters.slack import modals
from bot.adapters.slack.api import SlackApi, SlackCallFailed
from bot.adapters.slack.chat import SlackProjector
from bot.adapters.slack.gestures import Press, Submission
from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import ProposalCase
from bot.errors import NatsmedicError
from bot.flow.admission import Admission
from bot.flow.approval import Answer, Click, Form
from bot.model import Choice, IncidentId, JsonObject, Person, Proposal, SlackUser, new_id
from bot.policy import may_run
from bot.ports import Messages, Store
from bot.settings import PolicySettings

OPEN_PATIENCE: Final = 1.0
"""Seconds in which a form must be ready; after that a loading view uses the trigger, which lives 3 s (reference/chatops.md 5)."""
DECIDE_PATIENCE: Final = 2.0
"""Seconds in which a decision must be recorded to answer the form directly; Slack waits 3 s."""
WRONG_MESSAGE: Final = "This button does not belong to this message, so nothing was decided."
TOO_LATE: Final = "Slack did not open the form in time. Nothing was decided; press the button again."
UNCERTAIN: Final = (
    "Something went wrong while your decision was handled. The proposal's message shows what is recorded. Error id: "
)

log = structlog.get_logger(__name__)


class Desk(Protocol):
    """The part of `bot.flow.approval.ApprovalDesk` that gestures need."""

    async def open(self, click: Click) -> Form | Answer: ...

    async def decide(self, click: Click, reason: str, typed_name: str, code: str = "") -> Answer: ...

    async def refuse(self, click: Click, sentence: str, code: str) -> None: ...

    async def why_not(self, proposal: Proposal, person: Person) -> str: ...


async def heard(work: Awaitable[Answer], nothing: str) -> Answer:
    """Return the answer to a form. Whatever fails becomes one that begins with `nothing`, e.g. `Nothing was silenced:`, or says that it is uncertain."""
    try:
        return await work
    except NatsmedicError as error:
        log.warning("a form could not be served", answer=nothing, reason=str(error))
        return Answer(accepted=False, sentence=f"{nothing} {error}")
    except Exception:  # the person must hear that it is uncertain; the id leads to the log
        error_id = new_id("err")
        log.exception("a form failed", error_id=error_id)
        said = f"Something went wrong; the thread shows what is recorded. Error id: {error_id}"
        return Answer(accepted=False, sentence=said)


class FrontDesk:
    """Serves gestures. Nothing here raises into Bolt; work runs in tasks that `close` waits for."""

    def __init__(
        self,
        api: SlackApi,
        store: Store,
        messages: Messages,
        projector: SlackProjector,
        desk: Desk,
        rules: PolicySettings,
        admission: Admission,
    ) -> None:
        self._api = api
        self._store = store
        self._messages = messages
        self._projector = projector
        self._desk = desk
        self._rules = rules
        self._admission = admission
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        """Run work in the background; what it raises is logged with an id."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def close(self, seconds: float) -> None:
        """Wait for running work, then cancel what is left."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work for a gesture failed", task=task.get_name(), exc_info=task.exception())

    async def press(self, press: Press, choice: Choice) -> None:
        """Answer Approve or Deny: a form, or a refusal."""
        click = Click(user=press.user, button=press.button, choice=choice)
        try:
            proposal = await self.proposal_of(press)
            if proposal is None:
                await self._desk.refuse(click, WRONG_MESSAGE, "wrong_message")
                await self.whisper(press, WRONG_MESSAGE)
                return
            await self._open(press, click)
        except SlackCallFailed as error:
            log.warning("a form could not be opened", reason=str(error))
            await self._not_opened(press, click)
        except NatsmedicError as error:
            log.warning("a click could not be handled", reason=str(error))
            await self.whisper(press, f"Nothing was decided: {error}")

    async def _not_opened(self, press: Press, click: Click) -> None:
        try:
            await self._desk.refuse(click, TOO_LATE, "form_not_opened")
        except NatsmedicError as error:
            log.warning("a form that was not opened could not be recorded", reason=str(error))
        await self.whisper(press, TOO_LATE)

    async def details(self, press: Press) -> None:
        """Show the whole plan of the message's proposal to a member of the workspace."""
        try:
            proposal = await self.proposal_of(press)
            if proposal is None:
                await self.whisper(press, WRONG_MESSAGE)
                return
            await self._admission.admit(press.user, may_run, "details")
            approvals = tuple(await self._store.approvals(proposal.id))
            view = modals.details_view(ProposalCase(proposal=proposal, approvals=approvals), self._rules)
            await self._api.open_view(press.trigger, view)
        except NatsmedicError as error:
            log.warning("details could not be shown", reason=str(error))
            await self.whisper(press, f"The details cannot be shown: {error}")

    async def submit(self, form: Submission) -> JsonObject:
        """Record a decision and return the arguments of Bolt's `ack`, within Slack's three seconds."""
        return await self.answer(
            self._decide(form), form.view_id, lambda answer: self.tell_of(form.button, form.user, answer)
        )

    async def answer(
        self, work: Coroutine[None, None, Answer], view_id: str, tell: Callable[[Answer], Coroutine[None, None, None]]
    ) -> JsonObject:
        """Do what a form asks for and return the arguments of Bolt's `ack`, within Slack's three seconds; `tell` says how it ended."""
        task = asyncio.create_task(work, name="form")
        done, _ = await asyncio.wait({task}, timeout=DECIDE_PATIENCE)
        if not done:
            self.spawn(self._late(view_id, task, tell), "late answer")
            return {"response_action": "update", "view": modals.sentence_view("Recording", "Recording what you sent…")}
        answer = task.result()
        if answer.errors:
            errors: Mapping[str, str] = answer.errors
            return {
                "response_action": "errors",
                "errors": {name: words[: modals.ERROR_LIMIT] for name, words in errors.items()},
            }
        self.spawn(tell(answer), "tell")
        if not answer.accepted:
            return {"response_action": "update", "view": modals.sentence_view("Not recorded", answer.sentence)}
        return {"response_action": "clear"}

    async def _decide(self, form: Submission) -> Answer:
        """Ask the desk. Whatever fails becomes an answer that claims no more than is known."""
        click = Click(user=form.user, button=form.button, choice=form.choice, break_glass=form.break_glass)
        try:
            return await self._desk.decide(click, form.reason, form.typed_name, form.code)
        except NatsmedicError as error:
            log.warning("a decision could not be handled", reason=str(error))
            return Answer(
                accepted=False,
                sentence=f"Your decision was not handled: {error} The proposal's message shows what is recorded.",
            )
        except Exception:  # the person must hear that it is uncertain; the id leads to the log
            error_id = new_id("err")
            log.exception("a decision failed", error_id=error_id)
            return Answer(accepted=False, sentence=UNCERTAIN + error_id)

    async def _late(self, view_id: str, task: asyncio.Task[Answer], tell: Callable[[Answer], Awaitable[None]]) -> None:
        answer = await task
        words = answer.sentence or " ".join(answer.errors.values())
        try:
            await self._api.update_view(
                view_id, modals.sentence_view("Recorded" if answer.accepted else "Not recorded", words)
            )
        except SlackCallFailed as error:
            log.info("a late form was closed already", reason=str(error))
        await tell(Answer(accepted=answer.accepted, sentence=words))

    async def tell_of(self, button: str, user: SlackUser, answer: Answer) -> None:
        """Say the result of a form to the clicker alone, in the thread of the button's proposal."""
        proposal = await self._store.proposal_by_button(button)
        if proposal is None:
            log.warning("a form named no known button", user=user.user_id)
            return
        await self.tell(proposal.incident_id, user, answer)

    async def tell(self, incident: IncidentId, user: SlackUser, answer: Answer) -> None:
        """Say how it ended to the person alone, in the incident's thread, which is drawn at once where something has changed."""
        if answer.accepted:
            await self._projector.acted(incident)
        place = await self._place(incident)
        if place is not None:
            await self._say(place[0], user.user_id, answer.sentence, place[1])

    async def _open(self, press: Press, click: Click) -> None:
        opening = asyncio.create_task(self._desk.open(click), name="open")
        done, _ = await asyncio.wait({opening}, timeout=OPEN_PATIENCE)
        if done:
            answer = opening.result()
            if isinstance(answer, Form):
                await self._api.open_view(press.trigger, modals.decision_form(answer, click.choice))
            else:
                await self.whisper(press, answer.sentence)
            return
        title = modals.TITLES[click.choice]
        try:
            opened = await self._api.open_view(
                press.trigger, modals.sentence_view(title, "One moment, looking you up…")
            )
        except SlackCallFailed:
            await opening
            raise
        answer = await opening
        shown = (
            modals.decision_form(answer, click.choice)
            if isinstance(answer, Form)
            else modals.sentence_view(title, answer.sentence)
        )
        await self._api.update_view(opened.id, shown, opened.hash)

    async def proposal_of(self, press: Press) -> Proposal | None:
        """Return the proposal of the button, where the button stands on the very message that natsmedic posted for it."""
        proposal = await self._store.proposal_by_button(press.button)
        row = await self._messages.at(press.channel, press.ts)
        if proposal is None or row is None or not press.single:
            return None
        return proposal if row.key == f"proposal:{proposal.id}" else None

    async def _place(self, incident: IncidentId) -> tuple[str, str | None] | None:
        """Channel and thread of an incident."""
        board = next((row for row in await self._messages.of(incident) if row.key == f"board:{incident}"), None)
        return (board.channel, board.ts) if board is not None else None

    async def whisper(self, press: Press, sentence: str) -> None:
        """Say something to whoever pressed, where they did."""
        await self._say(press.channel, press.user.user_id, sentence, press.thread)

    async def _say(self, channel: str, user: str, sentence: str, thread: str | None) -> None:
        try:
            await self._api.whisper(channel, user, fallback(sentence), thread)
        except SlackCallFailed as error:
            log.warning("a sentence did not reach the person who clicked", reason=str(error))
