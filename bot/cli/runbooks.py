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
    """List the runbooks and the alerts they answer."""
    if context.invoked_subcommand is None:
        list_runbooks(format_)


@app.command(name="list")
def list_runbooks(format_: FormatOption = Format.TABLE) -> None:
    """List the runbooks and the alerts they answer; `show CODE` has their checks, thresholds and sources."""
    from bot.bootstrap import registry

    found = list(registry().runbooks)
    if format_ is Format.JSON:
        draw.as_json([_public(runbook) for runbook in found])
        return
    for runbook in found:
        draw.lines(
            [
                (runbook.code, f"{runbook.title} ({len(runbook.checks)} checks)"),
                ("  alerts", ", ".join(sorted(runbook.alerts))),
            ]
        )


@app.command()
def show(code: Annotated[str, typer.Argument(metavar="CODE")], format_: FormatOption = Format.TABLE) -> None:
    """Show one runbook: what is healthy, what it reads, every threshold with its unit, default and meaning, and what its judgements rest on."""
    from bot.bootstrap import registry

    (runbook,) = runbooks_of(registry(), [code])
    if format_ is Format.JSON:
        draw.as_json(_public(runbook))
        return
    draw.lines([(runbook.code, runbook.title), ("alerts", ", ".join(sorted(runbook.alerts)))])
    for check in runbook.checks:
        draw.lines([(f"check {check.code}", check.healthy), ("  layer", check.layer.name.lower())])
        draw.lines([("  reads", ", ".join(check.reads) or "nothing by itself")])
        if check.trend:
            draw.lines([("  again", f"{', '.join(sorted(check.trend))}, where the first look finds something")])
        if check.counterpart:
            draw.lines([("  nats audit", check.counterpart)])
    for threshold in runbook.thresholds:
        draw.lines([(f"threshold {threshold.name}", f"{threshold.default:g} {threshold.unit}, {threshold.meaning}")])
    if runbook.rounds > 1:
        draw.lines([("looks", f"{runbook.rounds} times, {runbook.interval:g} s apart, where one is not enough")])
    for source in runbook.sources:
        draw.lines([("source", source)])
    draw.lines([("settings", f"thresholds.{runbook.code}.<name>")])


def _public(runbook: Runbook) -> JsonObject:
    return {
        "code": runbook.code,
        "title": runbook.title,
        "alerts": sorted(runbook.alerts),
        "checks": [
            {
                "code": c.code,
                "layer": c.layer.name.lower(),
                "healthy": c.healthy,
                "reads": list(c.reads),
                "again": sorted(c.trend),
                "counterpart": c.counterpart,
            }
            for c in runbook.checks
        ],
        "thresholds": [
            {"name": t.name, "default": t.default, "unit": t.unit, "meaning": t.meaning} for t in runbook.thresholds
        ],
        "sources": list(runbook.sources),
    }
