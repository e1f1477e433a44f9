"""The nemesis does what its seed says, and leaves nobody frozen or dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from tests.chaos.nemesis import LONGEST_ABSENCE, LONGEST_FREEZE, Fault, FaultKind, Nemesis, Victim, drawn


class Bot:
    def __init__(self) -> None:
        self.alive = True
        self.frozen = False
        self.suffered: list[str] = []

    def freeze(self) -> None:
        self.frozen = True
        self.suffered.append("freeze")

    def thaw(self) -> None:
        self.frozen = False

    async def kill(self) -> None:
        self.alive = False
        self.suffered.append("kill")

    async def rise(self) -> None:
        self.alive = True


class Town:
    sites = 2

    def __init__(self, count: int) -> None:
        self.bots = [Bot() for _ in range(count)]
        self.lost: list[int] = []
        self.restarts = 0

    @property
    def victims(self) -> Sequence[Victim]:
        return self.bots

    async def restart_database(self) -> None:
        self.restarts += 1

    def lose(self, site: int) -> None:
        self.lost.append(site)


def test_the_faults_of_a_seed_are_the_same_each_time_and_others_with_another_one():
    first, again, other = (list(islice(drawn(seed, 3, 4), 50)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_kind_of_fault_comes_to_every_target_and_none_lasts_longer_than_it_may():
    faults = list(islice(drawn(1, 3, 4), 1_000))
    assert {(one.kind, one.target) for one in faults if one.kind is FaultKind.FREEZE} == {
        (FaultKind.FREEZE, number) for number in range(3)
    }
    assert {one.target for one in faults if one.kind is FaultKind.LOST} == set(range(4))
    assert Counter(one.kind for one in faults).keys() == set(FaultKind)
    freezes = [one.seconds for one in faults if one.kind is FaultKind.FREEZE]
    assert LONGEST_FREEZE * 0.9 < max(freezes) <= LONGEST_FREEZE
    assert max(one.seconds for one in faults if one.kind is FaultKind.KILL) <= LONGEST_ABSENCE


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_when_it_is_over_nobody_is_frozen_or_dead():
    town = Town(2)
    faults = [
        Fault(0, FaultKind.FREEZE, 0, 3_600),
        Fault(0, FaultKind.KILL, 1, 3_600),
        Fault(3_600, FaultKind.LOST, 0, 0),
    ]
    nemesis = Nemesis(town, iter(faults))
    running = asyncio.create_task(nemesis.run())
    await until(lambda: town.bots[0].frozen and not town.bots[1].alive)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not town.bots[0].frozen
    assert town.bots[1].alive
    assert {(one.kind, one.target) for one in nemesis.suffered} == {(FaultKind.FREEZE, 0), (FaultKind.KILL, 1)}
    assert all(one.ended >= one.began for one in nemesis.suffered)


async def test_a_replica_that_suffers_is_spared_another_fault_meanwhile():
    town = Town(1)
    faults = [Fault(0, FaultKind.FREEZE, 0, 3_600), Fault(0, FaultKind.KILL, 0, 0), Fault(0, FaultKind.DATABASE, 0, 0)]
    running = asyncio.create_task(Nemesis(town, iter([*faults, Fault(3_600, FaultKind.LOST, 0, 0)])).run())
    await until(lambda: town.restarts == 1)
    assert town.bots[0].suffered == ["freeze"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_answers_are_lost_and_databases_restarted_as_often_as_drawn():
    town = Town(1)
    kinds = [FaultKind.LOST, FaultKind.DATABASE, FaultKind.LOST]
    nemesis = Nemesis(town, (Fault(0, kind, 1, 0) for kind in kinds))
    await nemesis.run()
    assert (town.lost, town.restarts) == ([1, 1], 1)
    assert nemesis.told == "freeze 0, kill 0, database restart 1, answer lost 2"
