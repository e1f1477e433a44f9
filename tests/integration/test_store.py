"""The store on every database it can live in: transactions, uniqueness, locks, the chain under several writers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from bot.adapters.database import SqlStore
from bot.adapters.database.connection import READERS
from bot.errors import StoreBusy, StoreConflict
from bot.flow.audit import verify
from bot.model import (
    Approval,
    AuditFilter,
    Diagnosis,
    Execution,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalState,
    Silence,
    SlackUser,
    StormMember,
)
from bot.ports import Message, Messages, Store
from tests.integration.store_process import other_process
from tests.integration.store_records import (
    NOW,
    FixedClock,
    alert,
    approval,
    delivery,
    diagnosis,
    draft,
    execution,
    filled,
    incident,
    proposal,
)

pytestmark = pytest.mark.timeout(60)


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


async def test_audit_entries_carry_the_stores_time_and_read_back_equal(url: str) -> None:
    clock = FixedClock()
    async with SqlStore.open(url, clock) as store:
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


async def test_concurrent_writers_of_two_processes_never_fork_the_chain(store: SqlStore, url: str) -> None:
    async def append(number: int) -> None:
        async with store.begin() as tx:
            await tx.audit(draft(f"{number}"))

    with other_process(url, "append", "60") as process:
        for start in range(0, 60, 10):
            await asyncio.gather(*(append(n) for n in range(start, start + 10)))
        assert await asyncio.to_thread(process.wait, 30) == 0
    report = verify(await store.audit_entries())
    assert report.intact, report.reason
    assert report.rows == 120


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


async def test_a_reader_behind_readers_that_hang_gives_up(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = store._database._reader
    monkeypatch.setattr(reader.sync_engine.pool, "_timeout", 0.05)
    async with AsyncExitStack() as hanging:
        for _ in range(READERS):
            await hanging.enter_async_context(reader.connect())
        with pytest.raises(StoreBusy, match="had no connection free") as raised:
            await store.count_unprocessed()
        assert raised.value.retry_helps
    assert await store.count_unprocessed() == 0


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


async def test_everything_survives_a_reopening(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await filled(store)
        async with store.begin() as tx:
            await tx.audit(draft())
    async with SqlStore.open(url, FixedClock()) as store:
        async with store.begin() as tx:
            assert (await tx.audit(draft())).seq == 2
        assert verify(await store.audit_entries()).intact
        assert await store.get(Incident, "inc_1") == incident()


async def test_a_hundred_writers_at_once_all_get_their_turn(store: SqlStore) -> None:
    async def append(number: int) -> None:
        async with store.begin() as tx:
            await tx.audit(draft(f"{number}"))

    await asyncio.gather(*(append(n) for n in range(100)))
    report = verify(await store.audit_entries())
    assert (report.intact, report.rows) == (True, 100)


async def test_a_text_with_a_null_character_is_kept_and_found_on_every_database(store: SqlStore) -> None:
    odd = incident(fingerprint="f\0 1")
    async with store.begin() as tx:
        await tx.put(odd)
        entry = await tx.audit(draft("a \0 of others", word="b\0"))
    async with store.begin() as tx:
        assert await tx.open_incident("am", "f\0 1") == odd
    assert await store.audit_entries() == [entry]
    assert verify([entry]).intact
    assert entry.sentence == "a \ufffd of others"


async def test_audit_rows_are_sought_by_time_to_the_microsecond_and_by_words_in_any_case(url: str) -> None:
    clock = FixedClock()
    clock.time = NOW.replace(microsecond=0)
    async with SqlStore.open(url, clock) as store:
        for sentence in ("Whole second", "Half a second later"):
            async with store.begin() as tx:
                await tx.audit(draft(sentence))
            clock.time += timedelta(seconds=0.5)
        start = NOW.replace(microsecond=0)
        for wanted, found in (
            (AuditFilter(until=start + timedelta(microseconds=1)), [1]),
            (AuditFilter(since=start + timedelta(microseconds=1)), [2]),
            (AuditFilter(since=start), [1, 2]),
            (AuditFilter(words=("SECOND", "later")), [2]),
        ):
            assert [line.seq for line in await store.audit_lines(wanted=wanted)] == found, wanted


async def test_only_incidents_in_which_a_silence_holds_are_silenced(store: SqlStore) -> None:
    user = SlackUser(team_id="T1", user_id="U1")
    silence = Silence(user=user, person="ana", reason="known", at=NOW, until=NOW + timedelta(hours=1))
    quiet = incident("2", fingerprint="f2").model_copy(update={"silence": silence})
    async with store.begin() as tx:
        await tx.put(incident())
        await tx.put(quiet)
    assert await store.silenced() == [quiet]


async def test_a_storms_lines_put_page_worthy_ones_first(store: SqlStore) -> None:
    async with store.begin() as tx:
        for number, (title, page) in enumerate((("A", False), ("B", False), ("B", True))):
            await tx.put(incident(str(number), fingerprint=f"f{number}"))
            member = StormMember(
                id=IncidentId(f"inc_{number}"),
                storm=IncidentId("inc_0"),
                cluster="prod",
                title=title,
                words="",
                page=page,
                own_thread=False,
                at=NOW,
            )
            await tx.put(member)
    found = await store.storm_lines(IncidentId("inc_0"))
    assert [(line.title, line.firing, line.page) for line in found] == [("B", 2, True), ("A", 1, False)]
    assert [member.id for member in await store.rolled_up(IncidentId("inc_0"), 5)] == ["inc_2", "inc_0", "inc_1"]


async def test_what_is_there_is_counted(store: SqlStore) -> None:
    await filled(store)
    async with store.begin() as tx:
        await tx.put(incident().model_copy(update={"title": "a \0 of others", "last_diagnosis": diagnosis().id}))
        await tx.audit(draft())
    tally = await store.tally()
    assert tally.proposals == {("pending", "destructive"): 1}
    assert tally.incidents == {("open", "unknown"): 1}
    assert (tally.deliveries.count, tally.threads.count, tally.audit_rows) == (1, 1, 1)


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
