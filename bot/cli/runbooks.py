"""`natsmedic runbooks`: what the bot knows to look for."""

from __future__ import annotations

from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import Format, FormatOption
from bot.cli.where import runbooks_of
from bot.model import JsonObject
from bot.runbook import Runbook

app = typer.Typer(help="What natsmedic looks for.", invoke_without_command=True)


@app.callback()
def runbooks(context: typer.Context, format_: FormatOption = Format.TABLE) -> None:
    """List the runbooks: the alerts they answer, their checks and thresholds."""
    if context.invoked_subcommand is None:
        list_runbooks(format_)


@app.command(name="list")
def list_runbooks(format_: FormatOption = Format.TABLE) -> None:
    """List the runbooks: the alerts they answer, their checks and thresholds."""
    from bot.bootstrap import registry

    found = list(registry().runbooks)
    if format_ is Format.JSON:
        draw.as_json([_public(runbook) for runbook in found])
        return
    for runbook in found:
        _tell(runbook)


@app.command()
def show(code: Annotated[str, typer.Argument(metavar="CODE")], format_: FormatOption = Format.TABLE) -> None:
    """Show one runbook: what is healthy, what it reads, and every threshold with its unit, default and meaning."""
    from bot.bootstrap import registry

    (runbook,) = runbooks_of(registry(), [code])
    if format_ is Format.JSON:
        draw.as_json(_public(runbook))
        return
    _tell(runbook)
    reads = ", ".join(sorted(runbook.needs))
    times = f", {runbook.rounds} times, {runbook.interval:g} s apart" if runbook.rounds > 1 else ""
    draw.lines([("  reads", f"{reads}{times}"), ("  settings", f"thresholds.{runbook.code}.<name>")])


def _tell(runbook: Runbook) -> None:
    draw.lines([(runbook.code, runbook.title), ("  alerts", ", ".join(sorted(runbook.alerts)))])
    draw.lines((f"  {check.code} ({check.layer.name.lower()})", check.healthy) for check in runbook.checks)
    draw.lines((f"  {t.name}", f"{t.default:g} {t.unit}, {t.meaning}") for t in runbook.thresholds)


def _public(runbook: Runbook) -> JsonObject:
    return {
        "code": runbook.code,
        "title": runbook.title,
        "alerts": sorted(runbook.alerts),
        "checks": [
            {"code": c.code, "layer": c.layer.name.lower(), "healthy": c.healthy, "reads": sorted(c.needs)}
            for c in runbook.checks
        ],
        "thresholds": [
            {"name": t.name, "default": t.default, "unit": t.unit, "meaning": t.meaning} for t in runbook.thresholds
        ],
    }
