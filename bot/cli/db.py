"""`natsmedic db`: the database itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bot.adapters.clock import SystemClock
from bot.adapters.terminal import operator_named
from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import BadInput
from bot.model import Overdue
from bot.settings import Settings

if TYPE_CHECKING:
    from bot.adapters.database import Moved, Standing, Tables

app = typer.Typer(help="The database: its tables, and what is kept in it.", no_args_is_help=True)

UNFIT: Final = 1
"""Exit code of tables that are not those of this natsmedic."""


@app.command()
def status(context: typer.Context, format_: FormatOption = Format.TABLE, config: ConfigFile = None) -> None:
    """Show the revision of the tables, and what lies between it and this natsmedic. Exit code 0: they fit, 1: they do not, 2: could not look."""
    standing = run(_standing(settings_of(context, config)))
    if format_ is Format.JSON:
        draw.as_json(standing.model_dump(mode="json"))
    else:
        draw.lines(
            [
                ("database", standing.database),
                ("tables", standing.revision or "none"),
                ("this natsmedic needs", standing.newest),
                *(("pending", one) for one in standing.pending),
                *(("differs", one) for one in standing.differences),
            ]
        )
    if standing.revision != standing.newest or standing.differences:
        raise typer.Exit(UNFIT)


@app.command()
def upgrade(
    context: typer.Context,
    to: Annotated[str | None, typer.Option("--to", metavar="REVISION", help="Not further than this.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and change nothing.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead, and change nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    """Bring the tables to the revision of this natsmedic. Bots that serve may go on, unless a revision contracts: then stop them first."""
    settings = settings_of(context, config)
    if sql:
        typer.echo(run(_sql(settings, to)), nl=False)
    elif dry_run:
        _show(run(_planned(settings, to)), would="would be ")
    else:
        _show(run(_upgrade(settings, to)))


@app.command()
def downgrade(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="What an older natsmedic needs.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="What only the newer tables and columns hold may be lost.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Bring the tables back to an older revision. Stop every bot and make a backup first: what only the newer revisions hold is lost."""
    if not yes:
        raise BadInput(
            "What only the newer tables and columns hold is lost on the way back. Make a backup, and say --yes."
        )
    _show(run(_downgrade(settings_of(context, config), revision)))


@app.command()
def prune(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and remove nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    """Remove what `retention` keeps no longer, as a bot that serves does once a day. The audit log stays."""
    found = run(_prune(settings_of(context, config), dry_run=dry_run))
    draw.lines([("", f"Too old to keep{', and removed' if not dry_run else ''}: {found}.")])


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; nothing is overwritten.")],
    config: ConfigFile = None,
) -> None:
    """Copy a SQLite database as it is at one moment, also while a bot serves. deploy/backup.md says how to restore it, and what to do for PostgreSQL."""
    from bot.adapters.database import back_up, sqlite_path

    settings = settings_of(context, config)
    source = sqlite_path(settings.database.url)
    if source is None:
        raise BadInput(
            f"{settings.database.shown} is PostgreSQL, whose own tool makes its backups: pg_dump --format=custom --file=FILE, see deploy/backup.md."
        )
    made = back_up(source, file)
    draw.lines(
        [
            ("", f"{made.file} holds the database, {made.bytes} bytes, with {made.rows} rows of the audit log."),
            *([("head", f"{made.rows}:{made.head}")] if made.rows else []),
        ]
    )


def _show(moved: Moved, would: str = "") -> None:
    draw.lines(("", one) for one in moved.revisions)
    if moved.before == moved.after:
        draw.lines([("", f"The tables are of revision {moved.after} already.")])
    else:
        draw.lines([("", f"The tables {would or 'are '}brought from {moved.before or 'nothing'} to {moved.after}.")])


@asynccontextmanager
async def _tables(settings: Settings, *, read_only: bool = False) -> AsyncGenerator[Tables]:
    from bot.adapters.database import open_tables

    async with open_tables(settings.database.url, SystemClock(), read_only=read_only) as tables:
        yield tables


async def _standing(settings: Settings) -> Standing:
    async with _tables(settings, read_only=True) as tables:
        return await tables.standing()


async def _planned(settings: Settings, to: str | None) -> Moved:
    async with _tables(settings, read_only=True) as tables:
        return await tables.planned(to)


async def _sql(settings: Settings, to: str | None) -> str:
    async with _tables(settings, read_only=True) as tables:
        return await tables.sql(to)


async def _upgrade(settings: Settings, to: str | None) -> Moved:
    async with _tables(settings) as tables:
        return await tables.upgrade(to, operator_named())


async def _downgrade(settings: Settings, revision: str) -> Moved:
    async with _tables(settings) as tables:
        return await tables.downgrade(revision, operator_named())


async def _prune(settings: Settings, *, dry_run: bool) -> Overdue:
    from bot.adapters.engine import DbosEnded
    from bot.bootstrap.storing import open_store
    from bot.flow.retention import Retention

    async with open_store(settings, read_only=dry_run) as store:
        ended = DbosEnded(settings.database.url)
        retention = Retention(store=store, ended=ended, clock=SystemClock(), rules=settings.retention)
        return await retention.overdue() if dry_run else await retention.prune(operator_named())
