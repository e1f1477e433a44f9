"""`natsmedic config`: what the settings file may hold, and whether one is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bot.cli import draw
from bot.settings import ClusterSettings, json_schema, load

app = typer.Typer(help="The settings file.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    draw.as_json(json_schema())


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="The settings file.")]) -> None:
    """Check a settings file: keys, values, secrets it points to, and the runbooks' thresholds. Connects to nothing."""
    from bot.bootstrap import registry

    settings = load(file, os.environ)
    found = registry()
    found.check_thresholds(settings.thresholds)
    found.check_schedules(settings.schedules)
    clusters = ", ".join(cluster.name for cluster in settings.clusters)
    right = f"{file} is right: mode {settings.mode}, clusters {clusters}, database {settings.database.shown}."
    draw.lines([("", right), *((cluster.name, _watched(cluster)) for cluster in settings.clusters)])


def _watched(cluster: ClusterSettings) -> str:
    """Say what natsmedic notices of a cluster by itself, and what it does not."""
    accounts = ", ".join(cluster.nats.accounts)
    if cluster.hears_advisories and accounts:
        heard = f"advisories: of the system account; messages delivered too often only in accounts with a reader ({accounts})"
    elif cluster.hears_advisories:
        heard = (
            "advisories: of the system account; messages delivered too often in no account, because none has a reader"
        )
    else:
        heard = "advisories: none, " + ("because there is no nats.system" if cluster.advisories.enabled else "as set")
    if cluster.schedule is None:
        return f"{heard}. No schedule."
    runbooks = ", ".join(cluster.schedule.runbooks) or "all runbooks"
    return f"{heard}. Every {cluster.schedule.every:g} s: {runbooks}, opening at {cluster.schedule.open_at}."
