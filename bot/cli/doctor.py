"""`natsmedic doctor`: whether everything natsmedic needs is there and may do what it must and nothing else. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from bot.adapters.clock import SystemClock
from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.flow.doctor import examine
from bot.model.checkup import EXIT_CODES, WORSE, CheckupLine, worst


def doctor(
    context: typer.Context,
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Only this cluster.")] = None,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Check tokens, scopes, people, permissions, database, clocks and addresses. Exit code 0: all well, 1: warning, 2: failure, 3: could not tell.

    Forbidden requests are tried, too, in ways that change nothing: servers log each as a permissions violation.
    """
    from bot.bootstrap.checking import checks_of

    checks = checks_of(settings_of(context, config), SystemClock(), cluster)
    show_checkup("Doctor", run(examine(checks)), format_)


def show_checkup(title: str, lines: Sequence[CheckupLine], format_: Format) -> NoReturn:
    """Show what was looked at and end with its exit code."""
    verdict = worst(lines)
    if format_ is Format.JSON:
        draw.as_json({"health": verdict, "checks": [line.model_dump(mode="json") for line in lines]})
    else:
        columns = ("health", "what", "observed", "expected", "way out")
        last = sorted(
            lines, key=lambda one: WORSE.index(one.health)
        )  # what is to be mended stands where the eye is: at the end of a long table
        rows = ((one.health, one.subject, one.observed, one.expected, one.way_out) for one in last)
        draw.table(title, columns, rows)
        counts = ", ".join(
            f"{found} {one}" for one in reversed(WORSE) if (found := sum(x.health is one for x in lines))
        )
        draw.lines([("verdict", f"{verdict} ({counts})" if counts else verdict)])
    raise typer.Exit(EXIT_CODES[verdict])
