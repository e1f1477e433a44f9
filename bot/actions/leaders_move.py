"""Moves one slice of leaders: so many streams and consumers, one after another at a steady pace, each by a step-down.

A slice is one stage, so it is checked before, verified after, and the next one waits for it. Every group's election is its own receipt: after an interruption
the groups that have elected since are left alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._elections import Led, Numbers, elected, hindrances, not_preferable
from bot.actions._facts import look
from bot.actions._loading import Sleep
from bot.errors import NotApplied, OutcomeUnknown, Refused
from bot.model import (
    ConsumerKey,
    ConsumerState,
    Endpoint,
    Measure,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    StreamKey,
    StreamState,
    Tunable,
    Verification,
    part,
)
from bot.model.groups import (
    groups,
    latest,
    meta_standing,
    raft_group_of,
    raft_term,
    replicas_of,
    standing,
    stream_replicas,
)
from bot.model.snapshot import names
from bot.ports import Readers, Writers

PACE: Final = 0.2
"""Seconds between two step-downs: each election costs all members work for a second or two, so a handful are under way at a time."""

SHORTEST, LONGEST = "0.1", "30"
"""Seconds between two step-downs that a person may ask for: an election works on all members for a second or two, so below this a whole slice elects at once."""

MOST_WAITING: Final = 1_000
"""API requests waiting on a server from which on nothing more is moved: a tenth of the queue, which is where the overload runbook sees a backlog."""


class Move(Record):
    """One group whose leader moves."""

    account: str
    stream: str
    consumer: str = ""
    """Empty for the stream itself."""
    created: str
    leader: str
    term: int = 0
    """Its Raft term before; 0 where RAFTZ could not be read."""
    to: str = ""
    """The preferred successor; empty where nobody can be preferred."""

    @property
    def key(self) -> StreamKey | ConsumerKey:
        stream = StreamKey(self.account, self.stream)
        return ConsumerKey(self.account, self.stream, self.consumer) if self.consumer else stream

    @property
    def name(self) -> str:
        return f"{'consumer' if self.consumer else 'stream'} {self.key}"


class MoveParams(Record):
    """A slice."""

    moves: tuple[Move, ...]
    relieved: str = ""
    """The server that is to lead less. Its own queue may be long, for that is why; empty where leaders are spread evenly."""
    pace: float = PACE
    most_waiting: int = MOST_WAITING


class LeadersMove:
    """Moves a slice."""

    kind: str = "leaders.move"
    title: str = "Move leaders"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = MoveParams
    settle: float = 3.0
    patience: float = 60.0
    """Elections take 4 to 9 s (reference/nats.md 1.0), longer where a whole slice elects on a busy server."""
    half_way: float = ELECTION

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    def tunables(self, params: MoveParams) -> tuple[Tunable, ...]:
        """The pace."""
        return (
            Tunable(
                name="pace",
                title="Seconds between two leaders",
                measure=Measure.NUMBER,
                unit="seconds",
                value=f"{params.pace:g}",
                least=SHORTEST,
                most=LONGEST,
            ),
        )

    async def check(self, readers: Readers, params: MoveParams) -> Check:
        """Every group must keep quorum without its leader. One whose leader has moved already is no obstacle: there is nothing to do."""
        snapshot = await look(readers)
        reasons = stop_reasons(snapshot, params)
        world: dict[str, str | int | bool | None] = {}
        for move in params.moves:
            try:
                led, created = find(snapshot, move.key)
            except Refused as refused:
                reasons += refused.reasons
                world[f"{move.name}.leader"] = None
                continue
            world[f"{move.name}.leader"] = led.leader
            if created != move.created:
                reasons.append(f"{led.name} was created {created}, not {move.created}: it is another one.")
            elif led.leader == move.leader:
                against = hindrances(led) + not_preferable(snapshot, led, move.to)
                reasons += [f"{led.name}: {why}" for why in against]
        return Check(world=world, refusals=tuple(reasons), before=_shares(snapshot))

    async def preview(self, readers: Readers, params: MoveParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Name every group."""
        count = len(params.moves)
        consumers = sum(1 for move in params.moves if move.consumer)
        off = f" off {params.relieved}" if params.relieved else ""
        return Preview(
            summary=f"Move {count} leaders{off}: {count - consumers} of streams, {consumers} of consumers",
            blast_radius=f"These {count} groups stall for some seconds each, {1 / params.pace:.0f} a second begin.",
            effects=(
                *(f"{move.name}: {move.leader} → {move.to or 'another member'}" for move in params.moves),
                "Positions and messages stay. Messages on their way may be delivered once more.",
                f"It stops before this slice where {params.most_waiting} API requests or more wait on another server, or a group is not whole.",
            ),
            way_back="None is needed: any member may lead. What has moved stays where it is.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: MoveParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask one leader after another, those who have not moved yet. Raises `OutcomeUnknown` where it stops half-way."""
        snapshot = await look(readers)
        due = [move for move in params.moves if not elected(find(snapshot, move.key)[0], move.leader, move.term)]
        for asked, move in enumerate(due):
            if asked:
                await self._sleep(params.pace)
            try:
                await _ask(writers, move)
            except NotApplied as error:
                if not asked:
                    raise
                # What was asked for before is under way: *not applied* would be untrue of the slice.
                raise OutcomeUnknown(f"{asked} of {len(due)} leaders were asked, then: {error}") from error

    async def receipt(self, readers: Readers, params: MoveParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """One election since is enough to say that the slice was begun; verification counts the rest."""
        snapshot = await look(readers)
        seen: list[bool | None] = []
        for move in params.moves:
            try:
                led, created = find(snapshot, move.key)
            except Refused:
                seen.append(None)
                continue
            if created != move.created:
                return Receipt.FOREIGN
            seen.append(elected(led, move.leader, move.term))
        if any(seen):
            return Receipt.APPLIED
        return Receipt.UNREADABLE if None in seen else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: MoveParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Every group of the slice has another leader, which all its members name, and all are current."""
        snapshot = await look(readers)
        stay: list[str] = []
        sick: list[str] = []
        for move in params.moves:
            try:
                led, _ = find(snapshot, move.key)
            except Refused as refused:
                sick += refused.reasons
                continue
            if led.leader == move.leader:
                stay.append(move.name)
            elif not led.agreed:
                sick.append(f"{led.name}: {led.standing.counted}.")
        moved = len(params.moves) - len(stay) - len(sick)
        seen: Numbers = {"moved": moved, "of": len(params.moves)} | _shares(snapshot)
        text = f"{moved} of {len(params.moves)} leaders have moved"
        if stay or sick:
            where = f"; {', '.join(stay)} stayed" if stay else ""
            text = f"{text}{where}. {' '.join(sick)}".strip()
            return Verification(outcome=Outcome.FAILED, sentence=text, numbers=seen)
        return Verification(outcome=Outcome.VERIFIED, sentence=f"{text}, all members are current.", numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: MoveParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is nothing to undo."""
        raise Refused("Leaders that have moved stay where they are; any member may lead.")


def find(snapshot: Snapshot, key: StreamKey | ConsumerKey) -> tuple[Led, str]:
    """Return a stream's or consumer's group and when the thing was created. Raises `Refused` where its members do not agree on a leader."""
    last = snapshot.rounds - 1
    views: Mapping[str, StreamState] | Mapping[str, ConsumerState]
    if isinstance(key, ConsumerKey):
        views, name = snapshot.consumers(last).get(key) or {}, f"consumer {key}"
        replicas = replicas_of(views, stream_replicas(snapshot.streams(last).get(key.stream_key) or {}))
        raft_group = raft_group_of(views)
    else:
        views, name = snapshot.streams(last).get(key) or {}, f"stream {key}"
        replicas = stream_replicas(views)
        raft_group = next((view.raft_group for view in views.values() if view.raft_group), "")
    if not views:
        raise Refused(f"No server that answered reports {name}.")
    found = standing(groups(views), replicas)
    if found.leader is None:
        raise Refused(f"{name[0].upper()}{name[1:]} has {found.problem}.")
    own = views[found.leader]
    lag = {peer.name: peer.lag for peer in own.group.peers} if own.group else {}
    return Led(name, found, lag, raft_term(snapshot, found.members, key.account, raft_group)), own.created


def shares(snapshot: Snapshot) -> Counter[str]:
    """Count the streams and consumers that each server leads by its own word; every server that answers is there."""
    last = snapshot.rounds - 1
    found: Counter[str] = Counter(dict.fromkeys(sorted(names(snapshot.servers)), 0))
    for views in (*snapshot.streams(last).values(), *snapshot.consumers(last).values()):
        found.update(server for server, view in views.items() if view.group is None or view.group.leader == server)
    return found


def stop_reasons(snapshot: Snapshot, params: MoveParams) -> list[str]:
    """Reasons why nothing more is moved now, whatever the groups say."""
    meta = meta_standing(snapshot)
    reasons: list[str] = []
    if not meta.quorum:
        reasons.append(f"The meta group has {meta.problem or f'no quorum: {meta.counted}'}.")
    for server in sorted(names(snapshot.servers) - {params.relieved}):
        waiting = waiting_requests(snapshot, server)
        if waiting >= params.most_waiting:
            reasons.append(f"{waiting} API requests wait on {server}; from {params.most_waiting} on nothing is moved.")
    return reasons


def waiting_requests(snapshot: Snapshot, server: str) -> int:
    """Return how many API requests wait on a server: `pending` of its meta group's status, in two queues from 2.14 on (reference/drills.md 5). 0 is left out."""
    meta = part(latest(snapshot, server, Endpoint.JSZ) or {}, "meta_cluster")
    counts = [meta.get(name) for name in ("pending_requests", "pending_infos", "pending")]
    requests, infos, both = (count if isinstance(count, int) else 0 for count in counts)
    return max(requests + infos, both)


def _shares(snapshot: Snapshot) -> Numbers:
    return {f"led by {server}": count for server, count in sorted(shares(snapshot).items())}


async def _ask(writers: Writers, move: Move) -> None:
    if move.consumer:
        await writers.step_down_consumer(move.account, move.stream, move.consumer, move.to)
    else:
        await writers.step_down_stream(move.account, move.stream, move.to)


ACTION = LeadersMove()
