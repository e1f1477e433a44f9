"""Makes Slack equal to the store: for each incident that has changed, the messages it wants against the messages that exist.

A post is reserved in the database before it is sent. Where it is not certain that a post happened (time-out, 5xx, a crash between the two), the
thread is searched for the message's key before it is posted again: Slack has no idempotency key. Always the newest state is drawn, so that ten
changes while Slack limits or sleeps become one edit. Files (pictures, archives) never stand in the way of words: what can't be attached is said once.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

import structlog

from bot.adapters.slack.api import Doubtful, Limited, NotSent, RefusedBySlack, Seen, SlackApi, SlackCallFailed, Upload
from bot.adapters.slack.blocks import Block, plain
from bot.adapters.slack.pace import STEP
from bot.adapters.slack.render import render
from bot.adapters.slack.render_verdict import unattached
from bot.adapters.slack.waits import Wait
from bot.adapters.slack.wanted import File, WantedMessage, load
from bot.crashpoints import Point, reached
from bot.errors import NatsmedicError
from bot.model import Incident, IncidentId
from bot.ports import UNMETERED, Clock, Draw, Message, Messages, Meter, Store, WriteReport
from bot.settings import PolicySettings

HISTORY_SLACK: Final = timedelta(minutes=10)
"""How far before the incident's opening its parent is looked for: clocks of Slack and of the bot may differ (reference/safety.md 3.3, Clock)."""
GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
"""A message that cannot be edited any more is posted anew."""
FILE_TRIES: Final = 3
"""Uploads of one file without a clear answer, while Slack answers otherwise; uploads go to another host, which a proxy may not let through."""
TOO_BIG: Final = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"})

log = structlog.get_logger(__name__)


class Unattachable(NatsmedicError):
    """A file whose content can't be had; the message says why."""


