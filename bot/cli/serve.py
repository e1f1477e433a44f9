"""`natsmedic serve`: the bot itself."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Final

import structlog
import typer
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.cli.draw import visible
from bot.cli.session import ConfigFile, run, settings_of

FOREIGN_LEVEL: Final = logging.WARNING
"""Level of the libraries' own loggers; DBOS prints a console address below it (reference/dependencies.md 5)."""


def serve(
    context: typer.Context,
    config: ConfigFile = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log debug lines as well.")] = False,
) -> None:
    """Run the bot until SIGTERM: take alerts, diagnose, ask for approval, repair, verify."""
    from bot.bootstrap.serving import serve as serve_bot

    settings = settings_of(context, config)
    set_up_logging(logging.DEBUG if verbose else logging.INFO)
    run(serve_bot(settings))


def set_up_logging(level: int) -> None:
    """Log to stderr: JSON, one object per line, or coloured lines where a person looks."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    person = sys.stderr.isatty()
    ending: list[Processor] = (
        [_show_hidden, structlog.dev.ConsoleRenderer()]
        if person
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending]
        )
    )
    logging.basicConfig(handlers=[handler], level=FOREIGN_LEVEL, force=True)


def _show_hidden(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """A terminal obeys escape sequences; JSON escapes them by itself."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}
