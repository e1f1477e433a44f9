"""What is too old goes and nothing else: in made-up worlds against an oracle, and batch by batch beside a bot that works."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta

import pytest
from hypothesis import given, settings
from sqlalchemy import text

from bot.adapters.archive import content_digest, read_archive
from bot.adapters.database import SqlStore
from bot.adapters.documents import as_markdown
from bot.errors import StoreBusy
from bot.flow import retention
from bot.flow.audit import verify
from bot.flow.incident_report import account_of, compose_remains, remains_of
from bot.flow.retention import Retention
from bot.model import (
    Aged,
    Delivery,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Overdue,
    ProposalState,
)
from bot.ports import Ageing, Clock
from bot.settings import RetentionSettings
from tests.exhaustive import EXHAUSTIVE
from tests.integration.retention_world import RULES, Case, build, gone, numbers, worlds
from tests.integration.store_records import (
    NOW,
    FixedClock,
    delivery,
    draft,
    filled,
    incident,
    proposal,
)
from tests.integration.test_store_snapshots import snapshot

pytestmark = pytest.mark.timeout(120)


class Nothing:
    """An engine that remembers nothing (port `Ended`); what a real one does is in test_ended.py."""

    async def forget(self, before: object, limit: int) -> int:
        del before, limit
        return 0


def keeper_of(store: Ageing, clock: Clock | None = None, rules: RetentionSettings = RULES) -> Retention:
    return Retention(store=store, ended=Nothing(), clock=clock or FixedClock(), rules=rules)


async def check(url: str, world: list[Case]) -> None:
    every = set(range(len(world)))
    incidents, snapshots, deliveries = gone(world)
    async with SqlStore.open(url, FixedClock()) as store:
        await build(store, world)
        keeper = keeper_of(store)
        told = Overdue(incidents=len(incidents), snapshots=len(snapshots), deliveries=len(deliveries))
        assert await keeper.overdue() == told
        assert await numbers(store, "incidents") == every, "counting removes nothing"
        assert await keeper.prune("bot") == told
        assert await numbers(store, "incidents") == every - incidents
        assert await numbers(store, "snapshots") == every - snapshots
        there = {number for number in every if not world[number].shares}
        assert await numbers(store, "deliveries") == there - deliveries
        for table in ("alerts", "diagnoses"):
            assert await numbers(store, table) == every - incidents
        planned = {number for number in every if world[number].proposal is not None}
        for table in ("proposals", "approvals"):
            assert await numbers(store, table) == planned - incidents
        rows = await store.audit_entries()
        assert verify(rows).intact
        assert [row.kind for row in rows[1:]] == (["database.pruned"] if told != Overdue() else [])
        again = keeper_of(store)  # whose clock the pauses have not moved
        assert await again.prune("bot") == Overdue()
        if url.startswith("sqlite"):
            async with store._database.read() as session:
                assert (await session.execute(text("PRAGMA foreign_key_check"))).all() == []


@pytest.mark.timeout(3_000 if EXHAUSTIVE else 120)
@settings(max_examples=500 if EXHAUSTIVE else 5, deadline=None)
@given(worlds())
def test_in_any_world_what_is_too_old_goes_and_nothing_else(world: list[Case]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(f"sqlite:///{folder}/n.db", world))


WORLD = [
    Case(IncidentState.CLOSED, 101, False, ProposalState.DONE, ExecutionState.DONE, False, None, 41, 61, False),
    Case(IncidentState.VERIFIED, 100, False, None, None, False, None, 40, 61, False),
    Case(IncidentState.OPEN, 500, False, None, None, False, None, 500, 500, False),
    Case(IncidentState.CLOSED, 500, False, ProposalState.PENDING, None, False, None, 500, 500, False),
    Case(IncidentState.CLOSED, 500, False, ProposalState.DONE, ExecutionState.UNKNOWN, False, None, 500, 500, False),
    Case(
        IncidentState.CLOSED, 500, False, ProposalState.NEEDS_HUMAN, ExecutionState.FAILED, True, None, 500, 500, False
    ),
    Case(IncidentState.CLOSED, 500, True, None, None, False, None, 500, 500, False),
    Case(IncidentState.CLOSED, 500, False, None, None, False, None, 0, 500, False),
    Case(IncidentState.CLEARED, 500, False, None, None, False, 7, 500, 0, True),
    Case(IncidentState.CLOSED, 500, False, None, None, False, 2, 500, 500, False),
]


async def test_of_a_world_that_has_one_of_each_the_same_is_kept_on_both_databases(url: str) -> None:
    assert gone(WORLD) == ({0, 7, 8}, {0, 6, 8, 9}, {0, 7})
    await check(url, WORLD)


async def test_what_is_opened_again_after_it_was_found_stays(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await build(store, WORLD[:1])
        horizon = keeper_of(store).horizon()
        assert horizon.incidents is not None
        found = await store.too_old(Aged.INCIDENTS, horizon.incidents, 10)
        assert found == ["inc_0"]
        async with store.begin() as tx:
            closed = await tx.get(Incident, "inc_0")
            assert closed is not None
            await tx.put(closed.model_copy(update={"state": IncidentState.OPEN}))
        assert await store.remove(Aged.INCIDENTS, found, horizon.incidents) == 0
        assert await store.get(Incident, "inc_0") is not None


async def test_zero_days_keep_for_ever(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await build(store, WORLD)
        keeper = keeper_of(store, rules=RetentionSettings(incidents=0, snapshots=0, deliveries=0))
        assert await keeper.prune("bot") == Overdue()
        assert await numbers(store, "incidents") == set(range(len(WORLD)))
        assert len(await store.audit_entries()) == 1


async def test_a_delivery_that_is_not_taken_in_yet_stays_however_old(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        async with store.begin() as tx:
            old = {"received_at": NOW - timedelta(days=900)}
            await tx.put(delivery("1").model_copy(update=old))
            await tx.put(delivery("2", processed=True).model_copy(update=old))
        found = await keeper_of(store).prune("bot")
        assert found == Overdue(deliveries=1)
        assert await store.get(Delivery, "dlv_1") is not None
        assert await store.get(Delivery, "dlv_2") is None


class Between(FixedClock):
    """Looks at the database whenever a run pauses."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__()
        self.store = store
        self.left: list[int] = []

    async def sleep(self, seconds: float) -> None:
        del seconds
        async with asyncio.timeout(1):  # whoever writes now does not wait for the run
            async with self.store.begin() as tx:
                await tx.put(delivery(f"during {len(self.left)}"))
        self.left.append(len(await numbers(self.store, "incidents")))


