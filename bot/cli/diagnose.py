"""`natsmedic diagnose`: the diagnosis of a thread, in the terminal and without Slack or a database. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from bot.cli import draw, where
from bot.cli.report import EXIT_CODES, as_json, as_markdown, as_prometheus, print_table
from bot.cli.session import ConfigFile, run
from bot.errors import BadInput, Unreadable
from bot.flow.examination import Report, judge, look
from bot.model import Focus, Snapshot
from bot.model.subjects import PATTERN
from bot.registry import Registry
from bot.runbook import Runbook
from bot.settings.clusters import NATS_TIMEOUT

if TYPE_CHECKING:
    from bot.ports import ProbingReaders

MOST_ARCHIVE: Final = 512 * 2**20
"""Bytes of an archive file; unpacked sizes have limits of their own."""


class ReportFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    PROMETHEUS = "prometheus"


def _print_schema(wanted: bool) -> None:
    if wanted:
        text = resources.files("bot.cli").joinpath("diagnose.schema.json").read_text(encoding="utf-8")
        typer.echo(text, nl=False)
        raise typer.Exit


def diagnose(
    context: typer.Context,
    server: where.Server = None,
    user: where.User = None,
    password: where.Password = None,
    creds: where.Creds = None,
    nkey: where.Nkey = None,
    tlsca: where.Ca = None,
    tlscert: where.Cert = None,
    tlskey: where.Key = None,
    inbox_prefix: where.InboxPrefix = None,
    nats_context: where.Context = None,
    monitoring: where.MonitoringUrls = None,
    timeout: where.Timeout = NATS_TIMEOUT,
    cluster: where.Cluster = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", metavar="FILE", help="Judge what `natsmedic gather` wrote.")
    ] = None,
    runbook: where.Runbooks = None,
    probe_delivery: where.ProbeDelivery = False,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Look at this account.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Look at this stream.")] = None,
    consumer: Annotated[str | None, typer.Option("--consumer", metavar="NAME", help="Look at this consumer.")] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="PATTERN", help="Look at clients with subscriptions within this.")
    ] = None,
    format_: Annotated[ReportFormat, typer.Option("--format", help="How to show the report.")] = ReportFormat.TABLE,
    watch: Annotated[
        float | None, typer.Option("--watch", min=1, metavar="SECONDS", help="Again and again, until Ctrl-C.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", is_eager=True, callback=_print_schema, help="Print the JSON Schema of --format json."),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Examine a cluster and say what is wrong. Exit code 0: healthy, 1: warning, 2: critical, 3: could not tell."""
    del schema  # its callback has printed and ended
    from bot.bootstrap import registry, report_on

    found = registry()
    chosen = where.runbooks_of(found, runbook)
    if subject is not None and not PATTERN.fullmatch(subject):
        raise BadInput(f"--subject {subject!r} is no pattern of subjects; expected tokens between dots, * or a last >.")
    focus = Focus(account=account, stream=stream, consumer=consumer, subject=subject)
    if archive is not None:
        if watch or cluster or probe_delivery:
            raise BadInput(
                "--archive is a moment of the past: it goes neither with --watch, --cluster nor --probe-delivery."
            )
        where.refuse_login(context, "--archive")
        thresholds = where.thresholds_of(context, config, found)
        snapshot = _read(archive)
        report = report_on(snapshot, judge(snapshot, chosen, thresholds, focus), found)
        _show(report, format_, watching=False)
        raise typer.Exit(EXIT_CODES[report.verdict.severity])
    place = where.place_of(
        context,
        config,
        cluster,
        found,
        lambda: where.target_of(
            server=server,
            user=user,
            password=password,
            creds=creds,
            nkey=nkey,
            tlsca=tlsca,
            tlscert=tlscert,
            tlskey=tlskey,
            inbox_prefix=inbox_prefix,
            nats_context=nats_context,
            monitoring=monitoring,
            timeout=timeout,
        ),
    )
    if probe_delivery:
        place.refuse_probe_without_login()
    raise typer.Exit(run(_live(place, chosen, focus, found, format_, watch, probe_delivery=probe_delivery)))


async def _live(
    place: where.Where,
    chosen: Sequence[Runbook],
    focus: Focus,
    found: Registry,
    format_: ReportFormat,
    watch: float | None,
    *,
    probe_delivery: bool,
) -> int:
    """Return the exit code of the last pass."""
    from bot.bootstrap import open_readers

    code = where.COULD_NOT_TELL
    try:
        async with open_readers(place.cluster) as readers:
            while True:
                try:
                    report = await _pass(readers, place, chosen, focus, found, probe_delivery=probe_delivery)
                except Unreadable as error:
                    if watch is None:
                        raise
                    where.say(error)
                    code = where.COULD_NOT_TELL
                else:
                    _show(report, format_, watching=watch is not None)
                    code = EXIT_CODES[report.verdict.severity]
                if watch is None:
                    return code
                await asyncio.sleep(watch)
    except asyncio.CancelledError:  # Ctrl-C ends the watch as its last verdict says
        if watch is None:
            raise
        return code


async def _pass(
    readers: ProbingReaders,
    place: where.Where,
    chosen: Sequence[Runbook],
    focus: Focus,
    found: Registry,
    *,
    probe_delivery: bool,
) -> Report:
    from bot.bootstrap import report_on

    checks = sum(len(runbook.checks) for runbook in chosen)
    with where.progress(f"Examining cluster {place.name} by {checks} checks"):
        snapshot, judged = await look(readers, chosen, place.thresholds, focus)
    if probe_delivery:
        snapshot = await where.probe_delivery(readers, snapshot)
        judged = await asyncio.to_thread(judge, snapshot, chosen, place.thresholds, focus)
    return report_on(snapshot, judged, found)


def _read(archive: Path) -> Snapshot:
    from bot.bootstrap import snapshot_of_archive

    try:
        with archive.open("rb") as file:
            raw = file.read(MOST_ARCHIVE + 1)
    except OSError as error:
        raise BadInput(f"{archive} cannot be read: {error.strerror}.") from None
    if len(raw) > MOST_ARCHIVE:
        raise BadInput(f"{archive} is larger than the {MOST_ARCHIVE} bytes that are read.")
    return snapshot_of_archive(raw)


def _show(report: Report, format_: ReportFormat, *, watching: bool) -> None:
    match format_:
        case ReportFormat.TABLE:
            console: Console = draw.console()
            if watching and console.is_terminal:
                console.clear()
            print_table(report, console)
        case ReportFormat.JSON:
            typer.echo(as_json(report, one_line=watching))
        case ReportFormat.MARKDOWN:
            typer.echo(as_markdown(report))
        case ReportFormat.PROMETHEUS:
            typer.echo(as_prometheus(report))
