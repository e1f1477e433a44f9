"""`natsmedic audit`: the chained log of everything the bot was told, decided and did."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from bot.adapters.checkpoints import newest_of
from bot.adapters.clock import SystemClock
from bot.cli import draw
from bot.cli.doctor import show_checkup
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of, spare_the_collector
from bot.errors import BadInput
from bot.flow.audit import ChainReport, ChainVerifier, pages, read_lines
from bot.flow.doctor import examine
from bot.model import AuditFilter, AuditLine, Checkpoint
from bot.model.audit_kinds import AUDIT_KINDS
from bot.model.span import EXAMPLES, span
from bot.settings import Settings

app = typer.Typer(help="The audit log.", no_args_is_help=True)

BROKEN: Final = 1
"""Exit code of a chain that does not verify."""


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


KindOption = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="Only this kind, e.g. click.refused, or a family, as click")
]
ActorOption = Annotated[
    str | None, typer.Option("--actor", "--person", metavar="WHO", help="Only rows of this person or source.")
]
SubjectOption = Annotated[
    str | None,
    typer.Option("--subject", "--object", metavar="ID", help="Only rows about this, e.g. a proposal's id or a freeze."),
]
IncidentOption = Annotated[str | None, typer.Option("--incident", metavar="ID", help="Only rows of this incident.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only rows since then: 90m, 2h, 7d, or 2026-11-21T08:00:00Z."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only rows before then, as --since.")]


@app.command(name="list")
def list_entries(
    context: typer.Context,
    kind: KindOption = None,
    actor: ActorOption = None,
    subject: SubjectOption = None,
    incident: IncidentOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show the newest rows only.")] = 100,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show the newest rows, oldest first."""
    wanted = _filter(kind, actor, subject, incident, since, until)
    lines = run(_newest(settings_of(context, config), wanted, limit))
    if format_ is Format.JSON:
        draw.as_json([_loaded(line) for line in lines])
        return
    columns = ("seq", "at", "kind", "actor", "incident", "subject", "sentence")
    rows = ((str(e.seq), f"{e.at[:19]}Z", e.kind, e.actor, e.incident_id or "", e.subject, e.sentence) for e in lines)
    draw.table("Audit log", columns, rows)


@app.command()
def kinds(format_: FormatOption = Format.TABLE) -> None:
    """Show every kind of row: what it means and what its data holds."""
    known = sorted(AUDIT_KINDS.values(), key=lambda one: one.kind)
    if format_ is Format.JSON:
        draw.as_json([one.model_dump(mode="json") for one in known])
        return
    columns = ("kind", "what it means", "data", "in some rows")
    rows = ((one.kind, one.meaning, ", ".join(one.keys), ", ".join(one.optional)) for one in known)
    draw.table("Kinds of audit rows", columns, rows)


@app.command()
def status(context: typer.Context, format_: FormatOption = Format.TABLE, config: ConfigFile = None) -> None:
    """Show whether the log can be written, its head, and how old the newest checkpoint of each place is. Exit codes are those of `natsmedic doctor`."""
    from bot.bootstrap.checking import audit_checks

    show_checkup("Audit log", run(examine(audit_checks(settings_of(context, config), SystemClock()))), format_)


