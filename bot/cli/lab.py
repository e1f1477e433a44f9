"""`natsmedic lab`: what tries natsmedic out on servers of this machine."""

from __future__ import annotations

import os
import sys

import typer

from bot.errors import BadInput

DRILL = "bot.lab.drill"
"""The lab lies above the bot, so it is started and never imported."""

app = typer.Typer(no_args_is_help=True, help="Try natsmedic out on real nats-servers of this machine.")


@app.command(
    name="drill",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def drill(context: typer.Context) -> None:
    """Play an incident by its script and say what was expected and seen: `list`, or `run NAME`; --help says more."""
    try:
        os.execv(sys.executable, [sys.executable, "-m", DRILL, *context.args])  # noqa: S606 - our own module, and the caller's own words
    except OSError as error:
        raise BadInput(f"The drill can't be started: {error}.") from error
