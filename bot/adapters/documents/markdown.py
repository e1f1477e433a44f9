"""A document as Markdown (GitHub's, which Slack's file viewer and wikis read as well)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bot.adapters.visible import visible
from bot.model.document import Block, Bullets, Document, Grid, Paragraph, Tone, Verbatim

MARKS: Final = {Tone.PLAIN: "", Tone.GOOD: "🟢 ", Tone.WARNING: "🟡 ", Tone.BAD: "🔴 ", Tone.UNCLEAR: "🟣 "}

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()<>#|~&!$])")
_LINE_START: Final = re.compile(r"^(\s*\d*)([-+=.)])")
_AUTOLINK: Final = re.compile(r"(?i)(:)(?=//)|(?<=www)(\.)")
_TICKS: Final = re.compile(r"`+")


def as_markdown(document: Document) -> str:
    """Return the document, which ends in a line break."""
    return "\n".join(_lines(document)) + "\n"


def plain(text: str) -> str:
    """Return `text` as plain text of Markdown: no markup, link, mention or line break comes from data."""
    return escaped(visible(text))


def escaped(shown: str) -> str:
    """Return one line without hidden characters as plain text of Markdown."""
    # A backslash does not keep GitHub and Slack from reading @name as a mention; the full-width sign does.
    marked = _MARKUP.sub(r"\\\1", shown.replace("@", "＠"))
    marked = _AUTOLINK.sub(lambda found: "\\" + found.group(), marked)
    return _LINE_START.sub(r"\1\\\2", marked)


def _lines(document: Document) -> Iterator[str]:
    yield f"# {plain(document.title)}"
    yield ""
    yield from _block(document.lead)
    for part in document.parts:
        yield ""
        yield f"{'#' * (2 + part.below)} {plain(part.heading)}"
        for block in part.blocks:
            yield ""
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield f"{MARKS[block.tone]}{plain(block.text)}"
        case Bullets():
            yield from (f"- {plain(item)}" for item in block.items)
        case Verbatim():
            yield from _fenced(block.text)
        case Grid():
            yield _row(block.columns)
            yield f"|{'---|' * len(block.columns)}"
            yield from (_row(row) for row in block.rows)


def _fenced(text: str) -> Iterator[str]:
    """A fence is closed by a run of backticks that is at least as long as the opening one (CommonMark 0.31, 4.5), so it is longer than any in the text."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence
    yield visible(text, lines=True)
    yield fence


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(plain(cell) for cell in cells)} |"
