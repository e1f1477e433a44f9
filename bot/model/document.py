"""A text for people in parts, before it is Markdown or HTML. Every string in it is plain text, whatever it looks like."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import Record


class Tone(StrEnum):
    """How a sentence is meant, for its colour; the words say it, too."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNCLEAR = "unclear"


class Paragraph(Record):
    text: str
    tone: Tone = Tone.PLAIN


class Bullets(Record):
    items: tuple[str, ...]


class Verbatim(Record):
    """Text whose line breaks and blanks count, e.g. a diff."""

    text: str


class Grid(Record):
    """A table; each row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Paragraph | Bullets | Verbatim | Grid


class Part(Record):
    """A heading and what stands below it."""

    heading: str
    blocks: tuple[Block, ...]
    below: int = 0
    """0 for a part of the document, 1 for a part of the part before it."""


class Document(Record):
    title: str
    lead: Paragraph
    parts: tuple[Part, ...]
