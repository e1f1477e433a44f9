"""Composes the spreading of leaders, off one server or evenly, into slices; or refuses with the reasons. Pure.

A group is moved where another of its members leads at least two fewer, to the one that leads fewest, and once at most. So the work ends, and every move makes
the cluster more even. Before 2.11 nobody can be preferred: then only one server can be relieved, and the others share what it gives as they elect.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from bot.action import Composed
from bot.actions._elections import Led, can_prefer, hindrances
from bot.actions._gate import some
from bot.actions.leaders_move import ACTION as MOVE
from bot.actions.leaders_move import Move, MoveParams, find, shares, stop_reasons
from bot.actions.meta_step_down import ACTION as META
from bot.actions.meta_step_down import step_down_stage, whole_meta
from bot.errors import Refused
from bot.model import ConsumerKey, JsonObject, Snapshot, StreamKey
from bot.model.groups import meta_standing
from bot.model.snapshot import names

COMPOSES = (META.kind, MOVE.kind)

SLICE: Final = 20
"""Groups of one slice: at five a second its elections are over before a person has read the message."""

MOST_SLICES: Final = 10
"""Slices of one proposal. More moves are another one, made from how things stand then."""

ENOUGH: Final = 2
"""How many more groups the present leader must lead than the next one: with fewer a move only swaps the two."""


@dataclass(slots=True)
class _Groups:
    """What can be moved, by its present leader in order of name, and what can't and why."""

    movable: dict[str, list[tuple[StreamKey | ConsumerKey, Led, str]]] = field(
        default_factory=dict[str, list[tuple[StreamKey | ConsumerKey, Led, str]]]
    )
    single: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Server and name of what has one replica."""
    sick: list[str] = field(default_factory=list[str])


def compose(snapshot: Snapshot, off: str = "") -> Composed:
    """Return slices that take leaders off one server down to its fair share, or that spread all evenly. Raises `Refused`."""
    counts = shares(snapshot)
    reasons = stop_reasons(snapshot, MoveParams(moves=(), relieved=off))
    if off and off not in counts:
        reasons.append(f"Server {off} does not answer.")
    if reasons:
        raise Refused(*reasons)
    found = _groups(snapshot)
    choosing = all(can_prefer(snapshot, server) for server in names(snapshot.servers))
    if not choosing and not off:
        raise Refused(
            "Leaders can't be spread evenly: not every server runs 2.11.0 or later, where a successor can be preferred."
        )
    before = Counter(counts)
    moves = _chosen(found, counts, off) if choosing else _given_away(found, counts, off)
    left = _left(found, off)
    meta = _meta(snapshot, off, before)
    if not moves and not meta:
        raise Refused(
            f"No leader can be moved{f' off {off}' if off else ''} that would make the cluster more even.", *left
        )
    here = moves[: SLICE * MOST_SLICES]
    slices = [here[start : start + SLICE] for start in range(0, len(here), SLICE)]
    stages = tuple(
        (MOVE.kind, MoveParams(moves=tuple(slice_), relieved=off).model_dump(mode="json")) for slice_ in slices
    )
    more = [f"{len(moves) - len(here)} further leaders are left to another proposal."] if len(moves) > len(here) else []
    return Composed((*meta, *stages), (_summary(before, counts, off, chosen=choosing), *left, *more))


def _groups(snapshot: Snapshot) -> _Groups:
    last = snapshot.rounds - 1
    found = _Groups()
    for key in sorted((*snapshot.streams(last), *snapshot.consumers(last)), key=str):
        try:
            led, created = find(snapshot, key)
        except Refused as refused:
            found.sick += refused.reasons
            continue
        if led.standing.replicas == 1:
            found.single.append((led.leader, led.name))
        elif why := hindrances(led):
            found.sick.append(f"{led.name}: {why[0]}")
        else:
            found.movable.setdefault(led.leader, []).append((key, led, created))
    return found


def _chosen(found: _Groups, counts: Counter[str], off: str) -> list[Move]:
    """Take from whoever leads most, as long as that helps; `counts` becomes what is expected afterwards."""
    waiting = {server: list(groups) for server, groups in found.movable.items() if not off or server == off}
    moves: list[Move] = []
    while sources := [server for server, groups in waiting.items() if groups]:
        source = max(sources, key=lambda server: (counts[server], server))
        key, led, created = waiting[source].pop(0)
        target = min(led.successors, key=lambda server: (counts[server], server), default="")
        if not target or counts[source] - counts[target] < ENOUGH:
            continue
        counts[source] -= 1
        counts[target] += 1
        moves.append(_move(key, led, created, target))
    return moves


def _given_away(found: _Groups, counts: Counter[str], off: str) -> list[Move]:
    """As many as are above the fair share, whoever gets them."""
    fair = -(-sum(counts.values()) // len(counts))
    given = found.movable.get(off, [])[: max(counts[off] - fair, 0)]
    counts[off] -= len(given)
    return [_move(key, led, created, "") for key, led, created in given]


def _move(key: StreamKey | ConsumerKey, led: Led, created: str, to: str) -> Move:
    consumer = key.consumer if isinstance(key, ConsumerKey) else ""
    return Move(
        account=key.account,
        stream=key.stream,
        consumer=consumer,
        created=created,
        leader=led.leader,
        term=led.term,
        to=to,
    )


def _meta(snapshot: Snapshot, off: str, counts: Counter[str]) -> tuple[tuple[str, JsonObject], ...]:
    """The meta leader first, where it is the server to relieve: its request does not wait behind the others in the queue."""
    if not off or meta_standing(snapshot).leader != off:
        return ()
    try:
        led = whole_meta(snapshot)
    except Refused:
        return ()
    to = min(led.successors, key=lambda server: (counts[server], server)) if can_prefer(snapshot, off) else ""
    return ((META.kind, step_down_stage(snapshot, to).model_dump(mode="json")),)


def _left(found: _Groups, off: str) -> list[str]:
    """Name what stays, and why."""
    single = [f"{name} on {server}" for server, name in found.single if off in {"", server}]
    told = [f"With one replica, and so not to be moved: {some(single)}."] if single else []
    return told + ([f"Not moved while it is not whole: {some(found.sick)}"] if found.sick else [])


def _summary(before: Counter[str], after: Counter[str], off: str, *, chosen: bool) -> str:
    was = ", ".join(f"{server} {count}" for server, count in sorted(before.items()))
    if not chosen:
        return f"Streams and consumers led now: {was}. {off} keeps {after[off]}; before 2.11 the members elect who gets the others."
    shall = ", ".join(f"{server} {count}" for server, count in sorted(after.items()))
    return f"Streams and consumers led now: {was}; afterwards: {shall}."
