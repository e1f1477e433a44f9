"""What the bot asks the database for again and again costs no more, and finds no less, as incidents pile up."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bot.adapters.database import SqlStore, behind
from bot.adapters.database.behind import MARGIN, WHOLE
from bot.flow.asking import COMMAND
from bot.flow.sweep import Sweeper
from bot.model import STORM, DiagnosisId, Incident, IncidentId, IncidentState, StormMember
from bot.ports import Phase, Waiting
from bot.settings import PolicySettings, ThreadSettings
from tests.integration.execution_house import Quiet
from tests.integration.store_records import NOW, FixedClock, incident

MANY = 150
"""Open incidents: more than one page of a list holds."""


def numbered(number: int, **changes: object) -> Incident:
    """An incident of an alert of its own; the higher its number the newer it is."""
    at = NOW + timedelta(seconds=number)
    made = incident(f"{number:04d}", fingerprint=f"f{number}", starts_at=at)
    return made.model_copy(update={"opened_at": at, "updated_at": at, **changes})


@asynccontextmanager
async def opened(url: str, *incidents: Incident) -> AsyncGenerator[tuple[SqlStore, FixedClock]]:
    clock = FixedClock()
    async with SqlStore.open(url, clock) as store:
        await put(store, *incidents)
        yield store, clock


async def put(store: SqlStore, *incidents: Incident) -> None:
    async with store.begin() as tx:
        await tx.put_all(incidents)


async def found(store: SqlStore) -> list[str]:
    return [incident for incident, _ in await store.behind()]


def changed(at: datetime, name: str = "late") -> Incident:
    return incident(name, fingerprint=name).model_copy(update={"updated_at": at})


async def test_what_changed_after_a_look_is_in_the_next(url: str) -> None:
    async with opened(url) as (store, clock):
        assert await found(store) == []
        clock.time += timedelta(seconds=1)
        await put(store, changed(clock.time))
        assert await found(store) == ["inc_late"]
        await store.caught_up(IncidentId("inc_late"), 1)
        assert await found(store) == []


async def test_what_is_behind_stays_so_however_long_ago_it_changed(url: str) -> None:
    async with opened(url, changed(NOW - timedelta(days=30))) as (store, clock):
        for _ in range(3):
            assert await found(store) == ["inc_late"]
            clock.time += timedelta(seconds=1)


@pytest.mark.parametrize(("early", "seen"), [(-1, False), (0, True), (1, True)], ids=["before", "at", "after"])
async def test_a_change_may_bear_a_time_as_long_before_a_look_as_the_margin(url: str, early: int, seen: bool) -> None:
    async with opened(url) as (store, clock):
        assert await found(store) == []
        await put(store, changed(NOW - MARGIN + timedelta(microseconds=early)))
        clock.time += timedelta(seconds=1)
        assert await found(store) == (["inc_late"] if seen else [])


async def test_what_a_wrong_clock_hid_is_found_when_everything_is_looked_at_again(url: str) -> None:
    async with opened(url) as (store, clock):
        assert await found(store) == []
        await put(store, changed(NOW - timedelta(days=1)))
        clock.time += WHOLE - timedelta(microseconds=1)
        assert await found(store) == []
        clock.time += timedelta(microseconds=1)
        assert await found(store) == ["inc_late"]


async def test_a_clock_that_is_set_back_hides_nothing(url: str) -> None:
    async with opened(url) as (store, clock):
        assert await found(store) == []
        clock.time += WHOLE / 2
        assert await found(store) == []
        clock.time -= WHOLE / 2 + timedelta(days=1)
        await put(store, changed(clock.time))
        assert await found(store) == ["inc_late"]


async def test_a_crowd_that_is_behind_is_looked_for_among_everything(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "MOST_NAMED", 2)
    async with opened(url, *(changed(NOW - timedelta(days=n), f"{n}") for n in range(3))) as (store, clock):
        for _ in range(2):
            assert sorted(await found(store)) == ["inc_0", "inc_1", "inc_2"]
            clock.time += timedelta(seconds=1)


async def test_threads_behind_are_counted_as_they_are_listed(url: str) -> None:
    async with opened(url, changed(NOW - timedelta(hours=2)), numbered(1)) as (store, _):
        assert (await store.tally()).threads == Waiting(2, NOW - timedelta(hours=2))
        await store.caught_up(IncidentId("inc_late"), 1)
        assert (await store.tally()).threads == Waiting(1, NOW + timedelta(seconds=1))
        await store.caught_up(IncidentId("inc_0001"), 1)
        assert (await store.tally()).threads == Waiting(0, None)


# --- many open incidents ----------------------------------------------------------------------------------------------------------


def sweeper(store: SqlStore, clock: FixedClock, quiet: Quiet) -> Sweeper:
    return Sweeper(store=store, engine=quiet, clock=clock, chat=quiet, threads=ThreadSettings(), rules=PolicySettings())


async def test_a_sweep_starts_every_missing_diagnosis_however_many_incidents_are_newer(url: str) -> None:
    diagnosed = DiagnosisId("dia_1")
    newer = (numbered(n, last_diagnosis=diagnosed) for n in range(2, MANY))
    async with opened(url, numbered(0), numbered(1), *newer) as (store, clock):
        quiet = Quiet()
        await sweeper(store, clock, quiet).sweep()
        assert quiet.started == [(Phase.DIAGNOSIS, "inc_0000/alert"), (Phase.DIAGNOSIS, "inc_0001/alert")]


async def test_nothing_is_diagnosed_that_is_closed_or_of_no_known_cluster_or_only_part_of_a_storm(url: str) -> None:
    rolled_up = StormMember(
        id=IncidentId("inc_0003"),
        storm=IncidentId("inc_0002"),
        cluster="prod",
        title="t",
        words="",
        page=False,
        own_thread=False,
        at=NOW,
    )
    cases = (
        numbered(0, state=IncidentState.CLOSED),
        numbered(1, cluster=None),
        numbered(2, source=STORM, cluster=None),
        numbered(3, storm=IncidentId("inc_0002")),
        numbered(4, state=IncidentState.CLEARED),
    )
    async with opened(url, *cases) as (store, _):
        async with store.begin() as tx:
            await tx.put(rolled_up)
        assert await store.undiagnosed() == ["inc_0004"]
        assert await store.count_open() == 3, "a part of a storm has no thread, and a closed one is not open"


async def test_a_storm_ends_however_many_incidents_are_newer(url: str) -> None:
    storm = numbered(0, source=STORM, cluster=None)
    newer = (numbered(n, last_diagnosis=DiagnosisId("dia_1")) for n in range(1, MANY))
    async with opened(url, storm, *newer) as (store, clock):
        clock.time += timedelta(days=1)
        await sweeper(store, clock, Quiet()).sweep()
        ended = await store.get(Incident, storm.id)
        assert ended is not None
        assert ended.state is IncidentState.CLOSED


async def test_incidents_of_one_sender_are_found_among_any_number_of_others(url: str) -> None:
    mine = numbered(0, source=COMMAND)
    async with opened(url, mine, *(numbered(n) for n in range(1, MANY))) as (store, _):
        assert await store.incidents(source=COMMAND) == [mine]
        assert await store.incidents(source=COMMAND, fingerprint="f0", limit=1) == [mine]
        assert await store.incidents(source=COMMAND, fingerprint="f1") == []
        assert await store.count_open() == MANY


# --- what is not looked at --------------------------------------------------------------------------------------------------------

Asks = Callable[[SqlStore], Any]
AGAIN_AND_AGAIN: dict[str, Asks] = {
    "behind": lambda store: store.behind(),
    "waiting": lambda store: store.waiting(100),
    "count_unprocessed": lambda store: store.count_unprocessed(),
    "storms": lambda store: store.incidents(open_only=True, source=STORM),
    "open": lambda store: store.incidents(open_only=True, threads_only=True),
    "newest": lambda store: store.incidents(),
    "count_open": lambda store: store.count_open(),
    "undiagnosed": lambda store: store.undiagnosed(),
    "silenced": lambda store: store.silenced(),
    "unfinished": lambda store: store.unfinished_executions(),
    "proposals": lambda store: store.proposals(active_only=True),
    "tally": lambda store: store.tally(),
    "dossier": lambda store: store.dossier(IncidentId("inc_1")),
    "runs_since": lambda store: store.runs_since("prod", NOW - timedelta(days=2)),
}
SHORT = {
    "deliveries_queue": "what waits",
    "incidents_silenced": "what is silenced",
    "audit_gaps": "rows that hardly ever are",
    "ix_incidents_opened_at": "read from its end, up to a limit",
    "target_locks": "a row for each cluster",
}
"""What may be walked through, with what is in it."""


@contextmanager
def statements(store: SqlStore) -> Generator[list[tuple[str, Any]]]:
    """Within the block, keep what the store's readers ask."""
    asked: list[tuple[str, Any]] = []

    def keep(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    engine = store._database._reader.sync_engine  # pyright: ignore[reportPrivateUsage]
    event.listen(engine, "before_cursor_execute", keep)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", keep)


@pytest.mark.parametrize(("name", "ask"), AGAIN_AND_AGAIN.items(), ids=AGAIN_AND_AGAIN)
async def test_no_question_that_is_asked_again_and_again_walks_through_a_table(
    tmp_path: Path, name: str, ask: Asks
) -> None:
    async with opened(f"sqlite:///{tmp_path / 'n.db'}") as (store, clock):
        await store.behind()  # the first look of a process goes through everything
        clock.time += timedelta(seconds=1)
        with statements(store) as asked:
            await ask(store)
    assert asked
    with closing(sqlite3.connect(tmp_path / "n.db")) as raw:
        steps = [str(row[3]) for one, values in asked for row in raw.execute(f"EXPLAIN QUERY PLAN {one}", values)]
    walked = {step.split()[-1] for step in steps if step.startswith("SCAN ")}
    allowed = SHORT.keys() if name == "newest" else SHORT.keys() - {"ix_incidents_opened_at"}
    assert walked - allowed == set(), steps
