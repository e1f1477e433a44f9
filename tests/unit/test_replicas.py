"""Who lives, who leads, and when a replica must hold still; the list is in memory here, as the database keeps it (tests/integration/test_replicas.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from bot.adapters.fenced import fenced
from bot.bootstrap.replicas import ALONE, BEAT_SECONDS, DEAD_SECONDS, GAP_SECONDS, LEASE_SECONDS, Replica
from bot.errors import LeaseOver, ReplicaExpelled, StoreBusy
from bot.ports import Beat


@dataclass
class Monotonic:
    """A clock that only goes forward, of one machine: all replicas of a test share it."""

    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Listed:
    """A roster in memory."""

    beats: dict[str, int] = field(default_factory=dict)
    leader: str | None = None
    away: bool = False

    async def beat(self, replica: str, expelled: Mapping[str, int]) -> Beat:
        if self.away:
            raise StoreBusy("The database is away.")
        if replica not in self.beats:
            raise ReplicaExpelled("off the list")
        self.beats[replica] += 1
        for other, count in expelled.items():
            if self.beats.get(other) == count:
                del self.beats[other]
        if self.leader not in self.beats:
            self.leader = replica
        return Beat(self.leader == replica, {name: count for name, count in self.beats.items() if name != replica})

    def join(self, name: str, seconds: Monotonic) -> Replica:
        self.beats[name] = 0
        return Replica(name, self, seconds=seconds)


async def live(seconds: Monotonic, until: float, *replicas: Replica) -> None:
    """Let time pass, in which these replicas beat and no other."""
    while seconds.seconds < until:
        seconds.seconds += BEAT_SECONDS
        for replica in replicas:
            await replica.beat()


@pytest.fixture
def seconds() -> Monotonic:
    return Monotonic()


@pytest.fixture
def roster() -> Listed:
    return Listed()


async def test_exactly_one_of_three_leads_and_the_next_one_after_its_death(roster: Listed, seconds: Monotonic) -> None:
    a, b, c = (roster.join(name, seconds) for name in "abc")
    await live(seconds, 110, a, b, c)
    assert [replica.leading.is_set() for replica in (a, b, c)] == [True, False, False]
    await live(seconds, 110 + DEAD_SECONDS + 2 * BEAT_SECONDS, b, c)
    assert [replica.leading.is_set() for replica in (b, c)] == [True, False]
    with pytest.raises(ReplicaExpelled):
        await a.beat()


async def test_a_silent_replica_stays_on_the_list_until_its_time_is_over(roster: Listed, seconds: Monotonic) -> None:
    a, b = roster.join("a", seconds), roster.join("b", seconds)
    await live(seconds, 106, a, b)
    silent_since = seconds.seconds
    await live(seconds, silent_since + DEAD_SECONDS - BEAT_SECONDS, b)
    assert "a" in roster.beats
    await live(seconds, silent_since + DEAD_SECONDS, b)
    assert "a" not in roster.beats


async def test_a_replica_may_send_nothing_any_more_before_others_can_have_taken_its_work(
    roster: Listed, seconds: Monotonic
) -> None:
    stopped, other = roster.join("a", seconds), roster.join("b", seconds)
    await live(seconds, 110, stopped, other)
    could = stopped.may_send
    while "a" in roster.beats:
        could = stopped.may_send
        seconds.seconds += 0.25
        await other.beat()
    assert not could, "it was off the list a quarter of a second after that"
    assert stopped.silence < DEAD_SECONDS + 1


async def test_the_lease_ends_on_the_second(roster: Listed, seconds: Monotonic) -> None:
    replica = roster.join("a", seconds)
    await replica.beat()
    seconds.seconds += LEASE_SECONDS - 0.001
    assert replica.may_send
    assert replica.problems == ()
    seconds.seconds += 0.001
    assert not replica.may_send
    assert "has not reached the database for 9 s" in replica.problems[0]


async def test_nobody_is_dead_because_the_database_was_away(roster: Listed, seconds: Monotonic) -> None:
    a, b = roster.join("a", seconds), roster.join("b", seconds)
    await live(seconds, 110, a, b)
    roster.away = True
    seconds.seconds += DEAD_SECONDS * 3
    with pytest.raises(StoreBusy):
        await b.beat()
    assert [a.answers_for("b"), b.answers_for("a")] == [False, False], "nor is anybody's work for somebody else"
    roster.away = False
    await b.beat()
    await a.beat()
    assert set(roster.beats) == {"a", "b"}


async def test_what_was_seen_before_a_gap_of_ones_own_counts_up_to_the_limit(
    roster: Listed, seconds: Monotonic
) -> None:
    a, b = roster.join("a", seconds), roster.join("b", seconds)
    await live(seconds, 102, a, b)
    for _ in range(3):  # 12 s of silence, in gaps that are just small enough
        seconds.seconds += GAP_SECONDS
        await b.beat()
    assert "a" not in roster.beats


async def test_a_leader_answers_for_itself_and_the_dead_and_others_for_themselves(
    roster: Listed, seconds: Monotonic
) -> None:
    a, b = roster.join("a", seconds), roster.join("b", seconds)
    await live(seconds, 104, a, b)
    assert [a.answers_for(owner) for owner in ("a", "b", "gone")] == [True, False, True]
    assert [b.answers_for(owner) for owner in ("a", "b", "gone")] == [False, True, False]


async def test_the_only_one_leads_from_the_start_and_always_may_send(seconds: Monotonic) -> None:
    alone = Replica(ALONE, None, seconds=seconds)
    seconds.seconds += 1e6
    await alone.beat()
    assert alone.leading.is_set()
    assert alone.may_send
    assert alone.only_one
    assert alone.answers_for("anybody")


class Port:
    """Two methods of what a cluster is changed through."""

    name = "prod"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def update(self, what: str) -> str:
        self.calls.append(what)
        return what.upper()


async def test_no_call_passes_a_fence_that_is_down() -> None:
    may = True
    port = Port()
    guarded = fenced(port, lambda: may)
    assert await guarded.update("a") == "A"
    may = False
    with pytest.raises(LeaseOver, match="Nothing was sent"):
        await guarded.update("b")
    assert port.calls == ["a"]
    assert guarded.name == "prod", "what is no call passes"
