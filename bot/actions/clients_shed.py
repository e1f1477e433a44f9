"""Lets some clients of one server go, so many a second, so that they connect to the others: they are disconnected one by one, by their ids.

An id is never used again while its server runs, so a slice names the very connections that were looked at; who has left since is not missed, and sending
it twice disconnects nobody twice. Facts of KICK and LDM, seen on 2.10.26 and 2.15.1 with clients of all three protocols: a kicked one stands among the
closed connections of CONNZ with reason *Kicked*; a lame-duck notice leaves the connection as it is, and is refused for MQTT, whose protocol has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from bot.action import ELECTION, Check, Receipt
from bot.actions._facts import look
from bot.actions._loading import Sleep
from bot.errors import NotApplied, OutcomeUnknown, Refused, ServerRefused, Unreachable
from bot.model import (
    Endpoint,
    Measure,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Tunable,
    Verification,
)
from bot.model.clients import (
    ClientKind,
    Clients,
    Connected,
    Selection,
    clients_of,
    counted,
    moment_of,
    share_of,
    younger,
)
from bot.model.load import Load, load_of
from bot.model.snapshot import names
from bot.ports import Readers, Writers

NEEDS: Final = frozenset({Endpoint.VARZ, Endpoint.CONNZ, Endpoint.IPQUEUESZ})
"""And `Selection.needs`."""

KICKED: Final = "Kicked"
"""Reason of a closed connection (server/client.go, ClosedState.String)."""

MOST_BACK: Final = 0.75
"""Share of those who were let go that may come back to the same server. Spread at random over two servers half of them do, over more servers fewer."""

RETURNED: Final = 0.5
"""Share of those who were let go that must have connected somewhere again before more are."""

STORM: Final = 2.0
"""New clients of the other servers, as a multiple of those who were let go, from which on it is a storm: others reconnect as well, or the same ones
again and again."""


SLOWEST, FASTEST = "0.1", "50"
"""Clients a second that a person may ask for: three laboratory servers took 300 devices in 5.6 s (reference/drills.md 5), and more was not measured."""


class Goal(StrEnum):
    """When no more clients need to go; always once the server has no more than its share."""

    EVEN = "even"
    """Not before."""
    CALM = "calm"
    """Once its CPU and its API queue are under their limits."""


class ShedParams(Record):
    """One slice: who goes, how fast, and when not."""

    server: str
    server_id: str
    """Of the server's present life: connection ids count from there."""
    selection: Selection
    """Which clients are counted, here and on the other servers."""
    cids: Annotated[tuple[int, ...], Field(min_length=1)]
    per_second: Annotated[float, Field(gt=0)]
    notice: float = 0.0
    """Seconds from the lame-duck notice to the disconnection; 0 for no notice."""
    goal: Goal
    cpu: float
    """Share of its CPU from which on a server is busy."""
    waiting: int
    """Requests waiting for its JetStream API from which on a server is busy."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The servers that take these clients, as they are now."""

    own: Clients
    others: Mapping[str, Clients]
    loads: Mapping[str, Load]
    """Of all of them."""
    counts: Mapping[str, int]
    """Clients that fit the selection, by server."""

    @property
    def share(self) -> int:
        """What each would have if all had alike, rounded up."""
        return share_of(self.counts)

    @property
    def room(self) -> float:
        """How many connections the other servers still accept."""
        return sum(one.room for one in self.others.values())

    def busy_others(self, cpu: float, waiting: float) -> list[str]:
        """Return which of the others have too much to do themselves, or do not tell."""
        told: list[str] = []
        for name in self.others:
            load = self.loads[name]
            if signs := load.signs(cpu, waiting):
                told.append(f"{name} {' and '.join(signs)}.")
            elif not load.known:
                told.append(f"How busy {name} is, is not known: it {load}.")
        return told


