"""Questions to all servers at once over the system account, each answered by every server on its own.

Subjects and reply shape: reference/nats.md 3.1. One private inbox serves a whole pass; a question's token tells its answers apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import orjson
from nats.aio.msg import Msg

from bot.adapters.nats.api import error_of
from bot.adapters.nats.connection import Connection, Inbox, RequestFailed, Why
from bot.adapters.nats.facts import identity_of
from bot.model import Endpoint, Json, JsonObject, ServerIdentity, Unknown, UnknownReason, part
from bot.model.assets import Assets, read_answer, read_fields
from bot.ports import Clock

NO_RESPONDERS_STATUS: Final = "503"
"""Header `Status` of the empty message that stands for *nobody serves this subject*."""

DIRECT_SHARE: Final = 0.5
"""Share of the patience after which the silent servers are asked one by one: the other half is theirs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One server's reply: `data`, or the `problem` the server names."""

    identity: ServerIdentity
    taken_at: datetime
    data: JsonObject | None = None
    assets: Assets | None = None
    problem: Unknown | None = None


class _Reply(msgspec.Struct):
    """A `$SYS` reply; its data is decoded on its own, so that a large one is never held as dictionaries."""

    server: Json = None
    data: msgspec.Raw = msgspec.Raw(b"")
    statsz: msgspec.Raw = msgspec.Raw(b"")
    error: Json = None

    @property
    def body(self) -> tuple[JsonObject, Assets | None] | None:
        return read_answer(self.data or self.statsz, jsz=False)


class _JszReply(msgspec.Struct):
    """The same with JSZ as data: the largest answer, whose fields are told apart in the one pass that finds them."""

    server: Json = None
    data: dict[str, msgspec.Raw] | list[msgspec.Raw] | str | float | bool | None = None
    error: Json = None

    @property
    def body(self) -> tuple[JsonObject, Assets | None] | None:
        return read_fields(self.data) if isinstance(self.data, dict) else None


_REPLY: Final = msgspec.json.Decoder(_Reply)
_JSZ_REPLY: Final = msgspec.json.Decoder(_JszReply)


class Question:
    """One question and what came back so far, by server name."""

    def __init__(self, number: int, endpoint: str = "") -> None:
        self.number = number
        self.endpoint = endpoint
        self.answers: dict[str, Answer] = {}
        self.refused: Unknown | None = None
        """Why nobody answers: the server denied the question, or no server serves it."""
        self.refused_by: dict[str, Unknown] = {}
        """Why a server that was asked by its id does not answer."""
        self.malformed = 0
        self.failure: RequestFailed | None = None
        self.targets: list[str] = []
        """Servers asked by id, by their place in the token."""
        self.changed = asyncio.Event()
        self.changed_at = asyncio.get_running_loop().time()

    def settled(self, wanted: Iterable[str]) -> bool:
        """Tell whether nothing more can come from the wanted servers."""
        if self.refused is not None or self.failure is not None:
            return True
        return all(server in self.answers or server in self.refused_by for server in wanted)

    def why_not(self, server: str) -> Unknown:
        """Return why this server's answer is missing."""
        if (known := self.refused_by.get(server) or self.refused) is not None:
            return known
        if self.malformed:
            return Unknown(reason=UnknownReason.UNREADABLE, detail=f"{self.malformed} answers were not a JSON object")
        return Unknown(reason=UnknownReason.TIMED_OUT, detail=f"{server} did not answer in time")

    async def wait(self, done: Callable[[], bool], until: float) -> None:
        """Return when `done` holds or the loop's clock reaches `until`."""
        while not done() and await self.next(until):
            pass

    async def next(self, until: float) -> bool:
        """Wait for one more answer or refusal; False where the loop's clock reaches `until` first."""
        self.changed.clear()
        try:
            async with asyncio.timeout_at(until):
                await self.changed.wait()
        except TimeoutError:
            return False
        return True

    def note(self) -> None:
        """Wake whoever waits."""
        self.changed_at = asyncio.get_running_loop().time()
        self.changed.set()


