"""The store on a real SQLite file: transactions, uniqueness, locks, refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import SettingsError, StoreBusy, StoreConflict, StoreError
from bot.flow.audit import verify
from bot.model import (
    Approval,
    Diagnosis,
    Execution,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalState,
)
from bot.ports import Message, Messages, Store
from tests.integration.store_records import (
    NOW,
    FixedClock,
    alert,
    approval,
    delivery,
    diagnosis,
    draft,
    execution,
    incident,
    proposal,
)

pytestmark = pytest.mark.timeout(60)
SCRIPT = Path(__file__).with_name("store_process.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "natsmedic.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqlStore]:
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as opened:
        yield opened


def other_process(path: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


async def filled(store: Store) -> None:
    async with store.begin() as tx:
        for record in (delivery(), incident(), alert(incident_id="inc_1"), diagnosis(), proposal()):
            await tx.put(record)


async def test_every_kind_of_record_reads_back_equal(store: SqlStore) -> None:
    await filled(store)
    async with store.begin() as tx:
        await tx.put(approval())
        await tx.put(execution())
        assert await tx.get(Approval, "apr_1") == approval()
    assert await store.get(Incident, "inc_1") == incident()
    assert await store.get(Proposal, "prop_1") == proposal()
    assert (await store.get(Proposal, "prop_1") or proposal("x")).digest == proposal().digest
    assert await store.get(Diagnosis, "dia_1") == diagnosis()
    assert await store.alerts(IncidentId("inc_1")) == [alert(incident_id="inc_1")]
    assert await store.approvals("prop_1") == [approval()]
    assert await store.execution_of("prop_1") == execution()
    assert await store.proposal_by_button("btn_1") == proposal()
    assert await store.get(Execution, "nobody") is None


async def test_lists_hold_what_their_names_say(store: Store) -> None:
    await filled(store)
    async with store.begin() as tx:
        await tx.put(delivery("2", processed=True))
        await tx.put(incident("2", fingerprint="f2", state=IncidentState.CLOSED))
        await tx.put(proposal("2", state=ProposalState.DENIED))
        await tx.put(execution(state=ExecutionState.UNKNOWN))
    assert [d.id for d in await store.unprocessed_deliveries()] == ["dlv_1"]
    assert await store.count_unprocessed() == 1
    assert [i.id for i in await store.incidents(open_only=True)] == ["inc_1"]
    assert len(await store.incidents()) == 2
    assert [p.id for p in await store.proposals(active_only=True)] == ["prop_1"]
    assert [p.id for p in await store.proposals(IncidentId("inc_1"))] == ["prop_1", "prop_2"]
    assert [e.id for e in await store.unfinished_executions()] == ["exec_1"]
    async with store.begin() as tx:
        await tx.put(execution(state=ExecutionState.DONE))
    assert await store.unfinished_executions() == []


async def test_an_exception_rolls_back_state_and_audit_together(store: SqlStore) -> None:
    async def broken() -> None:
        async with store.begin() as tx:
            await tx.put(incident())
            await tx.audit(draft())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert await store.incidents() == []
    assert await store.audit_entries() == []
    async with store.begin() as tx:
        assert (await tx.audit(draft())).seq == 1, "a rolled back entry leaves no gap"


async def test_a_cancelled_transaction_leaves_nothing_and_the_next_one_works(store: SqlStore) -> None:
    inside = asyncio.Event()

    async def stuck() -> None:
        async with store.begin() as tx:
            await tx.put(incident())
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stuck())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.begin() as tx:
        assert await tx.get(Incident, "inc_1") is None
        await tx.put(incident())
    assert await store.get(Incident, "inc_1") == incident()


def test_kill_9_inside_a_transaction_leaves_nothing_of_it(path: Path) -> None:
    with other_process(path, "half") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "half"
        process.send_signal(signal.SIGKILL)

    async def look() -> tuple[int, int]:
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
            async with store.begin() as tx:
                await tx.put(incident())
            return len(await store.incidents()), len(await store.audit_entries())

    assert asyncio.run(look()) == (1, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET sentence = 'other' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
        "INSERT INTO audit SELECT 9, at, kind, actor, incident_id, subject, sentence, data, 'p', 'h' FROM audit WHERE seq = 1",
    ],
)
async def test_the_database_itself_refuses_to_change_audit_entries(store: SqlStore, path: Path, statement: str) -> None:
    async with store.begin() as tx:
        entries = [await tx.audit(draft()), await tx.audit(draft())]
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="audit entries are append"):
        raw.execute(statement)
    assert await store.audit_entries() == entries


async def test_audit_entries_carry_the_stores_time_and_read_back_equal(path: Path) -> None:
    clock = FixedClock()
    async with SqlStore.open(f"sqlite:///{path}", clock) as store:
        async with store.begin() as tx:
            await tx.audit(draft(text="\ud800 lone", number=2**70, ratio=0.1, nested={"b": [1, None], "a": "ü"}))
        await clock.sleep(5)
        async with store.begin() as tx:
            second = await tx.audit(draft("second"))
        assert second.at == NOW + timedelta(seconds=5)
        entries = await store.audit_entries()
        assert entries[0].data == {
            "text": "? lone",
            "number": 2**70,
            "ratio": 0.1,
            "nested": {"b": [1, None], "a": "ü"},
        }
        assert entries[1] == second
        assert verify(entries).intact
        assert await store.audit_entries(after=1) == [second]
        assert await store.audit_entries(incident="inc_2") == []


async def test_concurrent_writers_of_two_processes_never_fork_the_chain(store: SqlStore, path: Path) -> None:
    async def append(number: int) -> None:
        async with store.begin() as tx:
            await tx.audit(draft(f"{number}"))

    with other_process(path, "append", "60") as process:
        for start in range(0, 60, 10):
            await asyncio.gather(*(append(n) for n in range(start, start + 10)))
        assert await asyncio.to_thread(process.wait, 30) == 0
    report = verify(await store.audit_entries())
    assert report.intact, report.reason
    assert report.rows == 120


async def test_a_writer_gives_up_after_two_seconds_of_a_foreign_lock(store: SqlStore, path: Path) -> None:
    await filled(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreBusy, match="nothing was written"):
            async with store.begin() as tx:
                await tx.put(proposal("2"))
        assert 1.8 < time.monotonic() - began < 4.0
        assert await store.get(Incident, "inc_1") == incident(), "readers do not wait for writers"
        raw.execute("ROLLBACK")
    async with store.begin() as tx:
        await tx.put(proposal("2"))


async def test_a_writer_behind_a_hanging_one_of_its_own_process_gives_up(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.database.connection.QUEUE_SECONDS", 0.2)
    async with store.begin() as tx:
        await tx.put(incident())
        with pytest.raises(StoreBusy):
            async with store.begin():
                pass
    assert await store.get(Incident, "inc_1") == incident()


async def test_writers_take_turns_in_order_and_one_goes_ahead_of_all_that_wait(store: SqlStore) -> None:
    order: list[str] = []

    async def write(name: str, *, ahead: bool = False) -> None:
        async with store.begin(ahead=ahead):
            order.append(name)

    async with asyncio.TaskGroup() as writing, store.begin():
        for name in ("first", "second"):
            writing.create_task(write(name))
        await asyncio.sleep(0)
        writing.create_task(write("ahead", ahead=True))
        await asyncio.sleep(0)
    assert order == ["ahead", "first", "second"]


async def test_a_second_server_is_refused_and_a_reader_is_not(path: Path) -> None:
    with other_process(path, "serve") as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "serving\n"
        async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as second:
            with pytest.raises(StoreError, match=rf"Another natsmedic \(process {process.pid}\) already serves"):
                second.acquire_process_lock()
        async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as reader:
            assert await reader.incidents() == []
            with pytest.raises(StoreError, match="reading only"):
                async with reader.begin():
                    pass
        process.send_signal(signal.SIGKILL)
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as third:
        third.acquire_process_lock()


async def test_thirty_deliveries_of_one_alert_at_once_open_one_incident(store: SqlStore) -> None:
    async def fold(number: int) -> None:
        async with store.begin() as tx:
            if await tx.open_incident("am", "f1") is None:
                await tx.put(incident(str(number)))

    await asyncio.gather(*(fold(n) for n in range(30)))
    assert len(await store.incidents()) == 1


async def test_the_database_refuses_what_must_be_unique(store: SqlStore) -> None:
    await filled(store)
    async with store.begin() as tx:
        await tx.put(approval())
        await tx.put(execution())
    for clash in (incident("2"), approval("2"), execution("2"), proposal("2", button="btn_1")):
        with pytest.raises(StoreConflict):
            async with store.begin() as tx:
                await tx.put(clash)
    async with store.begin() as tx:
        await tx.put(approval("3", person="bo"))
        await tx.put(incident(state=IncidentState.CLOSED))
        await tx.put(incident("2"))


async def test_a_record_that_refers_to_nothing_is_refused_at_commit(store: SqlStore) -> None:
    with pytest.raises(StoreConflict):
        async with store.begin() as tx:
            await tx.put(proposal())
    assert await store.proposals() == []
    async with store.begin() as tx:
        await tx.put(proposal())
        await tx.put(incident())


async def test_an_episode_is_found_by_its_opener_and_by_every_alert_folded_in(store: SqlStore) -> None:
    later = NOW + timedelta(hours=1)
    async with store.begin() as tx:
        await tx.put(delivery())
        await tx.put(incident())
        await tx.put(alert("2", incident_id="inc_1", starts_at=later))
    async with store.begin() as tx:
        for moment in (NOW, later):
            found = await tx.incident_of_episode("am", "f1", moment)
            assert found is not None
            assert found.id == "inc_1"
        assert await tx.incident_of_episode("am", "f1", later + timedelta(hours=1)) is None
        assert await tx.incident_of_episode("other", "f1", NOW) is None


async def test_the_target_lock_has_one_holder_and_its_fence_only_grows(store: SqlStore) -> None:
    async with store.begin() as tx:
        assert await tx.take_lock("prod", "exec_1") == 1
        assert await tx.take_lock("prod", "exec_1") == 1, "the holder finds its own lock"
        assert await tx.take_lock("prod", "exec_2") is None
        assert await tx.take_lock("stage", "exec_2") == 1
        await tx.release_lock("prod", "exec_2")
    assert await store.fence("prod") == ("exec_1", 1)
    async with store.begin() as tx:
        await tx.release_lock("prod", "exec_1")
        assert await tx.take_lock("prod", "exec_2") == 2
    assert await store.fence("prod") == ("exec_2", 2)
    assert await store.fence("nowhere") == (None, 0)


async def test_messages_are_kept_by_key_and_drawing_catches_up(store: SqlStore) -> None:
    await filled(store)
    messages: Messages = store
    board = Message(key="board:inc_1", incident_id=IncidentId("inc_1"), channel="C1")
    await messages.save(board)
    posted = board.model_copy(update={"ts": "1.2", "digest": "d"})
    await store.save(posted)
    assert await messages.of(IncidentId("inc_1")) == [posted]
    assert await store.at("C1", "1.2") == posted
    assert await store.at("C2", "1.2") is None
    assert await store.behind() == [("inc_1", 1)]
    await store.caught_up(IncidentId("inc_1"), 1)
    assert await store.behind() == []
    async with store.begin() as tx:
        await tx.touch(IncidentId("inc_1"))
    assert await store.behind() == [("inc_1", 2)]
    await store.caught_up(IncidentId("inc_1"), 2)
    await store.caught_up(IncidentId("inc_1"), 1)
    assert await store.behind() == [], "an older drawing does not take back a newer one"


async def test_everything_survives_a_reopening(path: Path) -> None:
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        await filled(store)
        async with store.begin() as tx:
            await tx.audit(draft())
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        async with store.begin() as tx:
            assert (await tx.audit(draft())).seq == 2
        assert verify(await store.audit_entries()).intact
        assert await store.get(Incident, "inc_1") == incident()


async def test_a_newer_schema_is_refused(path: Path) -> None:
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()):
        pass
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE schema_version SET version = 99")
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"schema version 99 .* use the newer natsmedic"):
            async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=read_only):
                pass


async def test_bad_places_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and it is long enough to be looked at " * 20)
    cases: list[tuple[str, bool, type[StoreError | SettingsError], str]] = [
        ("postgresql://u:secret@h/d", False, SettingsError, "not supported"),
        ("sqlite://", False, SettingsError, "in memory"),
        ("not a url", False, SettingsError, "not a database URL"),
        (f"sqlite:///{tmp_path}/none/db", False, StoreError, "does not exist"),
        (f"sqlite:///{tmp_path}/none", True, StoreError, "no database at"),
        (f"sqlite:///{tmp_path}/text", False, StoreError, "not a database"),
    ]
    for url, read_only, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            async with SqlStore.open(url, FixedClock(), read_only=read_only):
                pass
        assert "secret" not in str(caught.value)


async def test_a_hundred_writers_at_once_all_get_their_turn(store: SqlStore) -> None:
    async def append(number: int) -> None:
        async with store.begin() as tx:
            await tx.audit(draft(f"{number}"))

    await asyncio.gather(*(append(n) for n in range(100)))
    report = verify(await store.audit_entries())
    assert (report.intact, report.rows) == (True, 100)


async def test_the_settings_that_durability_rests_on_are_in_force(store: SqlStore, path: Path) -> None:
    from sqlalchemy import text

    async with store._database.write() as session:
        for name, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert await session.scalar(text(f"PRAGMA {name}")) == wanted
    async with store._database.read() as session:
        assert await session.scalar(text("PRAGMA query_only")) == 1
