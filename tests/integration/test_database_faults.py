"""The database locked, full, or gone with the answer to a COMMIT (reference/safety.md 3.3): no 2xx without a row, nothing applied twice, nothing approved unrecorded."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bot.adapters.database import SqlStore
from bot.errors import StoreDown, StoreError
from bot.flow.audit import verify
from bot.model import AuditDraft, ExecutionState, ProposalState
from bot.ports import Readers, Writers
from bot.settings import WebhookSettings
from tests.integration import execution_house, test_approval_desk
from tests.integration.execution_house import Params, SetValue
from tests.integration.test_intake import alert, body
from tests.integration.webhook_support import Door, open_door

SETTINGS = WebhookSettings.model_validate({"listen": "127.0.0.1:0", "sources": {"alertmanager": {"bearer": "tok"}}})
LARGE = "x" * 20_000
"""Does not fit into a page that is there already."""
MOST_COMMITS = 40


async def fill(store: SqlStore) -> None:
    """Let the file grow no further: what needs another page is SQLITE_FULL."""
    await limit(store, 1)  # SQLite makes that what the file has now


async def free(store: SqlStore) -> None:
    await limit(store, 1_000_000)


async def limit(store: SqlStore, pages: int) -> None:
    writer = store._database._writer  # pyright: ignore[reportPrivateUsage] - the limit is of this very connection
    assert writer is not None
    async with writer.connect() as connection:
        await connection.execute(text(f"PRAGMA max_page_count = {pages}"))


class LostCommit:
    """The answer to the nth commit is lost, though it has happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
        self.left = nth
        real = AsyncSession.commit

        async def commit(session: AsyncSession) -> None:
            await real(session)
            self.left -= 1
            if self.left == 0:
                raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

        monkeypatch.setattr(AsyncSession, "commit", commit)


async def post(door: Door, words: str = "") -> int:
    one = alert(fingerprint="f1") | {"annotations": {"summary": words}}
    headers = {"Authorization": "Bearer tok"}
    return (await door.client.post("/webhooks/alertmanager", content=body(one), headers=headers)).status_code