class Scatter:
    """The questions of one pass. Get one from `open_scatter`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._questions: list[Question] = []
        self._inbox: Inbox | None = None
        self.identities: dict[str, ServerIdentity] = {}
        self.namesakes: set[str] = set()
        """Names that two servers with different ids use."""

    @asynccontextmanager
    async def asking(self, subject: str, body: JsonObject) -> AsyncGenerator[Question, None]:
        """Publish a question to all servers; answers arrive in it while the block runs."""
        question = Question(len(self._questions))
        self._questions.append(question)
        async with AsyncExitStack() as open_questions:
            await self._publish(open_questions, question, subject, body, None)
            yield question

    async def collect(
        self, endpoint: str, body: JsonObject, wanted: Mapping[str, str], patience: float, *, ask_all: bool = True
    ) -> Question:
        """Ask `$SYS.REQ.SERVER.PING.<endpoint>` and return when every wanted server (name to id) has answered or `patience` seconds are over;
        at half time the silent ones are asked by id. `ask_all=False` asks only by id. Raises `RequestFailed` where the connection is lost.
        """
        question = Question(len(self._questions), endpoint)
        self._questions.append(question)
        start = asyncio.get_running_loop().time()
        async with AsyncExitStack() as open_questions:
            if ask_all:
                await self._publish(open_questions, question, f"$SYS.REQ.SERVER.PING.{endpoint}", body, None)
                await question.wait(lambda: question.settled(wanted), start + patience * DIRECT_SHARE)
            if not question.settled(wanted):
                for server in sorted(wanted.keys() - question.answers.keys()):
                    subject = f"$SYS.REQ.SERVER.{wanted[server]}.{endpoint}"
                    await self._publish(open_questions, question, subject, body, server)
                await question.wait(lambda: question.settled(wanted), start + patience)
        if question.failure is not None:
            raise question.failure
        return question

    async def deliver(self, token: str, message: Msg) -> None:
        """Take an answer. Token: `<question>-all`, or `<question>-<place of the server asked by id>`."""
        number, _, place = token.partition("-")
        question = self._questions[int(number)]
        target = None if place == "all" else question.targets[int(place)]
        if not message.data and (message.headers or {}).get("Status") == NO_RESPONDERS_STATUS:
            _refuse(
                question, target, Unknown(reason=UnknownReason.NOT_IN_VERSION, detail="no server serves this question")
            )
        elif (answer := self._answer(message, jsz=question.endpoint == Endpoint.JSZ)) is None:
            question.malformed += 1
        else:
            question.answers.setdefault(answer.identity.name, answer)
        question.note()

    def _answer(self, message: Msg, *, jsz: bool) -> Answer | None:
        try:
            reply = (_JSZ_REPLY if jsz else _REPLY).decode(message.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        header = part({"server": reply.server}, "server")
        if not header:
            return None
        identity = identity_of(header)
        before = self.identities.setdefault(identity.name, identity)
        if before.id != identity.id:
            self.namesakes.add(identity.name)
        now = self._clock.now()
        if (error := error_of({"error": reply.error})) is not None:
            detail = f"{identity.name} answered: {error.description} (code {error.code})"
            return Answer(identity, now, problem=Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        body = reply.body
        if body is None:
            detail = f"{identity.name} answered without data"
            return Answer(identity, now, problem=Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        return Answer(identity, now, *body)

    async def _publish(
        self, open_questions: AsyncExitStack, question: Question, subject: str, body: JsonObject, server: str | None
    ) -> None:
        if self._inbox is None:
            raise RuntimeError("a Scatter works only inside open_scatter")
        place = "all"
        if server is not None:
            question.targets.append(server)
            place = str(len(question.targets) - 1)
        payload = orjson.dumps(body) if body else b""
        doom = await open_questions.enter_async_context(
            self._inbox.asking(subject, payload, f"{question.number}-{place}")
        )
        doom.add_done_callback(lambda future: _fail(question, server, future))

    def attach(self, inbox: Inbox) -> None:
        """Bind the inbox that answers arrive in."""
        self._inbox = inbox


@asynccontextmanager
async def open_scatter(connection: Connection, clock: Clock) -> AsyncGenerator[Scatter, None]:
    """Open the private inbox of one pass. Raises `RequestFailed` where there is no connection."""
    scatter = Scatter(clock)
    async with connection.inbox(scatter.deliver) as inbox:
        scatter.attach(inbox)
        yield scatter


def _fail(question: Question, server: str | None, doom: asyncio.Future[RequestFailed]) -> None:
    if doom.cancelled():
        return
    failed = doom.result()
    if failed.why is Why.DENIED:
        _refuse(question, server, Unknown(reason=UnknownReason.DENIED, detail=failed.detail))
    else:
        question.failure = failed
    question.note()


def _refuse(question: Question, server: str | None, why: Unknown) -> None:
    if server is None:
        question.refused = why
    elif server not in question.answers:
        unreachable = Unknown(reason=UnknownReason.UNREACHABLE, detail=f"{server} does not answer to its id")
        question.refused_by[server] = why if why.reason is UnknownReason.DENIED else unreachable
