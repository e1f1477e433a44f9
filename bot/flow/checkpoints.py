"""Checkpoints: the head of the audit chain, kept outside every minute or every hundred rows, and compared with the database at the start.

A database that ends before the newest checkpoint, or has another row in its place, was restored from a backup or rewritten. Then a row of kind `audit.gap`
says so, and for as long as nobody has acknowledged it no change starts (bot/limits.py) and no further checkpoint is kept: the newest one outside stays what
it was (reference/safety.md 5.8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.errors import BadInput, NatsmedicError
from bot.flow.refusals import account
from bot.model import ACKNOWLEDGED, GAP, AuditDraft, Checkpoint, Json, JsonObject, Record, SlackUser
from bot.ports import CheckpointSink, Clock, Store

POLL_SECONDS: Final = 1.0
"""Between two looks at the head of the chain, which is one row by its key."""
SINK_SECONDS: Final = 15.0
"""After which a place counts as not answering: more than any of their own time-outs (bot/adapters/slack/api.py waits 10 s)."""
RETRY_SECONDS: Final = 15.0
"""Between attempts at a place that failed, so that it has the newest head well within a minute of being back."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Place:
    """A sink and how far it is."""

    sink: CheckpointSink
    compared: bool = False
    kept: Checkpoint | None = None
    kept_at: datetime | None = None
    tried_at: datetime | None = None
    problem: str = ""


class Kept(Record):
    """What a place outside of the database has."""

    place: str
    row: int | None
    """None where nothing was kept there yet."""
    age_seconds: int | None
    """Since the row was kept there; None where it was not."""
    problem: str | None
    """What is wrong with the place."""