@app.command()
def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="jsonl can be verified; csv is for spreadsheets.")
    ] = ExportFormat.JSONL,
    kind: KindOption = None,
    actor: ActorOption = None,
    subject: SubjectOption = None,
    incident: IncidentOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    config: ConfigFile = None,
) -> None:
    """Write rows, oldest first. A whole JSON Lines export verifies offline: `audit verify --file`, or deploy/verify_audit.py without natsmedic."""
    wanted = _filter(kind, actor, subject, incident, since, until)
    settings = settings_of(context, config)
    with _opened(output) as out:
        run(_export(settings, wanted, format_, out))


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Verify an export instead of the database.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE|SEQ:HASH",
            help="A head that was kept elsewhere: a file of checkpoints, whose newest counts, or one as `audit verify` prints it.",
        ),
    ] = None,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Check every row of the chain. Exit code 0: intact, 1: the first bad row is named, 2: could not look."""
    given = _checkpoint(checkpoint)
    verifier = ChainVerifier(given)
    if file is not None:
        _verify_file(verifier, file)
    else:
        _verify_store(verifier, settings_of(context, config))
    report = verifier.report()
    _show(report, given, format_)
    if not report.intact:
        raise typer.Exit(BROKEN)


@app.command()
def acknowledge(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", help="What was restored, and what is missing; kept in the audit log.")
    ],
    config: ConfigFile = None,
) -> None:
    """Let changes go on although a checkpoint says that the database was restored or rewritten. Look at what is missing first; any approver may."""
    draw.lines([("", run(_acknowledge(settings_of(context, config), reason)))])


def _show(report: ChainReport, checkpoint: Checkpoint | None, format_: Format) -> None:
    if format_ is Format.JSON:
        draw.as_json(report.model_dump(mode="json"))
        return
    draw.lines([("rows", str(report.rows)), ("head", report.head_hash)])
    if checkpoint is not None and checkpoint.at is not None:
        draw.lines([("checkpoint", f"row {checkpoint.seq} of {draw.when(checkpoint.at)}")])
    if report.first_bad_seq is not None:
        draw.lines([("first bad row", str(report.first_bad_seq))])
    draw.lines([("verdict", report.reason)])


def _verify_file(verifier: ChainVerifier, file: Path) -> None:
    try:
        with file.open(encoding="utf-8") as lines:
            verifier.add_all(read_lines(lines))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8 text, so it is no export.") from None
    except BadInput as error:
        verifier.unreadable(str(error))


def _verify_store(verifier: ChainVerifier, settings: Settings) -> None:
    from bot.adapters.database.slices import verify_database

    spare_the_collector()
    verify_database(settings.database.url, verifier)


async def _acknowledge(settings: Settings, reason: str) -> str:
    from bot.bootstrap.terminal import open_counter
    from bot.flow.checkpoints import acknowledge
    from bot.policy import may_lift

    async with open_counter(settings) as counter:
        person = await counter.admission.admit(counter.user, may_lift, "acknowledge")
        return await acknowledge(counter.store, person.key, reason, by=counter.user)


async def _newest(settings: Settings, wanted: AuditFilter, limit: int) -> list[AuditLine]:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        return list(await store.newest_audit_lines(limit=limit, wanted=wanted))


async def _export(settings: Settings, wanted: AuditFilter, format_: ExportFormat, out: TextIO) -> None:
    from bot.bootstrap.storing import open_store

    table = draw.CsvTable(out, AuditLine._fields) if format_ is ExportFormat.CSV else None
    async with open_store(settings, read_only=True) as store, aclosing(pages(store, wanted)) as read:
        async for page in read:
            for line in page:
                if table is not None:
                    table.add(line)
                else:
                    out.write(draw.json_line(line.text()) + "\n")


@contextmanager
def _opened(output: Path | None) -> Generator[TextIO]:
    """Open the file to write to, stdout where none is named. Raises `BadInput`."""
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}.") from None


def _loaded(line: AuditLine) -> dict[str, object]:
    try:
        data: object = json.loads(line.data)
    except ValueError:
        data = line.data  # altered: `audit verify` says so, and it is shown as it stands
    return {**line._asdict(), "data": data}


def _checkpoint(text: str | None) -> Checkpoint | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    return Checkpoint(seq=int(found[1]), hash=found[2]) if found else newest_of(Path(text))


def _filter(
    kind: str | None, actor: str | None, subject: str | None, incident: str | None, since: str | None, until: str | None
) -> AuditFilter:
    return AuditFilter(
        kind=None if kind is None else _kind(kind),
        actor=actor,
        subject=subject,
        incident=incident,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )


def _kind(text: str) -> str:
    """Raise `BadInput` where no row could be of this kind or family: an empty answer would look like one about the log."""
    known = {*AUDIT_KINDS, *(kind.partition(".")[0] for kind in AUDIT_KINDS)}
    if text not in known:
        near = difflib.get_close_matches(text, known, 1)
        hint = f"did you mean {near[0]}?" if near else "`natsmedic audit kinds` lists them."
        raise BadInput(f"There is no kind of audit row {text!r}, nor a family: {hint}")
    return text


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if (ago := span(text)) is not None:
            return datetime.now(UTC) - ago
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise BadInput(f"{option} {text!r} is no time; expected {EXAMPLES}, or 2026-11-21T08:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