async def test_others_write_between_two_batches_and_no_batch_is_larger_than_it_may_be(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(retention.BATCH, Aged.INCIDENTS, 3)
    monkeypatch.setattr(retention, "LOOK", 5)
    many = [WORLD[0]] * 8
    async with SqlStore.open(url, FixedClock()) as store:
        await build(store, many)
        clock = Between(store)
        await keeper_of(store, clock).prune("bot")
    assert clock.left[:5] == [5, 3, 0, 0, 0]


async def test_a_run_that_is_cut_off_leaves_the_rest_to_the_next_and_each_says_what_it_found(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(retention.BATCH, Aged.INCIDENTS, 1)
    async with SqlStore.open(url, FixedClock()) as store:
        await build(store, [WORLD[0]] * 3)

        class Cut(FixedClock):
            async def sleep(self, seconds: float) -> None:
                raise StoreBusy("The database is away.")

        with pytest.raises(StoreBusy):
            await keeper_of(store, Cut()).prune("bot")
        assert len(await numbers(store, "incidents")) == 2
        await keeper_of(store).prune("ana")
        rows = (await store.audit_entries())[1:]
    assert [(row.actor, row.data["incidents"]) for row in rows] == [("bot", 3), ("ana", 2)]


async def test_a_bot_prunes_ten_minutes_after_its_start_and_then_once_a_day_whatever_the_database_says() -> None:
    class Gone(Exception):
        """The test is over."""

    class Failing:
        looked: list[float] = []

        async def overdue(self, horizon: object) -> Overdue:
            del horizon
            self.looked.append((clock.now() - NOW).total_seconds())
            if len(self.looked) == 3:
                raise Gone
            raise StoreBusy("It is locked.")

    clock, store = FixedClock(), Failing()
    with pytest.raises(Gone):
        await keeper_of(store, clock).run()  # pyright: ignore[reportArgumentType]
    assert store.looked == [600.0, 600.0 + 86_400, 600.0 + 2 * 86_400]


async def test_of_an_incident_that_is_gone_the_report_tells_what_the_audit_log_has(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await filled(store)
        async with store.begin() as tx:
            closed = incident(state=IncidentState.CLOSED).model_copy(update={"updated_at": NOW - timedelta(days=101)})
            await tx.put(closed)
            await tx.put(proposal(state=ProposalState.DENIED))
            await tx.audit(draft("It was opened."))
        assert (await keeper_of(store).prune("bot")).incidents == 1
        assert await account_of(store, IncidentId("inc_1")) is None
        remains = await remains_of(store, IncidentId("inc_1"))
        assert remains is not None
        assert remains.chain.intact
        told = as_markdown(compose_remains(remains, NOW))
        assert "kept no longer" in told
        assert "It was opened" in told
        assert await remains_of(store, IncidentId("inc_never")) is None


async def test_what_a_row_of_the_audit_log_names_can_be_shown_with_a_copy_after_it_is_gone(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        taken = snapshot()
        named = await store.save_snapshot(taken)
        copy = await store.snapshot_archive(taken.id)
        async with store.begin() as tx:
            row = await tx.audit(draft(snapshot=named))
        later = FixedClock()
        later.time += timedelta(days=RULES.snapshots + 1)
        assert (await keeper_of(store, later).prune("bot")).snapshots == 1
        assert await store.snapshot(taken.id) is None
        assert (await store.audit_entries())[0] == row
        assert copy is not None
        assert content_digest(read_archive(copy)) == row.data["snapshot"]