class Checkpointer:
    """The one writer of checkpoints of its database: it runs in the process that is the only one, or leads."""

    def __init__(
        self, sinks: Sequence[CheckpointSink], *, store: Store, clock: Clock, every_seconds: int, every_rows: int
    ) -> None:
        self._places = [_Place(sink) for sink in sinks]
        self._store = store
        self._clock = clock
        self._every = timedelta(seconds=every_seconds)
        self._rows = every_rows

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps checkpoints from being kept, one sentence per place."""
        return tuple(place.problem for place in self._places if place.problem)

    @property
    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is kept anywhere outside; None where none is known."""
        return max((place.kept for place in self._places if place.kept is not None), key=_seq, default=None)

    def standings(self) -> list[Kept]:
        """Return what each place has."""
        now = self._clock.now()
        return [
            Kept(
                place=place.sink.name,
                row=place.kept.seq if place.kept is not None else None,
                age_seconds=int((now - place.kept_at).total_seconds()) if place.kept_at is not None else None,
                problem=place.problem or None,
            )
            for place in self._places
        ]

    def standing(self) -> list[Json]:
        """Return the same as JSON."""
        return [kept.model_dump(mode="json") for kept in self.standings()]

    async def begin(self) -> None:
        """Compare the database with the newest checkpoint of every place that answers. Call it before anything may change. Raises `StoreError`."""
        await asyncio.gather(*(self._reach(place) for place in self._places))

    async def run(self) -> None:
        """Keep checkpoints for ever. A place that fails is a problem that is told, and holds up neither the others nor the bot."""
        while True:
            await self.sweep()
            await self._clock.sleep(POLL_SECONDS)

    async def follow(self, leading: asyncio.Event) -> None:
        """Look at what another process keeps, until this one leads; then keep them."""
        while not leading.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(leading.wait(), self._every.total_seconds())
            await self.begin()
        await self.run()

    async def sweep(self) -> None:
        """Keep the head wherever one is due."""
        if await self._store.audit_gap() is not None:
            return
        newest = await self._store.newest_audit_lines(limit=1)
        if not newest:
            return
        now = self._clock.now()
        head = Checkpoint(seq=newest[0].seq, hash=newest[0].hash, at=now)
        await asyncio.gather(*(self._serve(place, head) for place in self._places if self._due(place, head, now)))

    async def sweep_all(self) -> None:
        """Keep the head once more at the end, whether or not it is due, so that what a stopped bot wrote last is kept, too."""
        self._rows = 1
        await self.sweep()

    def _due(self, place: _Place, head: Checkpoint, now: datetime) -> bool:
        if place.problem and place.tried_at is not None and now - place.tried_at < timedelta(seconds=RETRY_SECONDS):
            return False
        if not place.compared or place.kept is None or place.kept_at is None:
            return True
        rows = head.seq - place.kept.seq
        if rows < 0 or (rows == 0 and head.hash != place.kept.hash):
            return True  # the chain that a person let continue after a gap has nothing outside yet
        return rows >= self._rows or (rows > 0 and (bool(place.problem) or now - place.kept_at >= self._every))

    async def _serve(self, place: _Place, head: Checkpoint) -> None:
        if not place.compared and not await self._reach(place):
            return
        if await self._store.audit_gap() is not None:
            return
        place.tried_at = self._clock.now()
        try:
            async with asyncio.timeout(SINK_SECONDS):
                await place.sink.keep(head)
        except (NatsmedicError, TimeoutError) as error:
            await self._failed(place, error)
            return
        place.kept, place.kept_at = head, self._clock.now()
        await self._worked(place)

    async def _reach(self, place: _Place) -> bool:
        """Compare one place; return whether it answered."""
        place.tried_at = self._clock.now()
        try:
            async with asyncio.timeout(SINK_SECONDS):
                newest = await place.sink.newest()
        except (NatsmedicError, TimeoutError) as error:
            await self._failed(place, error)
            return False
        if newest is not None:
            await self._compare(place.sink.name, newest)
        place.compared = True
        place.kept, place.kept_at = newest, newest.at if newest is not None else None
        return True

    async def _compare(self, sink: str, kept: Checkpoint) -> None:
        row = await self._store.audit_line(kept.seq) if kept.seq > 0 else None
        if row is not None and row.hash == kept.hash:
            return
        newest = await self._store.newest_audit_lines(limit=1)
        if await self._acknowledged(kept):
            return
        head: JsonObject = {"seq": newest[0].seq, "hash": newest[0].hash} if newest else {"seq": 0, "hash": ""}
        why = (
            f"the database ends at row {head['seq']}"
            if row is None
            else f"row {kept.seq} of the database is another one"
        )
        sentence = (
            f"The checkpoint of row {kept.seq} in {sink} does not fit: {why}. The database was restored from a backup or rewritten, "
            "so nothing is approved or changed until a person has looked: natsmedic audit acknowledge --reason …"
        )
        log.error("the audit log does not reach its checkpoint", sink=sink, checkpoint=kept.seq, head=head["seq"])
        data: JsonObject = {"sink": sink, "checkpoint": {"seq": kept.seq, "hash": kept.hash}, "head": head}
        async with self._store.begin() as tx:
            await tx.audit(AuditDraft(kind=GAP, actor="bot", subject=sink, sentence=sentence, data=data))

    async def _acknowledged(self, kept: Checkpoint) -> bool:
        """Whether a person has acknowledged this very checkpoint: a place that only now answers may still hold it as its newest."""
        gone = {"seq": kept.seq, "hash": kept.hash}
        told = await self._store.audit_entries_of(ACKNOWLEDGED)
        return any(gone in (row.data.get("checkpoints") or ()) for row in told)

    async def _failed(self, place: _Place, error: NatsmedicError | TimeoutError) -> None:
        reason = str(error) or f"it did not answer within {SINK_SECONDS:g} s"
        problem = f"No checkpoint of the audit log is kept in {place.sink.name}: {reason}"
        known, place.problem = place.problem, problem
        if not known:
            log.error("checkpoints are not kept", sink=place.sink.name, reason=reason)
            await self._tell("checkpoint.failed", place.sink.name, problem)

    async def _worked(self, place: _Place) -> None:
        if place.problem:
            place.problem = ""
            log.info("checkpoints are kept again", sink=place.sink.name)
            await self._tell(
                "checkpoint.recovered", place.sink.name, f"Checkpoints are kept in {place.sink.name} again."
            )

    async def _tell(self, kind: str, sink: str, sentence: str) -> None:
        async with self._store.begin() as tx:
            await tx.audit(AuditDraft(kind=kind, actor="bot", subject=sink, sentence=sentence))


def _seq(checkpoint: Checkpoint) -> int:
    return checkpoint.seq


async def acknowledge(store: Store, person: str, reason: str, *, by: SlackUser | None = None) -> str:
    """Let changes go on after a gap, and return a sentence. The chain continues with a row that names every checkpoint that does not fit; `by` is the
    account behind the person.

    Raises `BadInput` where there is no reason, or no gap.
    """
    if not reason.strip():
        raise BadInput("A reason is needed: it is kept in the audit log. Say what you restored, and what is missing.")
    answered = max((row.seq for row in await store.audit_entries_of(ACKNOWLEDGED)), default=0)
    open_ = [row for row in await store.audit_entries_of(GAP) if row.seq > answered]
    if not open_:
        raise BadInput("There is nothing to acknowledge: no checkpoint contradicts the audit log.")
    checkpoints = [row.data["checkpoint"] for row in open_]
    named = ", ".join(f"row {one['seq']}" for one in checkpoints)
    sentence = f"{person} acknowledges that the audit log does not reach its checkpoints ({named}): {reason.strip()}"
    data: JsonObject = {
        "checkpoints": checkpoints,
        "gaps": [row.seq for row in open_],
        "reason": reason.strip(),
    } | account(by)
    async with store.begin() as tx:
        if await tx.audit_gap() is None:
            raise BadInput("Somebody else has acknowledged it just now.")
        await tx.audit(AuditDraft(kind=ACKNOWLEDGED, actor=person, sentence=sentence, data=data))
    return sentence
