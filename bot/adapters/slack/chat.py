"""The `Chat` port: a loop that draws every incident that is behind, one worker per channel, for as long as the process lives.

Slack may be down for an hour: nothing is lost, because what to draw is read from the database. Of the incidents that wait in a channel, those with
an active proposal or a person's action are drawn before all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars

from bot.adapters.slack.api import Doubtful, Limited, NotSent, RefusedBySlack, SlackCallFailed
from bot.adapters.slack.pace import RUNNING, STEP
from bot.adapters.slack.projector import SlackDrawer
from bot.errors import StoreError
from bot.model import Incident, IncidentId
from bot.ports import Clock, Messages, Store

POLL_SECONDS: Final = 1.0
"""How long a change that nobody nudged about (another replica's) may wait before it is looked for."""
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


class SlackProjector:
    """`Chat`, and the loop behind it. `run` ends only by being cancelled."""

    def __init__(self, drawer: SlackDrawer, store: Store, messages: Messages, clock: Clock) -> None:
        self._drawer = drawer
        self._store = store
        self._messages = messages
        self._clock = clock
        self._wake = asyncio.Event()
        self._hurried: set[IncidentId] = set()
        self._channels: dict[IncidentId, tuple[str, bool]] = {}
        """Where an incident is drawn, and whether it is page-worthy."""
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, datetime] = {}
        """Per channel, per incident and for all of Slack (key ``)."""
        self._limited: dict[str, datetime] = {}
        """Channels in which Slack limits new posts; edits of what people wait for go on."""
        self._held: dict[IncidentId, datetime] = {}
        """Boards that were edited a moment ago, until when they wait; a person's action does not."""
        self._ticks: dict[IncidentId, datetime] = {}
        """Threads with a running repair, and when its board shows the time again."""
        self._failures = 0
        self._troubles: dict[str, _Trouble] = {}

    def nudge(self, incident: IncidentId) -> None:  # noqa: ARG002  the loop asks the database what is behind
        """Say that there is something to draw."""
        self._wake.set()

    def hurry(self, incident: IncidentId) -> None:
        """Say that a person has acted on this incident and waits for the thread to show it."""
        self._hurried.add(incident)
        self._wake.set()

    async def draw(self, incident: IncidentId) -> None:
        """Draw one incident now, once; raises `SlackCallFailed` and StoreError."""
        await self._drawer.draw(incident, at_once=True)

    def health(self) -> ChatHealth:
        """Return what stands in the way of drawing."""
        troubles = sorted(self._troubles.values(), key=lambda trouble: trouble.since)
        since = troubles[0].since if troubles else None
        return ChatHealth(ok=not troubles, problems=tuple(trouble.sentence for trouble in troubles), since=since)

    async def run(self) -> None:
        """Draw until cancelled."""
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
        behind = [incident for incident, _ in await self._messages.behind()]
        behind += [incident for incident in await self._running() if incident not in behind]
        self._hurried &= set(behind)
        if not behind:
            self._channels.clear()
            self._held.clear()
            return
        hot = {p.incident_id for p in await self._store.proposals(active_only=True)} | self._hurried
        for channel, incidents in (await self._by_channel(behind)).items():
            worker = self._workers.get(channel)
            if (worker is not None and not worker.done()) or self._resting(channel):
                continue
            first = [one for one in incidents if one in hot]
            rest = [] if self._posts_limited(channel) else [one for one in incidents if one not in hot]
            rest.sort(key=lambda one: not self._channels[one][1])  # page-worthy ones first, in their order
            chosen = [*first, *rest[:1]]
            if chosen:
                self._workers[channel] = asyncio.create_task(self._work(channel, chosen), name=f"slack-{channel}")

    async def _running(self) -> list[IncidentId]:
        """Threads with a running repair whose time is due to be shown."""
        now = self._clock.now()
        running = [one.incident_id for one in await self._store.unfinished_executions() if one.state in RUNNING]
        due = [incident for incident in running if self._ticks.get(incident, now) <= now]
        later = dict.fromkeys(due, now + timedelta(seconds=STEP))
        self._ticks = {incident: (self._ticks | later)[incident] for incident in running}
        return due

    def _waits(self, incident: IncidentId) -> bool:
        until = self._held.get(incident)
        return until is not None and self._clock.now() < until and incident not in self._hurried

    async def _by_channel(self, behind: Sequence[IncidentId]) -> dict[str, list[IncidentId]]:
        found: dict[str, list[IncidentId]] = {}
        for incident in behind:
            if self._resting(incident) or self._waits(incident):
                continue
            if incident not in self._channels:
                record = await self._store.get(Incident, incident)
                if record is None:
                    continue
                self._channels[incident] = (record.channel, record.page_worthy)
            found.setdefault(self._channels[incident][0], []).append(incident)
        return found

    async def _work(self, channel: str, incidents: Sequence[IncidentId]) -> None:
        drawn = False
        for incident in incidents:
            bind_contextvars(incident=incident)  # for the rest of this worker's task, or until the next one
            try:
                until = await self._drawer.draw(incident, at_once=incident in self._hurried)
            except Limited as error:
                self._limited[channel] = error.until
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
            if until is not None:
                self._held[incident] = until
            self._hurried.discard(incident)
            self._failures = 0
            for scope in ("slack", channel, incident):
                self._recovered(scope)
        if drawn:
            self._wake.set()

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
        self._not_before[scope] = self._clock.now() + timedelta(seconds=seconds)

    def _posts_limited(self, channel: str) -> bool:
        until = self._limited.get(channel)
        return until is not None and self._clock.now() < until

    def _resting(self, scope: str) -> bool:
        until = self._not_before.get(scope)
        if until is None:
            return False
        if self._clock.now() < until:
            return True
        del self._not_before[scope]
        return False

    def _trouble(self, scope: str, sentence: str) -> None:
        known = self._troubles.get(scope)
        if known is None:
            log.error("threads cannot be drawn", scope=scope, problem=sentence)
        self._troubles[scope] = _Trouble(sentence, known.since if known else self._clock.now())

    def _recovered(self, scope: str) -> None:
        if self._troubles.pop(scope, None) is not None:
            log.info("threads are drawn again", scope=scope)
