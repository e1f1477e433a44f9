"""`natsmedic demo`: an incident from the alert to the verified repair, on this machine alone."""

from __future__ import annotations

import os
import sys

import typer

from bot.errors import BadInput

LAB = "bot.lab.demo"
"""The lab lies above the bot, so it is started and never imported."""


def demo(context: typer.Context) -> None:
    """Play an incident with real nats-servers in a stand-in Kubernetes and a stand-in Slack: --scenario stuck-consumer|readiness|routes|overload, --headless; --help says more."""
    try:
        os.execv(sys.executable, [sys.executable, "-m", LAB, *context.args])  # noqa: S606 - our own module, and the caller's own words
    except OSError as error:
        raise BadInput(f"The demo can't be started: {error}.") from error
