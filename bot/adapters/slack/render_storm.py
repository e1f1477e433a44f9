"""The one message of a storm: a table by cluster and alert name instead of a thread for each incident, edited in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.adapters.slack.blocks import (
    Block,
    actions,
    bold,
    button,
    fit,
    header,
    menu,
    ours,
    paragraph,
    preformatted,
    rich,
    small,
    text,
)
from bot.adapters.slack.render_board import headline, people
from bot.adapters.slack.text import date, fallback
from bot.adapters.slack.wanted import OPEN_THREAD, TAKE, Case, Storm, WantedMessage
from bot.adapters.visible import visible
from bot.model import IncidentState, JsonObject, StormLine, StormMember

LINES: Final = 25
"""Lines of the table: with the widths below they stay within a text of Slack (reference/chatops.md 5)."""
CLUSTER_WIDTH: Final = 20
TITLE_WIDTH: Final = 40
NOWHERE: Final = "(none)"
"""In place of a cluster, where no configured one matches."""


def storm_board(case: Case, storm: Storm) -> WantedMessage:
    """The message."""
    incident = case.incident
    sign, word = headline(case)
    blocks: list[Block] = [
        header(f"{sign} {incident.title}"),
        rich(paragraph(bold(word), text(f". {_sum(storm)}"))),
    ]
    if storm.lines:
        blocks.append(rich(preformatted(_table(storm.lines[:LINES]))))
    if len(storm.lines) > LINES:
        blocks.append(
            small(f"and {len(storm.lines) - LINES} more kinds; `natsmedic incidents list` shows every incident.")
        )
    blocks += people(incident)
    blocks.append(ours(f"Began {date(incident.opened_at)} · last change {date(incident.updated_at)}"))
    offered: list[JsonObject] = []
    if storm.members:
        options = [(member.id, _option(member)) for member in storm.members]
        offered.append(menu(OPEN_THREAD, "Open a thread for…", options))
    if incident.state is not IncidentState.CLOSED:
        offered.append(button(TAKE, "I take it", incident.id))
    if offered:
        blocks.append(actions("storm", *offered))
    shown, _ = fit(blocks)
    return WantedMessage(
        key=f"board:{incident.id}", blocks=shown, text=fallback(f"{sign} {incident.title}: {word}"), thread=False
    )


def _sum(storm: Storm) -> str:
    count, firing = sum(line.count for line in storm.lines), sum(line.firing for line in storm.lines)
    where = _only_cluster(storm.lines)
    on = f" on cluster {where}" if where else ""
    return f"{count:,} incidents of {len(storm.lines):,} kinds{on}, {firing:,} of them open now; page-worthy kinds stand first. Times are UTC."


def _only_cluster(lines: Sequence[StormLine]) -> str:
    """The cluster of all of them; empty where there are several, or none."""
    clusters = {line.cluster for line in lines}
    return _short(clusters.pop(), CLUSTER_WIDTH) if len(clusters) == 1 else ""


def _table(lines: tuple[StormLine, ...]) -> str:
    """One line for each alert name of each cluster; times are UTC. One cluster needs no column, and a phone is narrow."""
    first = 1 if _only_cluster(lines) else 0
    rows = [("", "cluster", "alert", "count", "open", "first", "last")]
    rows += [
        (
            "‼" if line.page else "",
            _short(line.cluster or NOWHERE, CLUSTER_WIDTH),
            _short(line.title, TITLE_WIDTH),
            f"{line.count:,}",
            f"{line.firing:,}",
            f"{line.first:%H:%M}",
            f"{line.last:%H:%M}",
        )
        for line in lines
    ]
    rows = [(row[0], *row[1 + first :]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _option(member: StormMember) -> str:
    where = member.cluster or NOWHERE
    return f"{member.title} · {where} · {member.words}" if member.words else f"{member.title} · {where}"


def _short(words: str, most: int) -> str:
    shown = visible(words[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
