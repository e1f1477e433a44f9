"""App Home: what is open, what waits, what may be approved, what is frozen, what ran last. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.adapters.slack.blocks import (
    VIEW_BLOCKS,
    VIEW_TEXT_BUDGET,
    Block,
    Leaf,
    bold,
    bullets,
    divider,
    fit,
    header,
    moment,
    paragraph,
    rich,
    small,
    text,
)
from bot.adapters.slack.countdown import time_left
from bot.adapters.slack.render_board import STATE_WORDS
from bot.model import Execution, Freeze, Incident, JsonObject, Proposal

SHOWN: Final = 10
"""Entries of a list; the rest is counted."""


@dataclass(frozen=True, slots=True)
class HomeFacts:
    """What one person gets to see."""

    rights: str = ""
    """Who they are and what they may approve, in a sentence."""
    incidents: tuple[tuple[Incident, str], ...] = ()
    """The newest open ones, with the headline of their board."""
    open_count: int = 0
    """How many are open in all."""
    waiting: tuple[tuple[Proposal, str], ...] = ()
    """Proposals that wait for approval, with why this person may not decide on them; empty where they may."""
    freezes: tuple[Freeze, ...] = ()
    runs: tuple[tuple[Execution, Proposal], ...] = ()
    """The last ones, the newest first."""
    now: datetime | None = None
    """When it is drawn; without it nothing is said of the time that is left."""


def home_view(facts: HomeFacts) -> JsonObject:
    """The Home of somebody who may look."""
    mine = [_mine(one, facts.now) for one, no in facts.waiting if not no]
    others = [[bold(one.title, 200), text(f": {no}", 300)] for one, no in facts.waiting if no]
    incidents = [
        [bold(one.title, 200), text(f": {word} · {one.cluster or 'no cluster'}", 200)] for one, word in facts.incidents
    ]
    freezes = [[text(str(one), 400)] for one in facts.freezes]
    runs = [
        [bold(plan.title, 200), text(f": {STATE_WORDS[plan.state]}, "), moment(run.ended_at or run.started_at)]
        for run, plan in facts.runs
    ]
    blocks: list[Block] = [rich(paragraph(text(facts.rights, 800)))]
    for title, lines, count, nothing in (
        ("Waits for you", mine, len(mine), "Nothing waits for your decision."),
        ("Waits for others", others, len(others), "Nothing."),
        ("Open incidents", incidents, facts.open_count, "No incident is open."),
        ("Freezes", freezes, len(freezes), "Nothing is frozen."),
        ("Last repairs", runs, len(runs), "No repair has run yet."),
    ):
        blocks += _section(title, lines, count, nothing)
    return {"type": "home", "blocks": list(fit(blocks, VIEW_TEXT_BUDGET, VIEW_BLOCKS)[0])}


def refusal_view(sentence: str) -> JsonObject:
    """The Home of somebody who may not look."""
    return {"type": "home", "blocks": [rich(paragraph(text(sentence)))]}


def _mine(waits: Proposal, now: datetime | None) -> list[Leaf]:
    left = time_left(waits.expires_at, now) if now is not None else ""
    told = [text(left)] if left else []
    return [bold(waits.title, 200), text(" expires "), moment(waits.expires_at), *told]


def _section(title: str, lines: list[list[Leaf]], count: int, nothing: str) -> Iterator[Block]:
    yield divider()
    yield header(f"{title} ({count:,})" if lines else title)
    yield rich(bullets(lines[:SHOWN])) if lines else small(nothing)
    if count > SHOWN:
        yield small(f"and {count - SHOWN:,} more; /nats lists them all.")
