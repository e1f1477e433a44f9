"""Whether a database has the tables that this program was written for, and how it gets them.

A database without tables is given them when it is opened for writing. One with older tables is not: whoever runs several bots decides when, with
`natsmedic db upgrade`. The rules of revisions: `bot/adapters/database/migrations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from bot.adapters.database import replicas
from bot.adapters.database.connection import Database
from bot.adapters.database.revisions import OURS, Effect, Revision, Revisions, differences, revision_of
from bot.adapters.database.transaction import SqlTransaction
from bot.errors import BadInput, StoreError
from bot.model import AuditDraft, JsonObject, Record
from bot.ports import Clock

_NUMBERED: Final = "schema_version"
"""The table of one number that natsmedic had before its first release, in place of revisions."""
UNNAMED: Final = "schema 5"
"""The last of those numbers. Its tables are those of the first revision; a lower one that natsmedic brought to 5 when it opened a file."""

SILENT_SECONDS: Final = 12
"""For which the counts of all replicas stand still before they count as dead: more than they themselves wait (bot/bootstrap/replicas.py, `DEAD_SECONDS`)."""


class Standing(Record):
    """The tables of a database."""

    database: str
    revision: str | None
    """None where there are no tables."""
    newest: str
    """The one that this program needs."""
    pending: tuple[str, ...]
    """Revisions between the two, oldest first."""
    differences: tuple[str, ...]
    """In what the tables are not those of this program although their revision is; one phrase each."""


class Moved(Record):
    """A change of the tables. `revisions` are those that ran, in their order; with none of them nothing has changed."""

    before: str | None
    after: str
    revisions: tuple[str, ...]


def found_in(connection: Connection) -> str | None:
    """Return the revision of the tables, `schema N` where they are from before the first revision, None where there are none."""
    named = revision_of(connection)
    if named is not None or not inspect(connection).has_table(_NUMBERED):
        return named
    return f"schema {connection.execute(text(f'SELECT version FROM {_NUMBERED}')).scalar()}"  # noqa: S608 - a constant


def prepare(connection: Connection) -> None:
    """Make the tables where there are none, in the connection's transaction, which holds the write lock."""
    if found_in(connection) is None:
        OURS.upgrade(connection, OURS.newest)


def check(connection: Connection, name: str) -> None:
    """Raise `StoreError` where the tables are not those of this program."""
    found = found_in(connection)
    if found is None:
        raise StoreError(f"The database {name} holds no tables of natsmedic: start `natsmedic serve` once.")
    if found != OURS.newest:
        raise StoreError(
            f"The database {name} has tables of revision {found} and this natsmedic needs {OURS.newest}: {_way_out(found, OURS)}."
        )


def _way_out(found: str, revisions: Revisions) -> str:
    if found == UNNAMED or found in revisions.ids:
        return "run `natsmedic db upgrade`"
    if found.startswith("schema "):
        return f"start the last natsmedic without revisions once, which brings it to {UNNAMED}, then run `natsmedic db upgrade`"
    return "use the newer natsmedic"