class SlackDrawer:
    """Draws one incident at a time. Raises what the Web API raises; a second call continues where the first one stopped."""

    def __init__(
        self,
        api: SlackApi,
        store: Store,
        messages: Messages,
        rules: PolicySettings,
        clock: Clock,
        *,
        draw: Draw,
        report: WriteReport,
        meter: Meter = UNMETERED,
    ) -> None:
        self._api = api
        self._store = store
        self._messages = messages
        self._draw = draw
        self._report_of = report
        self._rules = rules
        self._clock = clock
        self._meter = meter
        self._absent: set[str] = set()
        """Keys reserved by this process whose post certainly did not happen, so that nothing needs to be looked for."""
        self._missed: Counter[str] = Counter()
        """How often a file was in doubt and then not found in the thread, by key."""
        self._boards: dict[str, tuple[datetime, str]] = {}
        """When a board was edited last, and its headline; only what still holds an edit back."""

    async def draw(
        self, incident_id: IncidentId, *, at_once: bool = False, posts: int | None = None
    ) -> datetime | None:
        """Make the thread equal to the store and record the revision as drawn.

        A board whose headline stays is edited once in `STEP` seconds, unless `at_once`: until when it waits is returned, and nothing is recorded then.
        After so many new messages as `posts` the rest is left to the next call, and nothing is recorded either: Slack takes one a second.

        Raises `Limited`, or what a file failed with, after everything that may be sent was sent; other `SlackCallFailed` at once, and StoreError.
        """
        incident = await self._store.get(Incident, incident_id)
        if incident is None:
            return None
        wanted = render(await load(self._store, incident, self._clock.now()), self._rules)
        rows = {row.key: row for row in await self._messages.of(incident_id)}
        failed: SlackCallFailed | None = None
        waits: datetime | None = None
        posted, more = 0, False
        for message in _in_order(wanted, rows):
            new = not _stands(message, rows)
            if new and posted == posts:
                more = True
                break
            if not at_once and (until := self._held(message, rows)) is not None:
                waits = until
                continue
            try:
                await self._make(message, incident, rows)
                posted += new
            except Limited as error:
                failed = error
                if not message.thread and rows[message.key].ts is None:
                    break
            except (Doubtful, NotSent) as error:
                if message.file is None:
                    raise
                failed = error
        if failed is not None:
            raise failed
        if waits is None and not more:
            await self._messages.caught_up(incident_id, incident.revision)
        return waits

    def _held(self, wanted: WantedMessage, rows: dict[str, Message]) -> datetime | None:
        """Return until when an edit of a board waits, None where it does not: numbers may be a few seconds old, what they mean may not."""
        row = rows.get(wanted.key)
        edited, headline = self._boards.get(wanted.key, (None, ""))
        if row is None or row.ts is None or row.digest == wanted.digest or edited is None or headline != wanted.text:
            return None
        wait = Wait(edited, edited + timedelta(seconds=STEP))
        return wait.until if wait.lasts(self._clock.now()) else None

    def _edited(self, wanted: WantedMessage) -> None:
        now = self._clock.now()
        held = now - timedelta(seconds=STEP)
        self._boards = {key: seen for key, seen in self._boards.items() if held < seen[0] <= now}
        if not wanted.thread:
            self._boards[wanted.key] = (now, wanted.text)

    async def _make(self, wanted: WantedMessage, incident: Incident, rows: dict[str, Message]) -> None:
        """Make one message equal to what is wanted; `rows` is kept up to date."""
        row = rows.get(wanted.key)
        if row is not None and row.ts is not None and row.digest == wanted.digest:
            return
        if row is None:
            row = Message(key=wanted.key, incident_id=incident.id, channel=incident.channel)
            self._absent.add(wanted.key)
            await self._save(row, rows)
            reached(Point.P03)
        parent = rows[f"board:{incident.id}"].ts if wanted.thread else None
        if row.ts is None and wanted.key not in self._absent:
            row = await self._look(wanted, row, incident, parent, rows)
        if row.ts is not None and wanted.file is None:
            row = await self._edit(wanted, row, rows)
        if row.ts is None and wanted.file is None:
            row = await self._post(wanted, row, incident, parent, rows)
        elif row.ts is None:
            row = await self._share(wanted, row, incident, parent, rows)
        if row.digest != wanted.digest:
            await self._save(row.model_copy(update={"digest": wanted.digest}), rows)

    async def _look(
        self, wanted: WantedMessage, row: Message, incident: Incident, parent: str | None, rows: dict[str, Message]
    ) -> Message:
        """Find a message that may or may not have been posted. Copies of it are deleted."""
        try:
            seen = await self._api.ours(row.channel, thread=parent, since=incident.opened_at - HISTORY_SLACK)
        except RefusedBySlack as error:
            if error.code != "thread_not_found":
                raise
            seen = []
        found = [one for one in seen if _is(one, wanted)]
        if not found:
            self._absent.add(wanted.key)
            self._missed[wanted.key] += wanted.file is not None
            return row
        for copy in found[1:]:
            log.warning("a message stood twice in Slack and is deleted once", key=wanted.key)
            await self._api.delete(row.channel, copy.ts)
        row = row.model_copy(update={"ts": found[0].ts})
        await self._save(row, rows)
        return row

    async def _edit(self, wanted: WantedMessage, row: Message, rows: dict[str, Message]) -> Message:
        """Edit it; a message that is gone or locked becomes one that has to be posted."""
        if row.ts is None:
            return row
        try:
            await self._api.edit(row.channel, row.ts, wanted.text, wanted.blocks)
            self._edited(wanted)
        except RefusedBySlack as error:
            if error.code in TOO_BIG:
                self._report(wanted, error)
                await self._api.edit(row.channel, row.ts, wanted.text, _bare())
                return row
            if error.code not in GONE:
                raise
            log.warning("a message cannot be edited any more and is posted anew", key=wanted.key, reason=error.code)
            row = row.model_copy(update={"ts": None, "digest": None})
            await self._save(row, rows)
            self._absent.add(wanted.key)
        return row

    async def _post(
        self, wanted: WantedMessage, row: Message, incident: Incident, parent: str | None, rows: dict[str, Message]
    ) -> Message:
        """Post it. Until Slack has answered it is in doubt, whatever happens to this process."""
        self._absent.discard(wanted.key)
        try:
            ts = await self._send(wanted, row, parent)
        except (Limited, RefusedBySlack) as error:
            self._absent.add(wanted.key)
            if isinstance(error, RefusedBySlack) and error.code == "thread_not_found":
                await self._forget_parent(incident, rows)
            raise
        reached(Point.P04)
        unseen = all(one.ts is None for one in rows.values())
        row = row.model_copy(update={"ts": ts, "digest": wanted.digest})
        await self._save(row, rows)
        if unseen:
            self._meter.shown(incident, self._clock.now())
        return row

    async def _share(
        self, wanted: WantedMessage, row: Message, incident: Incident, parent: str | None, rows: dict[str, Message]
    ) -> Message:
        """Post a file. Where Slack does not take it, or it can't be drawn, one message of the thread says so and stands for all such files."""
        try:
            if self._missed[wanted.key] < FILE_TRIES:
                return await self._post(wanted, row, incident, parent, rows)
            reason = f"Slack gave no clear answer to {FILE_TRIES} uploads."
        except RefusedBySlack as error:
            if error.code == "thread_not_found":
                raise
            reason = str(error)
        except Unattachable as error:
            reason = str(error)
        log.warning("a file is left out of a thread", key=wanted.key, reason=reason)
        said = unattached(incident, reason)
        await self._make(said, incident, rows)  # raises where the reason is a graver one, e.g. a revoked token
        return row.model_copy(update={"ts": rows[said.key].ts})

    async def _send(self, wanted: WantedMessage, row: Message, parent: str | None) -> str:
        if wanted.file is None:
            try:
                return await self._api.post(row.channel, wanted.text, wanted.blocks, wanted.key, parent)
            except RefusedBySlack as error:
                if error.code not in TOO_BIG:
                    raise
                self._report(wanted, error)
                return await self._api.post(row.channel, wanted.text, _bare(), wanted.key, parent)
        comment = "" if wanted.file.chart else wanted.text
        return await self._api.attach(row.channel, parent, await self._uploads(wanted.file), comment)

    async def _uploads(self, file: File) -> list[Upload]:
        """Return a file and its twins; raises Unattachable."""
        if file.report is None:
            return [Upload(file.name, file.title, await self._content(file), file.alt)]
        written = await self._report_of(file.report)
        if not written:
            raise Unattachable("An incident is no longer in the database, so it has no report.")
        path = PurePosixPath(file.name)
        return [Upload(f"{path.stem}.{ending}", f"{file.title} ({ending})", one) for ending, one in written.items()]

    async def _content(self, file: File) -> bytes:
        """Return the bytes of a file; raises Unattachable."""
        if file.text is not None:
            return file.text.encode()
        if file.chart is not None:
            try:
                return await self._draw(file.chart)
            except Exception as error:
                log.exception("a chart could not be drawn", chart=file.chart.code)
                raise Unattachable("A picture could not be drawn; the log of natsmedic says why.") from error
        archive = await self._store.snapshot_archive(file.snapshot) if file.snapshot else None
        if archive is None:
            raise Unattachable("An archive is no longer in the database.")
        return archive

    async def _forget_parent(self, incident: Incident, rows: dict[str, Message]) -> None:
        """The parent was deleted in Slack: the next drawing posts a new one, and the thread continues there."""
        key = f"board:{incident.id}"
        log.warning("the parent of a thread is gone from Slack and is posted anew", incident=incident.id)
        await self._save(rows[key].model_copy(update={"ts": None, "digest": None}), rows)
        self._absent.add(key)

    async def _save(self, row: Message, rows: dict[str, Message]) -> None:
        await self._messages.save(row)
        rows[row.key] = row

    def _report(self, wanted: WantedMessage, error: RefusedBySlack) -> None:
        log.error(
            "Slack refuses a message as too big or malformed; it is shown without details",
            key=wanted.key,
            reason=error.code,
        )


def _in_order(wanted: tuple[WantedMessage, ...], rows: dict[str, Message]) -> list[WantedMessage]:
    """The parent first where it is missing; then edits, what people wait for first; then new messages in thread order."""

    def rank(message: WantedMessage) -> int:
        exists = _stands(message, rows)
        if not message.thread and not exists:
            return 0
        if not exists:
            return 3
        return 1 if message.urgent else 2

    return sorted(wanted, key=rank)


def _stands(message: WantedMessage, rows: dict[str, Message]) -> bool:
    row = rows.get(message.key)
    return row is not None and row.ts is not None


def _is(seen: Seen, wanted: WantedMessage) -> bool:
    return seen.key == wanted.key or (wanted.file is not None and wanted.file.name in seen.files)


def _bare() -> list[Block]:
    """The message without its details and without buttons: nobody approves what they could not read."""
    words = (
        "This message is too big for Slack. `natsmedic proposals` and `natsmedic incidents` show it in the terminal."
    )
    return [{"type": "section", "text": plain(words)}]
