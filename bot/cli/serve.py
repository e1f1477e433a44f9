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
from bot.settings import LogFormat, LogLevel, LogSettings

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
    told = settings.log
    set_up_logging(told.model_copy(update={"level": LogLevel.DEBUG}) if verbose else told)
    run(serve_bot(settings))


_SEVERAL_LINES: Final = frozenset({"exception", "stack"})
"""Fields that structlog makes of tracebacks."""


def set_up_logging(told: LogSettings) -> None:
    """Log to stderr: JSON, one object per line, or lines for a person, coloured on a terminal.

    What is bound to the running work (`bot.flow.narration`) is among the fields of every line, of the libraries' lines as well.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    terminal = sys.stderr.isatty()
    ending: list[Processor] = (
        [
            structlog.processors.format_exc_info,
            _show_hidden,
            structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback),
        ]
        if (told.format or (LogFormat.TEXT if terminal else LogFormat.JSON)) is LogFormat.TEXT
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(told.level),
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
    """A terminal obeys escape sequences, in the words of an error as well; JSON escapes them by itself."""
    return {
        key: visible(value, lines=key in _SEVERAL_LINES) if isinstance(value, str) else value
        for key, value in event.items()
    }
