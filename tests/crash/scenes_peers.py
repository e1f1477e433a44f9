"""Scenes of the actions that replace a dead server or count it out. It can't be given back, so each run has a cluster of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from bot.actions import meta_peer_remove, stream_peer_remove
from bot.actions._elections import meta_led
from bot.actions._facts import consumer_facts, look, stream_facts
from bot.actions._peers import PEER_NEEDS
from bot.errors import Refused
from bot.lab import drills
from bot.lab.jetstream import request
from bot.model import ConsumerKey, Snapshot, StreamKey
from bot.model.groups import meta_standing
from tests.crash.proxy import Proxy
from tests.crash.scene import Lab, Scene, Situation, Where, until
from tests.crash.scenes_nats import PROCESSED, PUBLISHED, NatsLab, worked_on

WITH_SPARE = 5
"""Servers of which one may die while a stream of three still finds a spare."""
LEAVES_THREE = 4
"""The fewest of which one may be counted out (`meta_peer_remove.LEAST_LEFT`)."""
AWAY = 3.0
"""Seconds after which a server is taken for gone here; production waits for 15 minutes."""


class Grounds:
    """Where clusters are made, one for each run."""

    where = Where.GONE
    spent = False

    def __init__(self, folder: Path, version: str) -> None:
        self.version = version
        self._folder = folder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Each run has cleared its own cluster away."""

    def lost(self, door: Proxy) -> int:
        """Only at the door."""
        return door.lost

    def cluster(self, number: int, size: int) -> NatsLab:
        """A cluster that nobody has opened yet."""
        return NatsLab(self._folder / f"run{number}", self.version, size)


@dataclass(frozen=True)
class Replace:
    """A member of a stream is dead, and a spare server takes its place."""

    name: str = "replace a dead member"
    kinds: Sequence[str] = (stream_peer_remove.ACTION.kind,)
    where: Where = Where.GONE
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, Grounds)
        async with lab.cluster(number, WITH_SPARE) as own, worked_on(own, number) as worker:
            key = StreamKey(worker.account, worker.stream)
            victim = await _a_follower(own, worker)
            await own.cluster.kill(victim)

            def dead(snapshot: Snapshot) -> bool:
                lost = victim in consumer_facts(snapshot, worker).standing.lost
                return lost and not stream_peer_remove.hindrances(snapshot, stream_facts(snapshot, key), victim)

            snapshot = await _once(own, f"the death of {victim}", dead)
            params = stream_peer_remove.peer_remove_stage(stream_facts(snapshot, key), victim)

            async def problem() -> str:
                facts = stream_facts(await look(own.readers), key)
                if victim in facts.standing.members or not facts.standing.whole:
                    return f"{key} has the members {sorted(facts.standing.members)}: {facts.standing.counted}"
                info = await request(own.client, f"CONSUMER.INFO.{worker.stream}.{worker.consumer}")
                left = (facts.state.messages, int(info["num_pending"]) + int(info["num_ack_pending"]))
                return "" if left == (PUBLISHED, PUBLISHED - PROCESSED) else f"{left} messages are there and wait"

            async def untouched() -> str:
                members = stream_facts(await look(own.readers), key).standing.members
                return "" if members == frozenset(params.members) else f"{key} has the members {sorted(members)}"

            async with own.counted() as proxy:
                yield Situation(
                    cluster=own.settings([proxy.url]),
                    door=proxy,
                    stages=[(stream_peer_remove.ACTION.kind, params.model_dump(mode="json"))],
                    expected=[[f"STREAM.PEER.REMOVE.{key.stream}"]],
                    effects=lambda: proxy.effects,
                    problem=problem,
                    untouched=untouched,
                    lose=lambda what: proxy.lose.update([what]),
                )


@dataclass(frozen=True)
class CountOut:
    """A server that is gone no longer counts for the quorum of the meta group."""

    name: str = "count a gone server out"
    kinds: Sequence[str] = (meta_peer_remove.ACTION.kind,)
    where: Where = Where.GONE
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, Grounds)
        async with lab.cluster(number, LEAVES_THREE) as own:
            leader = await own.cluster.wait_ready()
            victim = next(name for name in own.cluster.names if name != leader)
            await own.cluster.kill(victim)

            def gone(snapshot: Snapshot) -> bool:
                return not meta_peer_remove.hindrances(snapshot, meta_led(snapshot), victim, AWAY)

            snapshot = await _once(own, f"the absence of {victim}", gone)
            params = meta_peer_remove.remove_stage(snapshot, victim, AWAY)

            async def counted(wanted: frozenset[str]) -> str:
                members = meta_led(await look(own.readers)).standing.members
                return "" if members == wanted else f"the meta group is {sorted(members)}"

            async with own.counted() as proxy:
                yield Situation(
                    cluster=own.settings([proxy.url]),
                    door=proxy,
                    stages=[(meta_peer_remove.ACTION.kind, params.model_dump(mode="json"))],
                    expected=[["SERVER.REMOVE"]],
                    effects=lambda: proxy.effects,
                    problem=partial(counted, frozenset(params.members) - {victim}),
                    untouched=partial(counted, frozenset(params.members)),
                    lose=lambda what: proxy.lose.update([what]),
                )


async def _a_follower(lab: NatsLab, worker: ConsumerKey) -> str:
    """Return a member of a stream that leads nothing; where all three lead something, the meta group gets another leader."""
    found: list[str] = []

    async def there() -> bool:
        snapshot = await look(lab.readers, PEER_NEEDS)
        try:
            stream = stream_facts(snapshot, StreamKey(worker.account, worker.stream)).standing
            leading = {stream.leader, consumer_facts(snapshot, worker).standing.leader}
        except Refused:
            return False
        meta = str(meta_standing(snapshot).leader)
        found.extend(sorted(stream.members - leading - {meta}))
        if not found:
            await drills.move_meta_leader_off(lab.cluster, meta)
        return bool(found)

    await until("a member that leads nothing", there)
    return found[0]


async def _once(lab: NatsLab, what: str, holds: Callable[[Snapshot], bool]) -> Snapshot:
    """Return the first snapshot in which this holds."""
    found: list[Snapshot] = []

    async def seen() -> bool:
        snapshot = await look(lab.readers, PEER_NEEDS)
        try:
            if not holds(snapshot):
                return False
        except Refused:
            return False
        found.append(snapshot)
        return True

    await until(what, seen)
    return found[0]


SCENES: Sequence[Scene] = (Replace(), CountOut())
