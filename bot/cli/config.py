"""`natsmedic config`: what the settings file may hold, and whether one is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bot.cli import draw
from bot.settings import json_schema, load

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
    registry().check_thresholds(settings.thresholds)
    clusters = ", ".join(cluster.name for cluster in settings.clusters)
    draw.lines(
        [("", f"{file} is right: mode {settings.mode}, clusters {clusters}, database {settings.database.shown}.")]
    )
