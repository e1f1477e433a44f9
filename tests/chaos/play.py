"""One operation from the alert to its end: a consumer that wishes for a change, five alerts about it, and people who click five times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from bot.action import RECEIPT_KEY
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.errors import StoreError
from bot.lab import drills
from bot.lab.jetstream import ApiRefused, request, section
from bot.lab.slack import BOT_USER_ID, ImpossibleGesture
from bot.model import ExecutionState, IncidentId, JsonObject, Proposal, ProposalState
from bot.policy import typed_name
from tests.chaos.arena import PATIENCE, Arena, Crew, Site
from tests.chaos.wishes import AGAIN, ALERT, KEY, PAUSE_FOR, Wish
from tests.crash.proxy import Sent

COPIES: Final = 5
"""How often each webhook, click and form is delivered (issue 7)."""
PUBLISHED, PROCESSED = 6, 3
WORKER: Final = "worker"
LOOK_SECONDS: Final = 1.0
"""How often a person looks. It costs the bots' database a query each time."""
FORM_SECONDS: Final = 0.05
"""How often a person who clicked looks whether the form is there."""
ASK_AFTER: Final = 20.0
"""Seconds without anything to decide after which a person asks the bot to look again."""
GIVES_UP_AFTER: Final = 900.0
"""Seconds; no operation lasts so long, with every fault at its longest."""

T = TypeVar("T")


@dataclass(frozen=True)
class Played:
    """What became of one operation, as people and the target saw it."""

    number: int
    wish: Wish
    site: str
    stream: str
    incident: IncidentId
    effects: tuple[Sent, ...]
    """What took effect at the target, in order."""
    problem: str
    """In which way the consumer is not as was wished for; empty where it is."""
    began: datetime
    ended: datetime
    unfinished: bool = False
    """Whether people gave up waiting."""


async def carried_out(arena: Arena, site: Site, crew: Crew, number: int, seed: int) -> Played:
    """Carry one operation out."""
    wish = random.Random(f"{seed}/{number}").choice(list(Wish))
    stream = f"OP{number:06d}"
    began = SystemClock().now()
    await _made(site, stream, wish)
    try:
        return await _Operation(arena, site, crew, number, wish, stream, began).play()
    finally:
        await request(site.client, f"STREAM.DELETE.{stream}")