class Tables:
    """The tables of one database, and what brings them to another revision. It was opened by `connect`, which does not ask what they are."""

    def __init__(self, database: Database, clock: Clock, revisions: Revisions = OURS) -> None:
        self._database = database
        self._clock = clock
        self._revisions = revisions

    async def standing(self) -> Standing:
        """Look, and change nothing. Raises `StoreError`."""
        newest = self._revisions.newest
        async with self._database.read() as session:
            found = await session.run_sync(lambda sync: found_in(sync.connection()))
            other = await session.run_sync(lambda sync: differences(sync.connection())) if found == newest else ()
        foreign = found is not None and found != UNNAMED and found not in self._revisions.ids
        pending = () if foreign else self._plan(found, newest)[1].revisions
        return Standing(database=self._database.name, revision=found, newest=newest, pending=pending, differences=other)

    async def planned(self, upper: str | None = None) -> Moved:
        """Return what `upgrade` would do. Raises `BadInput` where `upper` is no revision, or an older one; `StoreError` where the tables are not known."""
        async with self._database.read() as session:
            found = await session.run_sync(lambda sync: found_in(sync.connection()))
        return self._plan(found, upper or self._revisions.newest)[1]

    async def upgrade(self, upper: str | None, who: str) -> Moved:
        """Bring the tables up to `upper`, this program's own if None, together with an audit row.

        Raises as `planned`, and `StoreError` where a bot serves that a revision needs stopped.
        """
        moved = await self.planned(upper)
        steps, _ = self._plan(moved.before, moved.after)
        if moved.before == moved.after:
            return moved
        contracts = any(one.effect is Effect.CONTRACT for one in steps)
        dead = await self._alone() if contracts else None
        async with self._database.rebuild() as session:
            if dead is not None:
                await self._strike_off(session, dead, who)
            await session.run_sync(lambda sync: self._up(sync.connection(), moved))
            await SqlTransaction(session, self._clock).audit(_draft("database.upgraded", who, moved))
        return moved

    async def downgrade(self, lower: str, who: str) -> Moved:
        """Bring the tables back to `lower`, together with an audit row; what only the revisions above hold is lost.

        Raises `BadInput` where `lower` is no revision, or not below; `StoreError` where a bot serves.
        """
        self._revisions.known(lower)
        async with self._database.read() as session:
            found = await session.run_sync(lambda sync: found_in(sync.connection()))
        if found not in self._revisions.ids or found <= lower:
            raise BadInput(f"There is no way back from {found or 'no tables'} to {lower}.")
        steps = self._revisions.between(lower, found)[::-1]
        moved = Moved(before=found, after=lower, revisions=tuple(_named(one) for one in steps))
        dead = await self._alone()
        async with self._database.rebuild() as session:
            await self._strike_off(session, dead, who)
            await session.run_sync(lambda sync: self._down(sync.connection(), moved))
            await SqlTransaction(session, self._clock).audit(_draft("database.downgraded", who, moved))
        return moved

    async def sql(self, upper: str | None = None) -> str:
        """Return the statements that `upgrade` would run, its audit row aside. Raises as `planned`."""
        moved = await self.planned(upper)
        if moved.before == UNNAMED:
            raise BadInput(
                f"{UNNAMED} has no name that statements could begin with: run `natsmedic db upgrade --to {self._revisions.ids[0]}` first."
            )
        return self._revisions.sql(self._database.dialect, moved.before, moved.after)

    def _plan(self, found: str | None, upper: str) -> tuple[tuple[Revision, ...], Moved]:
        """Return the revisions that lie between, oldest first, and what they do together."""
        self._revisions.known(upper)
        if found is not None and found != UNNAMED and found not in self._revisions.ids:
            raise StoreError(
                f"The database {self._database.name} has tables of revision {found}: {_way_out(found, self._revisions)}."
            )
        if found in self._revisions.ids and found > upper:
            raise BadInput(f"The tables are of revision {found} already: `natsmedic db downgrade {upper}` goes back.")
        steps = self._revisions.between(self._revisions.ids[0] if found == UNNAMED else found, upper)
        return steps, Moved(before=found, after=upper, revisions=tuple(_named(one) for one in steps))

    async def _alone(self) -> Mapping[str, int]:
        """Return the counts of replicas that are silent. Raises `StoreError` where somebody serves: of several, whose count moves."""
        if not self._database.takes_several:
            await self._database.acquire_process_lock()
            return {}
        counts = await self._counts()
        for _ in range(SILENT_SECONDS if counts else 0):
            await self._clock.sleep(1.0)
            self._insist_on_silence(counts, await self._counts())
        return counts

    async def _counts(self) -> Mapping[str, int]:
        async with self._database.read() as session:
            return await session.run_sync(_counts)

    async def _strike_off(self, session: AsyncSession, dead: Mapping[str, int], who: str) -> None:
        """Inside the write lock, look again and keep replicas that were silent from ever writing again: what they know of the tables is over."""
        self._insist_on_silence(dead, await session.run_sync(_counts))
        for name in sorted(dead):
            await replicas.leave(session, name)
        await SqlTransaction(session, self._clock).audit_all([replicas.struck_off(one, who) for one in sorted(dead)])

    def _insist_on_silence(self, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        if awake := sorted(name for name in now if now[name] != before.get(name)):
            raise StoreError(
                f"Bots already serve with the database {self._database.name} ({', '.join(awake)}): stop them first."
            )

    def _up(self, connection: Connection, moved: Moved) -> None:
        self._insist(connection, moved)
        if moved.before == UNNAMED:
            self._revisions.stamp(connection, self._revisions.ids[0])
            connection.execute(text(f"DROP TABLE {_NUMBERED}"))
        self._revisions.upgrade(connection, moved.after)

    def _down(self, connection: Connection, moved: Moved) -> None:
        self._insist(connection, moved)
        self._revisions.downgrade(connection, moved.after)

    def _insist(self, connection: Connection, moved: Moved) -> None:
        """Look again, now that nobody else writes."""
        if found_in(connection) != moved.before:
            raise StoreError(
                f"Somebody else has just changed the tables of {self._database.name}: see `natsmedic db status`."
            )


def _counts(session: Session) -> dict[str, int]:
    """Return the beats of all replicas on the list; older tables have none."""
    if not inspect(session.connection()).has_table("replicas"):
        return {}
    return {row.id: row.beats for row in session.execute(text("SELECT id, beats FROM replicas"))}


def _named(revision: Revision) -> str:
    return f"{revision.id} ({revision.effect}): {revision.title}"


def _draft(kind: str, who: str, moved: Moved) -> AuditDraft:
    verb = kind.partition(".")[2]
    sentence = f"{who} {verb} the tables from {moved.before or 'nothing'} to {moved.after}."
    data: JsonObject = {"before": moved.before, "after": moved.after, "revisions": list(moved.revisions)}
    return AuditDraft(kind=kind, actor=who, sentence=sentence, data=data)
