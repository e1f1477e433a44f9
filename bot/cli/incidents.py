"""`natsmedic incidents`: the open cases, as the store holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import BadInput
from bot.flow.incident_report import account_of, compose, compose_remains, remains_of
from bot.model import Alert, Diagnosis, Incident, IncidentId, Proposal, Record
from bot.model.document import Document
from bot.settings import Settings

app = typer.Typer(help="Incidents.", no_args_is_help=True)


class Case(Record):
    """An incident with everything that belongs to it."""

    incident: Incident
    alerts: tuple[Alert, ...]
    diagnoses: tuple[Diagnosis, ...]
    proposals: tuple[Proposal, ...]


@app.command(name="list")
def list_incidents(
    context: typer.Context,
    open_only: Annotated[bool, typer.Option("--open", help="Leave out closed ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 100,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """List incidents."""
    found = run(_incidents(settings_of(context, config), open_only=open_only, limit=limit))
    if format_ is Format.JSON:
        draw.as_json([incident.model_dump(mode="json") for incident in found])
        return
    columns = ("id", "opened", "state", "cluster", "firing", "title")
    rows = ((i.id, draw.when(i.opened_at), i.state, i.cluster or "?", str(i.firing_count), i.title) for i in found)
    draw.table("Incidents", columns, rows)


@app.command()
def show(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(metavar="ID")],
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show one incident: its alerts, diagnoses and proposals."""
    case = run(_case(settings_of(context, config), IncidentId(incident)))
    if format_ is Format.JSON:
        draw.as_json(case.model_dump(mode="json"))
    else:
        draw.lines(_told(case))


class ReportFormat(StrEnum):
    MARKDOWN = "markdown"
    HTML = "html"


@app.command()
def report(
    context: typer.Context,
    incident: Annotated[str, typer.Argument(metavar="ID")],
    format_: Annotated[
        ReportFormat, typer.Option("--format", help="markdown for a ticket or a wiki, html to read, print or mail.")
    ] = ReportFormat.MARKDOWN,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write the report of one incident: timeline, alerts, evidence, decisions, what was done, and whether the audit log verifies."""
    from bot.adapters.documents import as_html, as_markdown

    told = run(_report(settings_of(context, config), IncidentId(incident)))
    text = as_html(told) if format_ is ReportFormat.HTML else as_markdown(told)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}.") from None


def _told(case: Case) -> Iterator[tuple[str, str]]:
    incident = case.incident
    yield "incident", incident.id
    yield "title", incident.title
    yield "state", incident.state
    yield "cluster", incident.cluster or "none matches"
    yield "opened", draw.when(incident.opened_at)
    if incident.note:
        yield "note", incident.note
    for name, value in sorted(incident.labels.items()):
        yield f"label {draw.visible(name)}", value
    yield (
        "alerts",
        f"{len(case.alerts)} received"
        + (f", {incident.truncated} left out by the sender" if incident.truncated else ""),
    )
    for diagnosis in case.diagnoses:
        yield (
            f"diagnosis {draw.when(diagnosis.ended_at)}",
            f"{diagnosis.verdict.severity}: {diagnosis.verdict.sentence}",
        )
    for proposal in case.proposals:
        yield f"proposal {proposal.id}", f"{proposal.state}: {proposal.title}"


async def _incidents(settings: Settings, *, open_only: bool, limit: int) -> Sequence[Incident]:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        return await store.incidents(open_only=open_only, limit=limit)


async def _case(settings: Settings, incident: IncidentId) -> Case:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        found = await store.get(Incident, incident)
        if found is None:
            raise _unknown(incident)
        return Case(
            incident=found,
            alerts=tuple(await store.alerts(incident)),
            diagnoses=tuple(await store.diagnoses(incident)),
            proposals=tuple(await store.proposals(incident)),
        )


async def _report(settings: Settings, incident: IncidentId) -> Document:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        account = await account_of(store, incident)
        remains = await remains_of(store, incident) if account is None else None
    if account is not None:
        return compose(account, datetime.now(UTC))
    if remains is None:
        raise _unknown(incident)
    return compose_remains(remains, datetime.now(UTC))


def _unknown(incident: IncidentId) -> BadInput:
    return BadInput(f"There is no incident {incident}. `natsmedic incidents list` shows what there is.")
