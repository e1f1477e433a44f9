"""The revisions of the tables as Alembic runs them: from the package, without an alembic.ini, inside a transaction of ours.

Alembic is imported where revisions run or are described. To know whether a database fits, their names are enough, and these are the names of the files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import Connection, inspect, text

from bot.adapters.database.rows import Row
from bot.errors import BadInput

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

FOLDER: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "alembic_version"
"""Alembic's own: one row that names the revision."""


class Effect(StrEnum):
    """What a revision means to a program that does not know it (the rules: `bot/adapters/database/migrations`)."""

    EXPAND = "expand"
    CONTRACT = "contract"


@dataclass(frozen=True)
class Revision:
    """One revision; `title` is the first line of its docstring."""

    id: str
    effect: Effect
    title: str


class Revisions:
    """Those of one folder, a line without branches."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Their names, oldest first."""
        return tuple(sorted(path.name.partition("_")[0] for path in (self._folder / "versions").glob("[0-9]*_*.py")))

    @property
    def newest(self) -> str:
        return self.ids[-1]

    def known(self, id: str) -> str:  # noqa: A002 - as `Revision.id`
        """Return the name of a revision. Raises `BadInput` where there is none of this name."""
        if id not in self.ids:
            raise BadInput(f"There is no revision {id!r}. This natsmedic knows {', '.join(self.ids)}.")
        return id

    def between(self, lower: str | None, upper: str) -> tuple[Revision, ...]:
        """Return the revisions above `lower` up to `upper`, oldest first; all of them where `lower` is None."""
        found = reversed(list(self._scripts.iterate_revisions(upper, lower or "base")))
        return tuple(Revision(one.revision, Effect(one.module.effect), one.doc.partition("\n")[0]) for one in found)

    def upgrade(self, connection: Connection, upper: str) -> None:
        """Bring the tables up to `upper` in the connection's transaction; from nothing where there are none."""
        found = revision_of(connection)
        _run(_context(connection=connection, steps=self._upwards(found, upper)))

    def downgrade(self, connection: Connection, lower: str) -> None:
        """Bring the tables back to `lower` in the connection's transaction."""
        from alembic.runtime.migration import MigrationStep  # noqa: PLC0415

        found = self._scripts.iterate_revisions(revision_of(connection) or "base", lower)
        steps = [MigrationStep.downgrade_from_script(self._scripts.revision_map, one) for one in found]
        _run(_context(connection=connection, steps=steps))

    def stamp(self, connection: Connection, id: str) -> None:  # noqa: A002
        """Note that the tables have this revision, without touching them."""
        _context(connection=connection).stamp(self._scripts, id)

    def sql(self, dialect: str, lower: str | None, upper: str) -> str:
        """Return the statements that bring a database of this dialect from `lower` up to `upper`."""
        written = io.StringIO()
        steps = self._upwards(lower, upper)
        _run(_context(dialect_name=dialect, steps=steps, as_sql=True, output_buffer=written, starting_rev=lower))
        return written.getvalue()

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        return ScriptDirectory(str(self._folder))

    def _upwards(self, lower: str | None, upper: str) -> list[RevisionStep]:
        from alembic.runtime.migration import MigrationStep  # noqa: PLC0415

        found = reversed(list(self._scripts.iterate_revisions(upper, lower or "base")))
        return [MigrationStep.upgrade_from_script(self._scripts.revision_map, one) for one in found]


OURS: Final = Revisions()


def revision_of(connection: Connection) -> str | None:
    """Return the revision that the database names, None where it names none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def differences(connection: Connection) -> tuple[str, ...]:
    """Return in what the tables are not those of `rows.py`, one phrase each. Tables of others in the same database, DBOS's among them, are not looked at."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415

    found: list[object] = compare_metadata(_context(connection=connection, include_name=_is_ours), Row.metadata)
    return tuple(_phrase(one) for one in found)


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Row.metadata.tables


def _phrase(difference: object) -> str:
    """Return one of Alembic's differences as words: a tuple that begins with its kind, or several about one column in a list."""
    if isinstance(difference, list):
        return "; ".join(_phrase(one) for one in cast("list[object]", difference))
    kind, *about = cast("tuple[object, ...]", difference)
    named = (getattr(one, "name", one) for one in about)
    return " ".join([str(kind).replace("_", " "), *(one for one in named if isinstance(one, str))])


def _context(
    *,
    connection: Connection | None = None,
    dialect_name: str | None = None,
    steps: Sequence[RevisionStep] = (),
    **options: object,
) -> MigrationContext:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    def run(_heads: object, _context: object) -> Sequence[RevisionStep]:
        return steps

    # Both databases roll back changes of tables; of SQLite Alembic would not believe it, whose Python driver used not to.
    settings: dict[str, object] = {"fn": run, "transactional_ddl": True, **options}
    return MigrationContext.configure(connection, dialect_name=dialect_name, opts=settings)


def _run(context: MigrationContext) -> None:
    from alembic.operations import Operations  # noqa: PLC0415

    with context.begin_transaction():
        context.run_migrations(op=Operations(context))
