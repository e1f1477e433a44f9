"""Composes slices of clients that leave one server until it has no more than its share of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from bot.action import Composed
from bot.actions.clients_shed import Goal, Scene, Shed, ShedParams, scene_of
from bot.errors import Refused, Unreachable
from bot.model import JsonObject, Snapshot
from bot.model.clients import ClientKind, Connected, Selection

COMPOSES = (Shed.kind,)

FEWEST: Final = 20
"""Clients that a slice has at least: of fewer nobody can tell whether chance or an address brings them back."""

NOTICE: Final = 10.0
"""Seconds from the notice to the disconnection: what a server in lame-duck mode itself waits before it closes its first client
(server/const.go, DEFAULT_LAME_DUCK_GRACE_PERIOD)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, how many, and what is too much for a server."""

    per_second: float
    slice: int
    """Clients of one stage at most."""
    most: int
    """Clients of one proposal at most."""
    cpu: float
    waiting: int


def compose_shed(snapshot: Snapshot, server: str, selection: Selection, pace: Pace) -> Composed:
    """Return the slices. The youngest connections go first: they have the least to lose. Raises `Refused` with every reason against it."""
    try:
        scene = scene_of(snapshot, server, selection)
    except Unreachable as error:
        raise Refused(str(error)) from error
    rows = sorted((row for row in scene.own.rows if row.fits(selection)), key=lambda row: -row.cid)
    surplus = len(rows) - scene.share
    chosen = rows[: max(min(surplus, pace.most), 0)]
    reasons = scene.busy_others(pace.cpu, pace.waiting)
    if surplus < FEWEST:
        reasons.append(
            f"{server} has {len(rows)} {selection} and its share is {scene.share}: fewer than {FEWEST} could go."
        )
    if scene.room < len(chosen):
        reasons.append(f"The other servers accept {scene.room:g} more connections, not {len(chosen)}.")
    if reasons:
        raise Refused(*reasons)
    goal = Goal.CALM if scene.loads[server].signs(pace.cpu, pace.waiting) else Goal.EVEN
    slices = _slices(chosen, pace.slice)
    stages = tuple(_stage(scene, server, selection, pace, goal, rows) for rows in slices)
    return Composed(stages, _cautions(scene, server, len(rows) - len(chosen), slices, pace))


def _slices(chosen: list[Connected], largest: int) -> list[list[Connected]]:
    """Cut into parts of alike size, so that the last one says as much as the others."""
    count = -(-len(chosen) // max(largest, FEWEST))
    size, more = divmod(len(chosen), count)
    ends = [size * number + min(number, more) for number in range(count + 1)]
    return [chosen[start:end] for start, end in pairwise(ends)]


def _stage(
    scene: Scene, server: str, selection: Selection, pace: Pace, goal: Goal, rows: list[Connected]
) -> tuple[str, JsonObject]:
    params = ShedParams(
        server=server,
        server_id=scene.own.server_id,
        selection=selection,
        cids=tuple(row.cid for row in rows),
        per_second=pace.per_second,
        notice=NOTICE if any(row.kind is not ClientKind.MQTT for row in rows) else 0.0,
        goal=goal,
        cpu=pace.cpu,
        waiting=pace.waiting,
    )
    return Shed.kind, params.model_dump(mode="json")


def _cautions(scene: Scene, server: str, left: int, slices: list[list[Connected]], pace: Pace) -> tuple[str, ...]:
    servers = len(scene.counts)
    going = sum(map(len, slices))
    told = [
        f"{going} clients in {len(slices)} slices, {going / pace.per_second:.0f} s in all; between two slices CPU and API queues are read.",
        f"Where a load balancer spreads them at random, 1 of {servers} comes back to {server}: then it takes more than one proposal.",
        "Who knows one address only comes back to it: that shows after the first slice, and nothing more is sent.",
        "There is no way back. `nats.system_writer` must be allowed KICK and LDM.",
    ]
    if left > scene.share:
        told.append(f"{server} still has {left - scene.share} too many afterwards: they are for a next proposal.")
    return tuple(told)
