"""The `Chat` port: a loop that draws every incident that is behind, one worker per channel, for as long as the process lives.

Slack may be down for an hour: nothing is lost, because what to draw is read from the database. Slack takes one message a second and channel, so the order
matters, and whatever is drawn lets what is more important pass after each message:

1. what a person has done, and waits to see;
2. proposals to decide about, and repairs that run;
3. the first message of an incident that has none yet: of a storm, then of page-worthy ones, then of all others;
4. everything else of a thread, in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars

from bot.adapters.slack.api import Doubtful, Limited, NotSent, RefusedBySlack, SlackCallFailed
from bot.adapters.slack.countdown import Countdown
from bot.adapters.slack.pace import RUNNING, STEP
from bot.adapters.slack.pacer import patiently
from bot.adapters.slack.projector import SlackDrawer
from bot.adapters.slack.waits import Wait
from bot.errors import StoreError
from bot.model import STORM, Incident, IncidentId
from bot.ports import Clock, Messages, Store

POLL_SECONDS: Final = 1.0
"""How long a change that nobody nudged about (another replica's) may wait before it is looked for."""
FLUSH_SECONDS: Final = 0.1
"""Between looks at whether everything is drawn, while the process is about to end."""
FIRST_REST: Final = 1.0
LONGEST_REST: Final = 15.0
"""Seconds between attempts while Slack is down; a thread must be right 60 s after it is back (design/safety.md, I4)."""
FATAL_REST: Final = 30.0
"""Seconds between attempts where a person must repair something first."""
TOKEN_FATAL: Final = frozenset(
    {
        "token_revoked",
        "token_expired",
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "org_login_required",
        "missing_scope",
        "access_denied",
    }
)
CHANNEL_FATAL: Final = frozenset(
    {
        "channel_not_found",
        "is_archived",
        "not_in_channel",
        "restricted_action",
        "restricted_action_read_only_channel",
        "no_permission",
    }
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChatHealth:
    """Whether threads can be drawn. `problems` are whole sentences; `since` is when the oldest of them began."""

    ok: bool
    problems: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Trouble:
    sentence: str
    since: datetime


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an incident is drawn, and before which others: the lowest rank first."""

    channel: str
    rank: int


def _place(incident: Incident) -> _Place:
    return _Place(incident.channel, 0 if incident.source == STORM else 1 if incident.page_worthy else 2)


class SlackProjector:
    """`Chat`, and the loop behind it. `run` ends only by being cancelled."""

    def __init__(self, drawer: SlackDrawer, store: Store, messages: Messages, clock: Clock) -> None:
        self._drawer = drawer
        self._store = store
        self._messages = messages
        self._clock = clock
        self._draws = False
        self._wake = asyncio.Event()
        self._hurried: set[IncidentId] = set()
        self._places: dict[IncidentId, _Place] = {}
        self._begun: set[IncidentId] = set()
        """Incidents that are behind, and have a first message for certain."""
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, Wait] = {}
        """Per channel, per incident and for all of Slack (key ``)."""
        self._limited: dict[str, Wait] = {}
        """Channels in which Slack limits new posts; edits of what people wait for go on."""
        self._held: dict[IncidentId, Wait] = {}
        """Boards that were edited a moment ago, until when they wait; a person's action does not."""
        self._ticks: dict[IncidentId, Wait] = {}
        """Threads with a running repair, and when its board shows the time again."""
        self._countdown = Countdown(store, clock)
        self._failures = 0
        self._troubles: dict[str, _Trouble] = {}

    def nudge(self, incident: IncidentId) -> None:  # noqa: ARG002  the loop asks the database what is behind
        """Say that there is something to draw."""
        self._wake.set()

    def hurry(self, incident: IncidentId) -> None:
        """Say that a person has acted on this incident and waits for the thread to show it."""
        self._hurried.add(incident)
        self._wake.set()

    async def acted(self, incident: IncidentId) -> None:
        """As `hurry`, in whichever process draws. Where it can't be told, the thread is only a few seconds later."""
        if self._draws:
            self.hurry(incident)
            return
        try:
            await self._messages.hurry(incident)
        except StoreError as error:
            log.info(
                "the replica that draws could not be told of a person's action", incident=incident, error=str(error)
            )

    async def draw(self, incident: IncidentId) -> None:
        """Draw one incident now, once; raises `SlackCallFailed` and StoreError."""
        await self._drawer.draw(incident, at_once=True)

    def health(self) -> ChatHealth:
        """Return what stands in the way of drawing."""
        troubles = sorted(self._troubles.values(), key=lambda trouble: trouble.since)
        since = troubles[0].since if troubles else None
        return ChatHealth(ok=not troubles, problems=tuple(trouble.sentence for trouble in troubles), since=since)

    async def caught_up(self, patience: float) -> None:
        """Wait until everything is drawn, or so many seconds; `run` draws meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while await self._messages.behind():
                    self._wake.set()
                    await self._clock.sleep(FLUSH_SECONDS)

    async def run(self) -> None:
        """Draw until cancelled."""
        self._draws = True
        try:
            while True:
                self._wake.clear()
                try:
                    await self._start_workers()
                    self._recovered("store")
                except StoreError as error:
                    self._trouble("store", f"The database could not say what to draw: {error}")
                await self._pause()
        finally:
            workers = [worker for worker in self._workers.values() if not worker.done()]
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _pause(self) -> None:
        waiting = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _start_workers(self) -> None:
        """Start a worker in every free channel: all incidents people wait for, and one other."""
        if self._resting(""):
            return
        hurried = frozenset(self._hurried)  # before the database is asked: what they have done is committed
        behind = [incident for incident, _ in await self._messages.behind()]
        counting = await self._countdown.due(changed=bool(behind))
        behind = list(dict.fromkeys([*behind, *await self._running(), *counting]))
        self._hurried -= hurried - set(behind)
        self._begun &= set(behind)
        if not behind:
            self._places.clear()
            self._held.clear()
            return
        hot = {p.incident_id for p in self._countdown.offers} | self._hurried
        for channel, incidents in (await self._by_channel(behind)).items():
            worker = self._workers.get(channel)
            if (worker is not None and not worker.done()) or self._resting(channel):
                continue
            first = sorted((one for one in incidents if one in hot), key=lambda one: one not in self._hurried)
            rest = [] if self._posts_limited(channel) else [one for one in incidents if one not in hot]
            rest.sort(key=lambda one: (one in self._begun, self._places[one].rank))
            if first or rest:
                work = self._work(channel, first, rest[:1])
                self._workers[channel] = asyncio.create_task(work, name=f"slack-{channel}")

    async def _running(self) -> list[IncidentId]:
        """Threads with a running repair whose time is due to be shown."""
        now = self._clock.now()
        running = [one.incident_id for one in await self._store.unfinished_executions() if one.state in RUNNING]
        due = [one for one in running if one not in self._ticks or not self._ticks[one].lasts(now)]
        later = dict.fromkeys(due, Wait(now, now + timedelta(seconds=STEP)))
        self._ticks = {incident: (self._ticks | later)[incident] for incident in running}
        return due

    def _waits(self, incident: IncidentId) -> bool:
        wait = self._held.get(incident)
        return wait is not None and wait.lasts(self._clock.now()) and incident not in self._hurried

    async def _by_channel(self, behind: Sequence[IncidentId]) -> dict[str, list[IncidentId]]:
        found: dict[str, list[IncidentId]] = {}
        for incident in behind:
            if self._resting(incident) or self._waits(incident):
                continue
            if incident not in self._places:
                record = await self._store.get(Incident, incident)
                if record is None:
                    continue
                self._places[incident] = _place(record)
            found.setdefault(self._places[incident].channel, []).append(incident)
        return found

    async def _work(self, channel: str, first: Sequence[IncidentId], rest: Sequence[IncidentId]) -> None:
        drawn = False
        known = set(self._hurried)
        for incident in (*first, *rest):
            if drawn and not self._hurried <= known:
                break  # a person has acted meanwhile
            bounds = self._countdown.bounds(incident)
            bind_contextvars(incident=incident)  # for the rest of this worker's task, or until the next one
            try:
                until = await self._once(incident, patient=incident in rest)
            except Limited as error:
                self._limited[channel] = Wait(self._clock.now(), error.until)
                continue
            except (SlackCallFailed, StoreError) as error:
                self._failed(channel, incident, error)
                return
            except Exception:  # the loop outlives a mistake in one incident; it is logged whole and tried again
                log.exception("drawing an incident failed", incident=incident)
                self._trouble(incident, f"Incident {incident} cannot be drawn; the log says why.")
                self._rest(incident, FATAL_REST)
                continue
            drawn = True
            known.discard(incident)
            self._begun.add(incident)
            if until is not None:
                self._held[incident] = Wait(self._clock.now(), until)
            else:
                self._countdown.drawn(incident, bounds)
            self._failures = 0
            for scope in ("slack", channel, incident):
                self._recovered(scope)
        if drawn:
            self._wake.set()

    async def _once(self, incident: IncidentId, *, patient: bool) -> datetime | None:
        """Draw an incident, one message of it where nobody has just acted on it."""
        if incident in self._hurried:
            self._hurried.discard(incident)  # before it is read: who acts from here on is shown by the next drawing
            try:
                return await self._drawer.draw(incident, at_once=True)
            except Exception:
                self._hurried.add(incident)
                raise
        if not patient:
            return await self._drawer.draw(incident, posts=1)
        with patiently():
            return await self._drawer.draw(incident, posts=1)

    def _failed(
        self, channel: str, incident: IncidentId, error: NotSent | Doubtful | RefusedBySlack | Exception
    ) -> None:
        if isinstance(error, RefusedBySlack):
            if error.code in TOKEN_FATAL:
                scope, rests = "slack", ""
            elif error.code in CHANNEL_FATAL:
                scope, rests = channel, channel
            else:
                scope, rests = incident, incident
            self._trouble(scope, f"{error} Channel {channel}; a person must look at this.")
            self._rest(rests, FATAL_REST)
            return
        if isinstance(error, StoreError):
            self._rest(channel, FIRST_REST)
            return
        self._trouble("slack", f"Slack cannot be reached: {error}")
        self._rest("", min(LONGEST_REST, FIRST_REST * 2**self._failures))
        self._failures = min(self._failures + 1, 10)

    def _rest(self, scope: str, seconds: float) -> None:
        now = self._clock.now()
        self._rests[scope] = Wait(now, now + timedelta(seconds=seconds))

    def _posts_limited(self, channel: str) -> bool:
        wait = self._limited.get(channel)
        return wait is not None and wait.lasts(self._clock.now())

    def _resting(self, scope: str) -> bool:
        wait = self._rests.get(scope)
        if wait is None or wait.lasts(self._clock.now()):
            return wait is not None
        del self._rests[scope]
        return False

    def _trouble(self, scope: str, sentence: str) -> None:
        known = self._troubles.get(scope)
        if known is None:
            log.error("threads cannot be drawn", scope=scope, problem=sentence)
        self._troubles[scope] = _Trouble(sentence, known.since if known else self._clock.now())

    def _recovered(self, scope: str) -> None:
        if self._troubles.pop(scope, None) is not None:
            log.info("threads are drawn again", scope=scope)
