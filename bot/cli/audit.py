"""`natsmedic audit`: the chained log of everything the bot was told, decided and did."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import AuditBroken, BadInput
from bot.flow.audit import ChainReport, ChainVerifier, Checkpoint, export_lines, read_lines
from bot.model import AuditEntry
from bot.model.span import EXAMPLES, span
from bot.ports import Store
from bot.settings import Settings

app = typer.Typer(help="The audit log.", no_args_is_help=True)

PAGE: Final = 1000
"""Rows per read, so that a long log needs little memory."""
BROKEN: Final = 1
"""Exit code of a chain that does not verify."""

IncidentOption = Annotated[str | None, typer.Option("--incident", metavar="ID", help="Only rows of this incident.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only rows since then: 90m, 2h, 7d, or 2026-11-21T08:00:00Z."),
]


@app.command(name="list")
def list_entries(
    context: typer.Context,
    incident: IncidentOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show the newest rows only.")] = 100,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show the newest rows, oldest first."""
    entries = run(_collect(settings_of(context, config), incident, _moment(since)))[-limit:]
    if format_ is Format.JSON:
        draw.as_json([entry.model_dump(mode="json") for entry in entries])
        return
    columns = ("seq", "at", "kind", "actor", "incident", "sentence")
    rows = ((str(e.seq), draw.when(e.at), e.kind, e.actor, e.incident_id or "", e.sentence) for e in entries)
    draw.table("Audit log", columns, rows)


@app.command()
def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
    incident: IncidentOption = None,
    since: SinceOption = None,
    config: ConfigFile = None,
) -> None:
    """Print rows as JSON Lines. A whole export can be verified offline with `audit verify --file`."""
    entries = run(_collect(settings_of(context, config), incident, _moment(since)))
    lines = [draw.json_line(line) for line in export_lines(entries)]
    if output is None:
        sys.stdout.writelines(line + "\n" for line in lines)
        return
    try:
        output.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}.") from None


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Verify an export instead of the database.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="SEQ:HASH", help="A head that was kept elsewhere.")
    ] = None,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Check every row of the chain. Exit code 0: intact, 1: the first bad row is named, 2: could not look."""
    verifier = ChainVerifier(_checkpoint(checkpoint))
    if file is not None:
        _verify_file(verifier, file)
    else:
        run(_verify_store(verifier, settings_of(context, config)))
    report = verifier.report()
    _show(report, format_)
    if not report.intact:
        raise typer.Exit(BROKEN)


def _show(report: ChainReport, format_: Format) -> None:
    if format_ is Format.JSON:
        draw.as_json(report.model_dump(mode="json"))
        return
    draw.lines([("rows", str(report.rows)), ("head", report.head_hash)])
    if report.first_bad_seq is not None:
        draw.lines([("first bad row", str(report.first_bad_seq))])
    draw.lines([("verdict", report.reason)])


def _verify_file(verifier: ChainVerifier, file: Path) -> None:
    try:
        with file.open(encoding="utf-8") as lines:
            for entry in read_lines(lines):
                if not verifier.add(entry):
                    return
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8 text, so it is no export.") from None
    except BadInput as error:
        verifier.unreadable(str(error))


async def _verify_store(verifier: ChainVerifier, settings: Settings) -> None:
    from bot.bootstrap.serving import open_store

    async with open_store(settings, read_only=True) as store, aclosing(_pages(store, None)) as entries:
        try:
            async for entry in entries:
                if not verifier.add(entry):
                    return
        except AuditBroken as error:
            verifier.unreadable(str(error))


async def _collect(settings: Settings, incident: str | None, since: datetime | None) -> list[AuditEntry]:
    from bot.bootstrap.serving import open_store

    async with open_store(settings, read_only=True) as store, aclosing(_pages(store, incident)) as entries:
        return [entry async for entry in entries if since is None or entry.at >= since]


async def _pages(store: Store, incident: str | None) -> AsyncGenerator[AuditEntry]:
    """Yield all rows in order. At a row that is none the rows before it still come, and then AuditBroken."""
    after, size = 0, PAGE
    while True:
        try:
            page = await store.audit_entries(after=after, limit=size, incident=incident)
        except AuditBroken:
            if size == 1:
                raise
            size = 1
            continue
        for entry in page:
            yield entry
        if not page:
            return
        after = page[-1].seq


def _checkpoint(text: str | None) -> Checkpoint | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if found is None:
        raise BadInput(f"--checkpoint {text!r} is none; expected SEQ:HASH as `audit verify` prints them (rows:head).")
    return Checkpoint(seq=int(found[1]), hash=found[2])


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if (ago := span(text)) is not None:
            return datetime.now(UTC) - ago
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadInput(f"--since {text!r} is no time; expected {EXAMPLES}, or 2026-11-21T08:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