class _Operation:
    """One operation while it lasts."""

    def __init__(
        self, arena: Arena, site: Site, crew: Crew, number: int, wish: Wish, stream: str, began: datetime
    ) -> None:
        self._arena = arena
        self._site = site
        self._crew = crew
        self._number = number
        self._wish = wish
        self._stream = stream
        self._began = began
        self._idle_since = began
        self._unlocked: set[str] = set()

    async def play(self) -> Played:
        """Send, decide, wait, and look."""
        labels = {"account": "APP", "stream": self._stream, "consumer": WORKER}
        await asyncio.gather(*(self._arena.alert(self._site, ALERT, labels) for _ in range(COPIES)))
        incident = await self._seen()
        unfinished = False
        try:
            async with asyncio.timeout(GIVES_UP_AFTER):
                while not await self._ended(incident):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            unfinished = True
        await self._arena.alert(self._site, ALERT, labels, state="resolved")
        changed = f".{self._stream}.{WORKER}"
        effects = tuple(sent for sent in self._site.door.sent if sent.what.endswith(changed) and sent.effective)
        problem = await _problem(self._site, self._stream, self._wish)
        ended = SystemClock().now()
        where = self._number, self._wish, self._site.name, self._stream
        return Played(*where, incident, effects, problem, self._began, ended, unfinished)

    async def _seen(self) -> IncidentId:
        """Wait for the thread, as people do."""
        since = f"{self._began.timestamp():.6f}"
        async with asyncio.timeout(GIVES_UP_AFTER):
            while (board := self._arena.message(self._site.channel, "board:", self._stream, since)) is None:
                await asyncio.sleep(LOOK_SECONDS)
        assert board.metadata is not None, "it was found by it"
        return IncidentId(str(board.metadata["event_payload"]["key"]).removeprefix("board:"))

    async def _ended(self, incident: IncidentId) -> bool:
        """Do what is to be done now, and tell whether a repair has come to its end."""
        proposals = await read(self._arena, lambda store: store.proposals(incident))
        for proposal in proposals:
            if proposal.state is ProposalState.NEEDS_HUMAN and proposal.id not in self._unlocked:
                self._unlocked.add(proposal.id)
                await self._arena.unlock(self._site)
        if any(proposal.state in ENDED for proposal in proposals):
            return True
        pending = [proposal for proposal in proposals if proposal.state is ProposalState.PENDING]
        now = SystemClock().now()
        if pending or any(not proposal.state.terminal and proposal.stages for proposal in proposals):
            self._idle_since = now
        elif now - self._idle_since > timedelta(seconds=ASK_AFTER):
            self._idle_since = now
            self._ask_again(incident)
        for proposal in pending:
            await self._decide(incident, proposal)
        return False

    def _ask_again(self, incident: IncidentId) -> None:
        board = self._arena.message(self._site.channel, f"board:{incident}")
        if board is not None:
            self._arena.slack.person.say(
                self._crew.operator, self._site.channel, f"<@{BOT_USER_ID}> diagnose", board.ts
            )

    async def _decide(self, incident: IncidentId, proposal: Proposal) -> None:
        """Have those approve who have not yet; a button that is not there, or a form that never opens, is tried again later."""
        approved = {one.user.user_id for one in await read(self._arena, lambda store: store.approvals(proposal.id))}
        people = [self._crew.operator, *([self._crew.owner] if typed_name(proposal) else [])]
        for person in people:
            if person not in approved:
                with suppress(ImpossibleGesture):
                    await self._approve(person, incident, proposal)

    async def _approve(self, person: str, incident: IncidentId, proposal: Proposal) -> None:
        slack, channel = self._arena.slack, self._site.channel
        message = self._arena.message(channel, f"proposal:{proposal.id}")
        if message is None:
            return
        await slack.person.click(person, channel, message.ts, "approve", copies=COPIES)
        self._arena.delivered["clicks"] += COPIES
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._form(person):
                    await asyncio.sleep(FORM_SECONDS)
        if self._form(person):
            name = typed_name(proposal)
            values: JsonObject = {"reason": "checked"} | ({"typed_name": name} if name else {})
            await slack.person.submit(person, values, copies=COPIES)
            self._arena.delivered["forms"] += COPIES
        if slack.open_view(person) is not None:
            await slack.person.close_view(person, all_of_them=True)

    def _form(self, person: str) -> bool:
        view = self._arena.slack.open_view(person)
        return view is not None and any(block.get("type") == "input" for block in view.body["blocks"])


ENDED: Final = frozenset(
    ProposalState(state.value) for state in ExecutionState if state.terminal and state is not ExecutionState.REFUSED
)
"""Ends of what was begun; after any other one a newer proposal comes, or is asked for."""


async def read(arena: Arena, ask: Callable[[SqlStore], Awaitable[T]]) -> T:
    """Ask the bots' records, again for as long as their database is away."""
    while True:
        try:
            return await ask(arena.store)
        except StoreError:
            await asyncio.sleep(LOOK_SECONDS)


async def _made(site: Site, stream: str, wish: Wish) -> None:
    """Make a stream with a consumer that has worked on some of its messages, and wishes for something."""
    await drills.create_stream(site.client, stream, 1, {"storage": "memory"})
    await drills.create_consumer(site.client, stream, WORKER, {"metadata": {KEY: wish.value}})
    await drills.publish(site.client, stream, PUBLISHED)
    for message in (await drills.take(site.client, stream, WORKER, PROCESSED)).values():
        await drills.acknowledge(message)
    if wish is Wish.RESUME:
        until = (SystemClock().now() + PAUSE_FOR).isoformat()
        await request(site.client, f"CONSUMER.PAUSE.{stream}.{WORKER}", {"pause_until": until})


async def _problem(site: Site, stream: str, wish: Wish) -> str:
    try:
        info = await request(site.client, f"CONSUMER.INFO.{stream}.{WORKER}")
    except ApiRefused as refused:
        return str(refused)
    waiting = int(info["num_pending"]) + int(info["num_ack_pending"])
    wanted = PUBLISHED - (AGAIN - 1 if wish is Wish.RESET else PROCESSED)
    if waiting != wanted:
        return f"{waiting} messages wait, not {wanted}"
    if (info.get("paused") is True) != (wish is Wish.PAUSE):
        return "it is paused" if info.get("paused") else "it is not paused"
    if wish is Wish.RECREATE and not section(info, "config", "metadata").get(RECEIPT_KEY):
        return "it carries no receipt"
    return ""
