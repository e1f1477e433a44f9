"""Words that people say to the bot: behind `/nats`, behind a mention, and a message that they point at. Knows nothing of Bolt.

Slack delivers an event again that it thinks was missed, so each is answered once (docs.slack.dev/apis/events-api).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Final, Protocol

import structlog

from bot.adapters.slack import modals
from bot.adapters.slack.api import SlackApi, SlackCallFailed, Upload
from bot.adapters.slack.commands import Ask, Commands, Reply, say
from bot.adapters.slack.gestures import Command, Press, Question, Shortcut
from bot.adapters.visible import visible
from bot.errors import NatsmedicError
from bot.flow.admission import Admission
from bot.flow.asking import TITLE_LIMIT
from bot.model import Incident, JsonObject, new_id
from bot.policy import may_run
from bot.ports import Messages, Store

PATIENCE: Final = 2.3
"""Seconds in which a command is answered at once; Slack waits 3 s. A later answer is shown when it is there."""
REMEMBERED: Final = 10_000
"""Events that are known to have been answered; Slack repeats one for five minutes, and sends 30,000 an hour at most (reference/chatops.md 5)."""
ONE_MOMENT: Final = "One moment…"
SHORTCUT: Final = "Diagnose this alert"

log = structlog.get_logger(__name__)

Spawn = Callable[[Coroutine[None, None, None], str], None]


class Served(Protocol):
    """The clusters that can be asked about."""

    @property
    def clusters(self) -> Sequence[str]: ...


class Talk:
    """Answers. Nothing here raises into Bolt."""

    def __init__(
        self,
        api: SlackApi,
        store: Store,
        messages: Messages,
        commands: Commands,
        admission: Admission,
        spawn: Spawn,
        served: Served,
    ) -> None:
        self._api = api
        self._store = store
        self._messages = messages
        self._commands = commands
        self._admission = admission
        self._spawn = spawn
        self._served = served
        self._answered: OrderedDict[str, None] = OrderedDict()

    async def command(self, command: Command) -> Reply:
        """Answer a slash command within Slack's three seconds; what takes longer, and what follows, is whispered."""
        if not self._first(command.event):
            return say("This was delivered twice, and done once.")
        ask = Ask(command.user, command.event, tuple(command.line.split()))
        task = asyncio.create_task(self._answer(ask), name="command")
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            self._spawn(self._late(command, task), "late command")
            return say(ONE_MOMENT)
        reply = task.result()
        if reply.whole:
            self._spawn(self._tell(command, reply), "file")
            return say(ONE_MOMENT)
        if reply.later is not None:
            self._spawn(self._follow(command, reply), "follow")
        return reply

    async def mention(self, command: Command) -> None:
        """Answer a mention, in its thread; in an incident's thread it is about that incident."""
        if not self._first(command.event):
            return
        incident = await self._incident(command.channel, command.thread)
        ask = Ask(command.user, command.event, tuple(command.line.split()), incident)
        reply = await self._answer(ask)
        await self._tell(command, reply)
        await self._follow(command, reply)

    async def more(self, press: Press) -> None:
        """Show the next page: the same words as if they were typed again, by whoever pressed."""
        if not self._first(press.trigger):
            return
        number, _, line = press.button.partition(":")
        page = int(number) if number.isascii() and number.isdecimal() else 0
        incident = await self._incident(press.channel, press.thread)
        command = Command(press.user, line, press.channel, press.trigger, press.thread, press.answer_to)
        ask = Ask(press.user, command.event, tuple(line.split()), incident, page)
        await self._tell(command, replace(await self._answer(ask), public=False))

    async def shortcut(self, used: Shortcut) -> None:
        """Open the form, or look again at the incident whose thread it is."""
        place = Command(used.user, "diagnose", used.channel, used.trigger, used.thread, used.answer_to)
        if await self._incident(used.channel, used.thread or used.ts) is not None:
            await self.mention(replace(place, thread=used.thread or used.ts))
            return
        if not self._first(used.trigger):
            return
        try:
            opened = await self._api.open_view(used.trigger, modals.sentence_view(SHORTCUT[:24], "One moment…"))
            await self._api.update_view(opened.id, await self._form(used), opened.hash)
        except NatsmedicError as error:
            log.warning("a shortcut could not be answered", reason=str(error))
            await self._tell(place, say(f"Nothing was asked: {error}"))

    async def asked(self, question: Question) -> None:
        """Ask what the form behind a shortcut says."""
        place = Command(question.user, "", question.channel, question.view_id, question.thread, question.answer_to)
        if not self._first(question.view_id):
            return
        try:
            person = await self._admission.admit(question.user, may_run, "shortcut")
            if question.cluster not in self._served.clusters:
                # The menu had no such choice; to ask about it is refused below.
                await self._admission.unreadable(question.user, "question")
            message = f"{question.channel}/{question.ts}"
            title = question.title[:TITLE_LIMIT] or SHORTCUT
            reply = await self._commands.acting.ask_about(
                person.key, question.view_id, question.cluster, title, message
            )
        except NatsmedicError as error:
            reply = say(f"Nothing was asked: {error}")
        await self._tell(place, reply)
        await self._follow(place, reply)

    async def _form(self, used: Shortcut) -> JsonObject:
        try:
            await self._admission.admit(used.user, may_run, "shortcut")
        except NatsmedicError as error:
            return modals.sentence_view(SHORTCUT[:24], str(error))
        title = (used.text.strip().splitlines() or [SHORTCUT])[0][:TITLE_LIMIT]
        where = {"channel": used.channel, "ts": used.ts, "thread": used.thread}
        where |= {"asker": used.user.user_id, "answer_to": used.answer_to}
        return modals.question_form(where, title, self._served.clusters)

    async def _answer(self, ask: Ask) -> Reply:
        try:
            return await self._commands.answer(ask)
        except NatsmedicError as error:
            return say(f"That did not work: {error}")
        except Exception:  # the person must hear that it failed; the id leads to the log
            error_id = new_id("err")
            log.exception("a command failed", error_id=error_id)
            return say(f"That did not work. Error id: {error_id}")

    async def _late(self, command: Command, task: asyncio.Task[Reply]) -> None:
        reply = await task
        await self._tell(command, reply)
        await self._follow(command, reply)

    async def _follow(self, command: Command, reply: Reply) -> None:
        if reply.later is None:
            return
        try:
            await self._tell(command, await reply.later())
        except NatsmedicError as error:
            log.warning("what follows an answer is not known", reason=str(error))

    async def _tell(self, command: Command, reply: Reply) -> None:
        if reply.whole:
            reply = await self._filed(command, reply)
        try:
            if command.answer_to and await self._responded(command, reply):
                return
            if reply.public:
                await self._api.post(
                    command.channel, reply.text, reply.blocks, f"answer:{command.event}", command.thread
                )
            else:
                await self._api.whisper(command.channel, command.user.user_id, reply.text, command.thread, reply.blocks)
        except SlackCallFailed as error:
            log.warning("an answer did not reach who asked", reason=str(error))

    async def _responded(self, command: Command, reply: Reply) -> bool:
        """Answer by the gesture's own address, which needs no membership in its channel; False where it takes nothing any more."""
        body: JsonObject = {
            "text": reply.text,
            "blocks": list(reply.blocks),
            "response_type": "in_channel" if reply.public else "ephemeral",
            "replace_original": False,
        }
        if command.thread is not None:
            body["thread_ts"] = command.thread
        try:
            await self._api.respond(command.answer_to, body)
        except SlackCallFailed as error:
            log.info("a response_url takes no answer, so it goes another way", reason=str(error))
            return False
        return True

    async def _filed(self, command: Command, reply: Reply) -> Reply:
        """Upload a list and return the words that lead to it: a file can't be ephemeral, so it goes to the asker's direct messages unless it is public."""
        content = await asyncio.to_thread(bytes_of, reply.whole)
        name = re.sub(r"[^A-Za-z0-9.-]", "-", f"{command.line.split()[0].lower()}-{command.event[-12:]}.txt")
        upload = Upload(name, name, content)
        try:
            if reply.public:
                await self._api.attach(command.channel, command.thread, [upload], reply.text)
                return replace(say("The file is here."), public=False)
            channel = await self._api.direct(command.user.user_id)
            await self._api.attach(channel, None, [upload], reply.text)
        except SlackCallFailed as error:
            return say(f"The file could not be posted: {error} On the command line `natsmedic` lists all of it.")
        return say("The file is in your direct messages with natsmedic.")

    async def _incident(self, channel: str, thread: str | None) -> Incident | None:
        """The incident in whose thread it was said."""
        row = await self._messages.at(channel, thread) if thread is not None else None
        return await self._store.get(Incident, row.incident_id) if row is not None else None

    def _first(self, event: str) -> bool:
        if event in self._answered:
            return False
        self._answered[event] = None
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        return True


def bytes_of(lines: Sequence[str]) -> bytes:
    """The lines as a text file in which nothing is hidden."""
    return "".join(f"{visible(line)}\n" for line in lines).encode()
