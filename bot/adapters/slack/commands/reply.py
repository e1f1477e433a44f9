"""What somebody who asked gets to see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from bot.adapters.slack.blocks import Block, actions, button, fit, paragraph, rich, small, text
from bot.adapters.slack.gestures import VALUE_LIMIT
from bot.adapters.slack.text import fallback
from bot.errors import BadInput
from bot.model import Incident, SlackUser

MORE: Final = "more"
"""action_id of the buttons to the next page and to the file; the value is what would have been typed for it."""
WHOLE: Final = "whole"
"""block_id of the button to the file."""
FILE: Final = "file"
"""The word for the whole list as a file."""
LISTED: Final = 10
"""Entries of a page."""
PAGE_DIGITS: Final = 6
"""Characters of a button's value that are left for the number of a page and its colon."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """`text` is the safe fallback. `later` is what follows once it is known."""

    text: str
    blocks: tuple[Block, ...]
    public: bool = False
    later: Callable[[], Awaitable[Reply]] | None = None
    whole: tuple[str, ...] = ()
    """The lines of the whole list where it is wanted as a file, which the blocks then only announce."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One line of one person. `event` is Slack's id of the gesture; `incident` is that of the thread it was said in."""

    user: SlackUser
    event: str
    words: tuple[str, ...]
    incident: Incident | None = None
    page: int = 0
    as_file: bool = False

    def rest(self, start: int = 1) -> str:
        """The words from there on."""
        return " ".join(self.words[start:])


def say(sentence: str, later: Callable[[], Awaitable[Reply]] | None = None) -> Reply:
    """One sentence as a reply."""
    return Reply(fallback(sentence), (rich(paragraph(text(sentence))),), later=later)


def show(words: str, *blocks: Block) -> Reply:
    """Blocks as a reply, cut to what a message holds."""
    return Reply(fallback(words), fit(blocks)[0])


def as_file(title: str, lines: Iterable[str]) -> Reply:
    """A list as a file: one line each."""
    whole = tuple(lines)
    return replace(say(f"{title}: {len(whole)} lines, in a file."), whole=whole)


def page_of(ask: Ask, items: Sequence[T]) -> tuple[Sequence[T], list[Block]]:
    """Return the entries of the asked page, and what leads to the next."""
    start = ask.page * LISTED
    if start and start >= len(items):
        raise BadInput("There is no such page any more: ask again.")
    left = len(items) - start - LISTED
    if left <= 0:
        return items[start:], []
    line = " ".join(ask.words)
    lead = [small(f"and {left} more")]
    if len(line) + len(FILE) + 1 <= VALUE_LIMIT - PAGE_DIGITS:
        lead.append(actions(MORE, button(MORE, "Show more", f"{ask.page + 1}:{line}")))
        lead.append(actions(WHOLE, button(MORE, "All as a file", f"0:{line} {FILE}")))
    return items[start : start + LISTED], lead