async def test_a_database_that_another_process_locks_is_503_in_time_and_takes_the_alert_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.database.sqlite.BUSY_SECONDS", 0.1)
    async with open_door(tmp_path, SETTINGS) as door:
        with closing(sqlite3.connect(tmp_path / "door.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            assert await post(door) == 503
            assert time.monotonic() - began < 3
            assert await door.bodies() == [], "and readers do not wait"
            other.execute("ROLLBACK")
        assert await post(door) == 202
        assert len(await door.bodies()) == 1


async def test_a_full_database_is_503_reads_go_on_and_alerts_are_taken_once_there_is_room(tmp_path: Path) -> None:
    async with open_door(tmp_path, SETTINGS) as door:
        assert await post(door) == 202
        await door.intake.drain()
        await fill(door.store)
        assert await post(door, LARGE) == 503
        (incident,) = await door.store.incidents()
        assert incident.firing_count == 1
        assert await door.bodies() == []
        await free(door.store)
        assert await post(door, LARGE) == 202
        await door.intake.drain()
        (incident,) = await door.store.incidents()
        assert incident.firing_count == 2
        assert verify(await door.store.audit_entries()).intact


async def test_what_is_stored_when_the_database_is_full_is_folded_once_there_is_room(tmp_path: Path) -> None:
    async with open_door(tmp_path, SETTINGS) as door:
        for number in range(60):
            one = alert(fingerprint=f"f{number}", padding="x" * 500)
            headers = {"Authorization": "Bearer tok"}
            answer = await door.client.post("/webhooks/alertmanager", content=body(one), headers=headers)
            assert answer.status_code == 202
        await fill(door.store)
        with pytest.raises(StoreDown):
            await door.intake.drain()
        waiting = await door.store.count_unprocessed()
        assert waiting > 0
        assert verify(await door.store.audit_entries()).intact
        await free(door.store)
        await door.intake.drain()
        assert await door.store.count_unprocessed() == 0
        assert len([one for one in await door.store.incidents(limit=200) if one.source == "alertmanager"]) == 60


async def test_on_a_full_database_no_decision_counts(tmp_path: Path) -> None:
    async with test_approval_desk.house(tmp_path) as h:
        await fill(h.store)
        for user in ("U2", "U1"):
            with pytest.raises(StoreDown):
                await h.desk.decide(h.click(user), LARGE, "ORDERS")
        assert await h.store.execution_of(h.proposal.id) is None
        assert h.quiet.started == []
        await free(h.store)
        for user in ("U2", "U1"):
            await h.desk.decide(h.click(user), "checked", "ORDERS")
        assert await h.state() is ProposalState.APPROVED
        assert verify(await h.store.audit_entries()).intact


async def test_on_a_full_database_nothing_is_sent_and_an_outcome_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with execution_house.house(tmp_path, "a") as h:
        await fill(h.store)
        await stuff(h.store)
        with pytest.raises(StoreDown):
            await h.run()
        assert h.target.effects == []
        await free(h.store)
        real = SetValue.apply

        async def apply(self: SetValue, readers: Readers, writers: Writers, params: Params, operation: str) -> None:
            await real(self, readers, writers, params, operation)  # type: ignore[arg-type]
            await fill(h.store)
            await stuff(h.store)

        with monkeypatch.context() as patched:
            patched.setattr(SetValue, "apply", apply)
            with pytest.raises(StoreDown):
                await h.run()
        assert h.target.effects == ["a"]
        await free(h.store)
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a"])
        assert verify(await h.store.audit_entries()).intact


async def stuff(store: SqlStore) -> None:
    """Use the last free bytes of a full database, so that the next row of any size is refused."""
    size = len(LARGE)
    while size > 1:
        try:
            async with store.begin() as tx:
                await tx.audit(AuditDraft(kind="test", actor="test", sentence="x" * size))
        except StoreDown:
            size //= 2


async def test_a_delivery_whose_commit_got_no_answer_is_503_and_what_is_sent_again_opens_no_second_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path, SETTINGS) as door:
        with monkeypatch.context() as patched:
            LostCommit(patched, 1)
            assert await post(door) == 503
        assert await post(door) == 202
        await door.intake.drain()
        (incident,) = await door.store.incidents()
        assert incident.firing_count == 2, "it came twice"
        assert len(set(door.engine.diagnoses)) == 1


@pytest.mark.parametrize("nth", [1, 2])
async def test_alerts_whose_commit_got_no_answer_are_folded_once_and_diagnosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    async with open_door(tmp_path, SETTINGS) as door:
        assert await post(door) == 202
        with monkeypatch.context() as patched:
            LostCommit(patched, nth)
            try:
                await door.intake.drain()
            except StoreError:
                assert nth == 2, "the second one only says that the diagnosis was started"
        door.clock.time = door.clock.time.replace(year=door.clock.time.year + 1)
        await door.intake.drain()
        (incident,) = await door.store.incidents()
        assert incident.firing_count == 1
        assert set(door.engine.diagnoses) == {f"{incident.id}/alert"}
        assert await door.store.count_unprocessed() == 0


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_decision_whose_commit_got_no_answer_counts_once_however_often_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    async with test_approval_desk.house(tmp_path) as h:
        with monkeypatch.context() as patched:
            lost = LostCommit(patched, nth)
            for user in ("U2", "U1"):
                with suppress(StoreError):
                    await h.desk.decide(h.click(user), "checked", "ORDERS")
        assert lost.left <= 0
        for user in ("U2", "U1", "U2", "U1"):
            await h.desk.decide(h.click(user), "checked", "ORDERS")
        assert await h.state() is ProposalState.APPROVED
        assert sorted(one.person for one in await h.store.approvals(h.proposal.id)) == ["U1", "U2"]
        assert await h.store.execution_of(h.proposal.id) is not None
        assert verify(await h.store.audit_entries()).intact


async def test_a_repair_applies_once_whichever_of_its_commits_gets_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = 0
    for nth in range(1, MOST_COMMITS):
        folder = tmp_path / str(nth)
        folder.mkdir()
        async with execution_house.house(folder, "a", "b") as h:
            with monkeypatch.context() as patched:
                lost = LostCommit(patched, nth)
                try:
                    ended = await h.run()
                except StoreError:
                    ended = await h.run()
            assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a", "b"]), nth
            assert verify(await h.store.audit_entries()).intact
            if lost.left > 0:
                break
            met += 1
    assert 5 < met < MOST_COMMITS - 1, "every commit of a run was met"
