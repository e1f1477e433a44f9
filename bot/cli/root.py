"""The command tree."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from bot.cli import (
    audit,
    config,
    db,
    demo,
    diagnose,
    doctor,
    freeze,
    gather,
    incidents,
    lab,
    policy,
    proposals,
    runbooks,
    serve,
    unlock,
)
from bot.cli.session import CarefulGroup, GlobalConfigFile, Session
from bot.cli.where import VerdictCommand

app = typer.Typer(
    name="natsmedic",
    cls=CarefulGroup,
    help="Finds what is wrong with NATS and JetStream, and repairs it after the right people approved it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(incidents.app, name="incidents")
app.add_typer(proposals.app, name="proposals")
app.add_typer(policy.app, name="policy")
app.add_typer(db.app, name="db")
app.add_typer(lab.app, name="lab")
app.command(name="serve")(serve.serve)
app.add_typer(runbooks.app, name="runbooks")
app.command(name="diagnose", cls=VerdictCommand)(diagnose.diagnose)
app.command(name="gather", cls=VerdictCommand)(gather.gather)
app.command(name="doctor")(doctor.doctor)
app.add_typer(freeze.app, name="freeze")
app.command(name="unlock")(unlock.unlock)
app.command(
    name="demo",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(demo.demo)


@app.callback()
def options(
    context: typer.Context,
    config_file: GlobalConfigFile = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Take the global options."""
    del debug  # read by CarefulGroup from the parameters
    context.obj = Session(config=config_file or Path("natsmedic.yaml"))


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    try:
        typer.echo(f"natsmedic {version('natsmedic')}")
    except PackageNotFoundError:
        typer.echo("natsmedic (not installed: runs from a checkout)")


def main() -> None:
    """Run the command line of this process."""
    app()