class Shed:
    """Disconnects the clients of one slice."""

    kind: str = "clients.shed"
    title: str = "Let clients go"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ShedParams
    settle: float = 5.0
    """Clients come back within a second or two (nats.go ReconnectWait 2 s); where all return at once it shows by then."""
    patience: float = 60.0
    """MQTT devices wait some seconds before they connect again, and their API requests 4 to 5 s each (reference/drills.md 5)."""
    half_way: float = ELECTION

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    def tunables(self, params: ShedParams) -> tuple[Tunable, ...]:
        """The pace."""
        pace = f"{params.per_second:g}"
        return (
            Tunable(
                name="per_second",
                title="Clients let go a second",
                measure=Measure.NUMBER,
                unit="clients a second",
                value=pace,
                least=SLOWEST,
                most=FASTEST,
            ),
        )

    async def check(self, readers: Readers, params: ShedParams) -> Check:
        """The server must be the very one, and the others must be there, able to take its clients."""
        snapshot = await look(readers, NEEDS | params.selection.needs)
        try:
            scene = scene_of(snapshot, params.server, params.selection)
            same_life(scene.own, params)
        except Restarted as gone:
            return Check(world={}, refusals=gone.reasons, final=True)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        remaining = _remaining(scene.own, params)
        done = _needless(scene, params, remaining)
        reasons = [] if done else scene.busy_others(params.cpu, params.waiting)
        if not done and scene.room < len(remaining):
            reasons.append(f"The other servers accept {scene.room} more connections, not {len(remaining)}.")
        return Check(
            world={f"{params.server}.id": scene.own.server_id},
            refusals=tuple(reasons),
            needless=done,
            before=_numbers(scene),
        )

    async def preview(self, readers: Readers, params: ShedParams) -> Preview:
        """Say who goes and what they feel."""
        scene = scene_of(await look(readers, NEEDS | params.selection.needs), params.server, params.selection)
        remaining = _remaining(scene.own, params)
        now = scene.counts[params.server]
        unit, gone = str(params.selection), len(remaining)
        return Preview(
            summary=f"{gone} clients leave {params.server}, {params.per_second:g} a second: {counted(remaining) or 'none is left'}",
            diff=f"-{params.server}: {now} {unit}\n+{params.server}: {now - gone} {unit}, before any of them comes back",
            blast_radius=f"These {gone} clients, for the time that they need to connect again. natsmedic's own connections and those of the system account stay.",
            effects=(*_felt(remaining, params.notice), *_stops(params)),
            way_back="None: nobody can send clients back. They connect again by themselves, where their addresses and load balancer lead them.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ShedParams, operation: OperationId) -> None:  # noqa: ARG002 - the contract's
        """Warn those that can be warned, wait, and disconnect those that are still there."""
        remaining = await self._there(readers, params)
        warned = [c for c in remaining if c.kind is not ClientKind.MQTT] if params.notice else []
        for client in warned:
            await self._one(writers.warn_client(params.server_id, client.cid), params, tolerant=True)
        if warned:
            await self._sleep(params.notice)
            remaining = await self._there(readers, params)
        lost = 0
        for sent, client in enumerate(remaining):
            try:
                await self._one(writers.kick_client(params.server_id, client.cid), params)
            except OutcomeUnknown:
                lost += 1
            except NotApplied as error:
                if not sent:
                    raise
                raise OutcomeUnknown(f"{sent} of {len(remaining)} were disconnected, then: {error}") from error
        if lost:
            raise OutcomeUnknown(f"{lost} of {len(remaining)} requests to disconnect a client were not answered.")

    async def receipt(self, readers: Readers, params: ShedParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """The connections themselves are the receipt: applied where none of them is left and the server remembers that it was told to close some.

        A slice that was sent in part is *not applied*: sending it again finds the rest.
        """
        closed = await readers.closed_clients(params.server_id)
        try:
            scene = scene_of(await look(readers, NEEDS | params.selection.needs), params.server, params.selection)
            same_life(scene.own, params)
        except Restarted:
            return Receipt.FOREIGN
        except Refused:
            return Receipt.UNREADABLE
        gone = not _remaining(scene.own, params)
        return Receipt.APPLIED if gone and _kicked(closed, params) else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: ShedParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """They are gone, have connected again, mostly elsewhere, and the other servers carry it."""
        closed = await readers.closed_clients(params.server_id)
        try:
            scene = scene_of(await look(readers, NEEDS | params.selection.needs), params.server, params.selection)
            same_life(scene.own, params)
        except Refused as refused:
            final = isinstance(refused, Restarted)
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=final)
        return judged(scene, params, _kicked(closed, params))

    async def rollback(self, readers: Readers, writers: Writers, params: ShedParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is no way back."""
        raise Refused(
            f"The clients that left {params.server} have connected again where their addresses led them; nobody can send them back."
        )

    async def _there(self, readers: Readers, params: ShedParams) -> Sequence[Connected]:
        scene = scene_of(await look(readers, NEEDS | params.selection.needs), params.server, params.selection)
        same_life(scene.own, params)
        return _remaining(scene.own, params)

    async def _one(self, asked: Awaitable[None], params: ShedParams, *, tolerant: bool = False) -> None:
        """Ask for one client and keep the pace. One that has left by itself meanwhile is what was wanted; a notice may be missed."""
        missed = (ServerRefused, OutcomeUnknown) if tolerant else (ServerRefused,)
        with suppress(*missed):
            await asked
        await self._sleep(1 / params.per_second)


class Restarted(Refused):
    """The server was started anew, so all of its clients have connected anew."""


def same_life(own: Clients, params: ShedParams) -> None:
    """Raise `Restarted` where the server is not in the life that the connection ids belong to."""
    if own.server_id != params.server_id:
        raise Restarted(f"{params.server} was restarted since: its clients have all connected anew.")


def scene_of(snapshot: Snapshot, server: str, selection: Selection) -> Scene:
    """Return the servers that take these clients. Raises `Refused` where one does not tell, or there is no other; `Unreachable` where this one is silent."""
    known = sorted(snapshot.expected | names(snapshot.servers))
    seen = {name: clients for name in known if (clients := clients_of(snapshot, name)) is not None}
    if server not in seen:
        raise Unreachable(f"Which clients {server} has is not known.")
    if silent := [name for name in known if name not in seen]:
        raise Refused(f"Which clients {', '.join(silent)} has is not known, and so not whether they could take more.")
    if selection.subject is not None and (silent := [name for name in known if not seen[name].subscribed]):
        raise Refused(f"What the clients of {', '.join(silent)} are subscribed to is not known.")
    kinds = set(selection.kinds) & seen[server].kinds
    taking = {name: one for name, one in seen.items() if one.kinds & kinds}
    if not taking.keys() - {server}:
        raise Refused(f"No server but {server} takes {selection}.")
    counts = {name: sum(row.fits(selection) for row in one.rows) for name, one in taking.items()}
    loads = {name: load_of(snapshot, name) for name in taking}
    return Scene(
        seen[server], {name: one for name, one in taking.items() if name != server}, loads, {server: 0} | counts
    )


def judged(scene: Scene, params: ShedParams, kicked: Sequence[datetime]) -> Verification:
    """Say what became of a slice; `kicked` is when those of it that were told to go were."""
    server, wanted = params.server, len(params.cids)
    left = _remaining(scene.own, params)
    numbers = _numbers(scene)
    if left or not kicked:
        text = f"{len(left)} of {wanted} clients are still connected to {server}."
        if not left:
            text = f"All {wanted} clients have left {server}, and as far as it remembers none of them because of natsmedic."
        outcome = Outcome.FAILED if left else Outcome.VERIFIED
        return Verification(outcome=outcome, sentence=text, numbers=numbers)
    seconds = (scene.own.now - min(kicked)).total_seconds()
    back = _new(scene.own, params.selection, seconds)
    elsewhere = sum(_new(one, params.selection, seconds) for one in scene.others.values())
    gone = len(kicked)
    numbers |= {"let go": gone, f"new on {server}": back, "new elsewhere": elsewhere}
    text = f"{gone} clients were let go; since then {back} have connected to {server} and {elsewhere} to other servers."
    if lost := _backfired(server, gone, back, elsewhere):
        return Verification(outcome=Outcome.FAILED, sentence=f"{lost} {text}", numbers=numbers, final=True)
    if why := scene.busy_others(params.cpu, params.waiting):
        text = f"The other servers have too much to do: {' '.join(why)} {text}"
        return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)
    if back + elsewhere < RETURNED * gone:
        text = f"Too few have connected again. {text}"
        return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)
    state = f"It has {scene.counts[server]} now, its share is {scene.share}, and it {scene.loads[server]}."
    return Verification(outcome=Outcome.VERIFIED, sentence=f"{text} {state}", numbers=numbers)


def _backfired(server: str, gone: int, back: int, elsewhere: int) -> str:
    """Say why letting more go would only do harm; empty where it does not."""
    if back >= MOST_BACK * gone:
        return f"They come straight back to {server}: something sends them there."
    return "The other servers are stormed." if elsewhere >= STORM * gone else ""


def _needless(scene: Scene, params: ShedParams, remaining: Sequence[Connected]) -> str:
    """Say why nobody need go any more; empty where somebody must."""
    server, load = params.server, scene.loads[params.server]
    if not remaining:
        return f"The {len(params.cids)} clients of this slice have left {server} by themselves."
    if scene.counts[server] <= scene.share:
        return f"{server} has {scene.counts[server]} {params.selection}, no more than its share of {scene.share}."
    if params.goal is Goal.CALM and load.known and not load.signs(params.cpu, params.waiting):
        return f"{server} {load}: it is no longer overloaded."
    return ""


def _remaining(own: Clients, params: ShedParams) -> Sequence[Connected]:
    there = {row.cid: row for row in own.rows}
    return [there[cid] for cid in params.cids if cid in there]


def _kicked(closed: Sequence[Mapping[str, object]], params: ShedParams) -> list[datetime]:
    """When the clients of the slice that were told to go did, by the server's clock."""
    wanted = set(params.cids)
    rows = [row for row in closed if row.get("cid") in wanted and row.get("reason") == KICKED]
    return [at for row in rows if (at := moment_of(row.get("stop"))) is not None]


def _new(clients: Clients, selection: Selection, seconds: float) -> int:
    """How many connected within so many seconds: ages are told by each server's own clock, so that clocks need not agree."""
    return sum(row.fits(selection) for row in younger(clients.rows, clients.now, seconds))


def _numbers(scene: Scene) -> dict[str, str | int | None]:
    numbers: dict[str, str | int | None] = {f"clients of {name}": count for name, count in scene.counts.items()}
    for name, load in scene.loads.items():
        numbers[f"CPU of {name}"] = None if load.cpu is None else f"{load.cpu:.0%}"
        numbers[f"API requests waiting on {name}"] = load.waiting
    return numbers


def _felt(clients: Sequence[Connected], notice: float) -> list[str]:
    kinds = {client.kind for client in clients}
    told: list[str] = []
    if ClientKind.MQTT in kinds:
        told.append(
            "MQTT clients see their connection break and come back to their session: what was not acknowledged with QoS 1 or 2 is sent again, QoS 0 "
            "messages of the gap are lost. A client with a clean session loses its session and what waits in it."
        )
    if kinds - {ClientKind.MQTT}:
        first = f"get a lame-duck notice, and {notice:g} s later" if notice else "are not warned;"
        told.append(
            f"NATS and WebSocket clients {first} their connection is closed. Their libraries connect again by themselves. JetStream delivers again what was not "
            "acknowledged; core messages of the gap do not reach them, and requests on their way time out."
        )
    return told


def _stops(params: ShedParams) -> list[str]:
    good = f"{params.server} has no more than its share"
    if params.goal is Goal.CALM:
        good += f", or is under {params.cpu:.0%} of its CPU and {params.waiting} waiting API requests"
    return [
        f"It is not sent once {good}.",
        f"Nothing more is sent where {MOST_BACK:.0%} come straight back, other servers get {STORM:g} times as many new clients, or reach those limits themselves.",
    ]


ACTION = Shed()
