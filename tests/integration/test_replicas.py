"""The list of replicas in PostgreSQL, the fence it is, and engines that go on with each other's work."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.bootstrap.replicas import Replica
from bot.errors import ReplicaExpelled
from bot.model import AuditEntry
from tests.integration.replica_process import PATIENCE, Beginner, beginner
from tests.integration.store_records import FixedClock, draft

pytestmark = pytest.mark.timeout(180)


async def append(store: SqlStore) -> AuditEntry:
    async with store.begin() as tx:
        return await tx.audit(draft("it writes"))


async def test_who_is_struck_off_writes_nothing_any_more_and_it_is_on_record(postgres_url: str) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as first, SqlStore.open(postgres_url, FixedClock()) as second:
        await first.join("a")
        await second.join("b")
        assert (await first.beat("a", {})).leads
        assert not (await second.beat("b", {})).leads
        await append(first)
        struck = await second.beat("b", {"a": 1})
        assert struck.leads
        assert struck.others == {}
        for attempt in (append(first), first.beat("a", {}), first.leave("a")):
            with pytest.raises(ReplicaExpelled, match="Replica a was silent for so long"):
                await attempt
        await append(second)
        entries = await second.audit_entries()
        assert [entry.kind for entry in entries if entry.kind.startswith("replica.")] == ["replica.lost"]
        assert await second.replicas() == {"b"}


async def test_a_beat_that_came_in_between_keeps_a_replica_on_the_list(postgres_url: str) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as first, SqlStore.open(postgres_url, FixedClock()) as second:
        await first.join("a")
        await second.join("b")
        await first.beat("a", {})
        await first.beat("a", {})
        assert (await second.beat("b", {"a": 1})).others == {"a": 2}
        await append(first)


async def test_a_command_beside_the_replicas_writes_without_being_one(postgres_url: str) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as replica, SqlStore.open(postgres_url, FixedClock()) as other:
        await replica.join("a")
        await append(other)


async def test_whoever_leaves_makes_room_for_the_next_leader_at_once(postgres_url: str) -> None:
    async with SqlStore.open(postgres_url, FixedClock()) as first, SqlStore.open(postgres_url, FixedClock()) as second:
        a, b = Replica("a", first), Replica("b", second)
        await first.join("a")
        await second.join("b")
        await a.beat()
        await b.beat()
        await first.leave("a")
        await b.beat()
        assert b.leading.is_set()


async def test_what_a_killed_engine_had_begun_goes_on_elsewhere_at_the_step_it_was_at(
    postgres_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "steps"
    async with beginner(postgres_url, "a", log) as a, beginner(postgres_url, "b", log) as b:
        await a.ask("start inc_1")
        await a.heard("a in 2 of inc_1")
        a.process.send_signal(signal.SIGKILL)
        await b.ask("adopt a")
        await b.heard("b in 2 of inc_1")
        await b.ask("go on")
        await b.heard("b ended inc_1")
    assert log.read_text().split() == ["a:1", "a:2", "b:2", "b:3"]


async def test_work_that_goes_on_elsewhere_is_not_taken_a_second_time(postgres_url: str, tmp_path: Path) -> None:
    """Two that both believe it their task to take over the work of one that is gone; and that one was only stopped."""
    log = tmp_path / "steps"
    async with (
        beginner(postgres_url, "a", log) as a,
        beginner(postgres_url, "b", log) as b,
        beginner(postgres_url, "c", log) as c,
    ):
        await a.ask("start inc_1")
        await a.heard("a in 2 of inc_1")
        a.process.send_signal(signal.SIGSTOP)
        await b.ask("adopt a")
        await _either(b, c, "in 2 of inc_1")
        await c.ask("adopt a")
        await c.heard("c adopted 0")
        for one in (b, c):
            await one.ask("go on")
        await _either(b, c, "ended inc_1")
        a.process.send_signal(signal.SIGCONT)
        await a.ask("go on")
        await a.heard("a was fenced in inc_1")
    steps = log.read_text().split()
    assert sorted(step[2:] for step in steps) == ["1", "2", "2", "3"], "the stopped one made no further step"


async def test_an_older_process_never_takes_what_only_a_newer_one_can_run(postgres_url: str, tmp_path: Path) -> None:
    log = tmp_path / "steps"
    async with (
        beginner(postgres_url, "old", log, version=1) as old,
        beginner(postgres_url, "new", log, version=2) as new,
        beginner(postgres_url, "newer", log, version=2) as newer,
    ):
        await new.ask("start inc_2")
        await new.heard("new in 2 of inc_2")
        new.process.send_signal(signal.SIGKILL)
        await old.ask("start inc_1")
        await old.heard("old in 2 of inc_1")
        await old.ask("adopt new")
        await newer.heard("newer in 2 of inc_2")
        old.process.send_signal(signal.SIGKILL)
        await newer.ask("adopt old")
        await newer.heard("newer in 2 of inc_1")
        await newer.ask("go on")
        await newer.heard("newer ended inc_1", "newer ended inc_2")


async def _either(one: Beginner, other: Beginner, words: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any(words in line for line in (*one.lines, *other.lines)):
            await asyncio.sleep(0.05)


def test_no_code_of_ours_cancels_a_workflow() -> None:
    """Guard 3 of reference/dependencies.md 1.4: a cancelled run frees its place while its step still sends. A repair ends by its own steps."""
    root = Path(__file__).parents[2]
    found = [path for path in (root / "bot").rglob("*.py") if ".cancel_workflow" in path.read_text(encoding="utf-8")]
    assert found == []
