"""Draws answers in the terminal. Text from outside can neither move the cursor, nor colour, nor be markup."""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.model import Json

PIPE_WIDTH: Final = 240
"""Columns where nobody looks: wide enough that a pipe gets one line per row in most cases."""
CELL: Final = 160
"""Characters of one cell of a table; `show` and `--format json` have the whole."""

FORMULA: Final = frozenset("=+-@")
"""First characters that make a spreadsheet calculate a cell (OWASP, CSV Injection); a tab and a line break are written out before."""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are not drawn or that steer the terminal: controls, bidi and zero-width characters, surrogates, private use."""


def visible(text: str, *, lines: bool = False) -> str:
    """Return `text` with every hidden character written out as its escape; line breaks and tabs stay where `lines` is set."""
    return "".join(_shown(char, lines) for char in text)


def _shown(char: str, lines: bool) -> str:
    if unicodedata.category(char) not in _HIDDEN or (lines and char in "\n\t"):
        return char
    return char.encode("unicode_escape", "surrogatepass").decode()


def cell(text: str) -> str:
    """Return `text` visible on one line and cut to a cell, with a mark."""
    shown = visible(text[: CELL + 1])
    return shown if len(shown) <= CELL else shown[: CELL - 1] + "…"


def when(moment: datetime) -> str:
    """Return a moment as people compare it with logs."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, or one sentence where there are no rows."""
    drawn = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*(Text(cell(text)) for text in row))
    if drawn.row_count:
        console().print(drawn)
    else:
        typer.echo(f"{title}: none.")


def lines(pairs: Iterable[tuple[str, str]]) -> None:
    """Print `name: value` lines, long values whole."""
    for name, value in pairs:
        typer.echo(f"{name}: {visible(value, lines=True)}" if name else visible(value, lines=True))


def as_json(value: Json) -> None:
    """Print JSON in ASCII, so that nothing in it steers the terminal."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))


def json_line(line: str) -> str:
    """Return a line of JSON with hidden characters as JSON escapes: the same value, and so the same hash."""
    return re.sub(r"[^\x20-\x7e]", lambda found: _escaped(found.group()), line)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if unicodedata.category(char) in _HIDDEN else char


class CsvTable:
    """Writes rows as CSV (RFC 4180), every cell quoted, for spreadsheets: no cell calculates, and hidden characters are written out."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        self._writer.writerow(columns)

    def add(self, row: Iterable[str | int | None]) -> None:
        """Write one row."""
        self._writer.writerow([_inert(value) if isinstance(value, str) else value for value in row])


def _inert(text: str) -> str:
    shown = visible(text)
    # Full-width forms calculate in some locales, and blanks before a sign do not protect.
    first = unicodedata.normalize("NFKC", shown.lstrip()[:1])
    return f"'{shown}" if first in FORMULA else shown


def console() -> Console:
    """Return where answers are drawn: coloured only on a terminal."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)
