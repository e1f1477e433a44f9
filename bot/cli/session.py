"""What every command shares: which config file, how errors end, how to run async code."""

from __future__ import annotations

import asyncio
import gc
import os
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from typer.core import TyperGroup

from bot.cli.draw import visible
from bot.errors import NatsmedicError
from bot.settings import Settings, load

T = TypeVar("T")

FAILURE: Final = 2
"""Exit code of every error that natsmedic names; 1 is kept for *looked, and it is bad*."""

COLLECT_EVERY: Final = 50_000
"""Objects made and not yet freed after which the garbage collector looks; Python's own 700 is for programs that hold little."""


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


GlobalConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="NATSMEDIC_CONFIG", metavar="FILE", help="The settings; ./natsmedic.yaml otherwise."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings, as before the command.")
]
"""The same option behind a command. It has no environment variable, which would beat a --config before the command."""
FormatOption = Annotated[Format, typer.Option("--format", help="How to show the answer.")]


@dataclass(frozen=True, slots=True)
class Session:
    """What the global options say."""

    config: Path


def settings_of(context: typer.Context, config: Path | None) -> Settings:
    """Load the settings; a command's own --config wins over the global one."""
    session = context.ensure_object(Session)
    return load(config or session.config, os.environ)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's async part."""
    spare_the_collector()
    return asyncio.run(work)


def spare_the_collector() -> None:
    """Let the garbage collector leave alone what start-up loaded, and look less often: a snapshot is tens of thousands of objects, none of them garbage.

    It is a tenth of a diagnosis of 5,000 consumers otherwise.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])


class CarefulGroup(TyperGroup):
    """Turns the errors natsmedic names into their sentence on stderr and exit code 2; `--debug` shows where they come from."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  click's own signature
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except NatsmedicError as error:
            said = traceback.format_exc() if ctx.params.get("debug") else f"natsmedic: {error}"
            typer.echo(visible(said, lines=True), err=True)
            raise typer.Exit(FAILURE) from None
