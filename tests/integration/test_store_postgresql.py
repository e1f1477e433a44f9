"""What only PostgreSQL does: its refusals, its locks, and what becomes of a session that breaks."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import psycopg
import pytest
from sqlalchemy import text

from bot.adapters.database import SqlStore, postgresql
from bot.errors import StoreBusy, StoreError, StoreLost
from bot.flow.audit import verify
from bot.lab.postgres import PostgresServer
from bot.model import Incident
from tests.integration.store_records import FixedClock, draft, filled, incident, proposal

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


async def append(store: SqlStore) -> None:
    async with store.begin() as tx:
        await tx.audit(draft())


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET sentence = 'other' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 2",
        "TRUNCATE audit",
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 1 ON CONFLICT (seq) DO UPDATE SET sentence = 'other'",
        "INSERT INTO audit SELECT 9, at, kind, actor, incident_id, subject, sentence, data, 'p', 'h' FROM audit WHERE seq = 1",
    ],
)
async def test_the_database_itself_refuses_to_change_audit_entries(
    store: SqlStore, url: str, statement: str, role: str
) -> None:
    async with store.begin() as tx:
        entries = [await tx.audit(draft()), await tx.audit(draft())]
    with psycopg.connect(url) as raw:
        raw.execute(f"SET session_replication_role = {role}".encode())
        with pytest.raises(psycopg.IntegrityError, match="audit entries are append"):
            raw.execute(statement.encode())
    assert await store.audit_entries() == entries


async def test_a_writer_gives_up_after_two_seconds_of_a_foreign_lock(store: SqlStore, url: str) -> None:
    await filled(store)
    with psycopg.connect(url) as raw:
        raw.execute("SELECT pg_advisory_xact_lock(%s)", (postgresql.WRITE_LOCK,))
        began = time.monotonic()
        with pytest.raises(StoreBusy, match=r"locked for too long: nothing was written"):
            async with store.begin() as tx:
                await tx.put(proposal("2"))
        assert 1.8 < time.monotonic() - began < 4.0
        assert await store.get(Incident, "inc_1") == incident(), "readers do not wait for writers"
    async with store.begin() as tx:
        await tx.put(proposal("2"))


async def test_no_process_serves_alone_with_postgresql(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        with pytest.raises(StoreError, match="join its replicas"):
            await store.acquire_process_lock()


async def test_a_replica_that_lost_its_session_goes_on(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        await store.join("a")
        end_sessions(url)
        await append(store)
        assert len(await store.audit_entries()) == 1


async def test_a_process_that_stops_inside_a_transaction_does_not_keep_others_from_writing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "IDLE_SECONDS", 0.2)
    async with SqlStore.open(url, FixedClock()) as stopped, SqlStore.open(url, FixedClock()) as other:

        async def stop_inside() -> None:
            async with stopped.begin() as tx:
                await tx.audit(draft("of the stopped one"))
                await append(other)
                await tx.audit(draft("too late"))

        with pytest.raises(StoreError) as raised:
            await stop_inside()
        assert raised.value.retry_helps
        assert [entry.sentence for entry in await other.audit_entries()] == [draft().sentence]


async def test_a_restart_of_the_server_costs_the_transaction_in_it_and_nothing_else(
    postgres: PostgresServer, store: SqlStore
) -> None:
    async def lose() -> None:
        async with store.begin() as tx:
            await asyncio.to_thread(postgres.restart)
            await tx.audit(draft("lost"))

    await append(store)
    with pytest.raises(StoreError) as raised:
        await lose()
    assert raised.value.retry_helps
    await append(store)
    entries = await store.audit_entries()
    assert [entry.seq for entry in entries] == [1, 2]
    assert verify(entries).intact


async def test_a_reader_sees_one_moment_and_can_not_write(store: SqlStore) -> None:
    count = text("SELECT count(*) FROM audit")
    async with store._database.read() as session:
        assert await session.scalar(count) == 0
        await append(store)
        assert await session.scalar(count) == 0
    async with store._database.read() as session:
        assert await session.scalar(count) == 1
        with pytest.raises(StoreError, match="read-only transaction"), store._database.typed_errors():
            await session.execute(text("DELETE FROM alembic_version"))


async def test_the_settings_that_durability_rests_on_are_in_force(store: SqlStore) -> None:
    wanted = {
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "lock_timeout": "2s",
        "statement_timeout": "10s",
        "idle_in_transaction_session_timeout": "10s",
        "tcp_keepalives_idle": "10",
        "TimeZone": "UTC",
    }
    async with store._database.write() as session:
        for name, value in wanted.items():
            assert await session.scalar(text(f"SHOW {name}")) == value, name


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the option is Linux's")
async def test_this_side_of_a_dead_network_is_told_as_early_as_the_other(store: SqlStore) -> None:
    async with store._database.read() as session:
        raw = await (await session.connection()).get_raw_connection()
        connection = raw.driver_connection
        assert isinstance(connection, psycopg.AsyncConnection)
        with socket.socket(fileno=os.dup(connection.fileno())) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


async def test_an_empty_database_is_not_read(url: str) -> None:
    with pytest.raises(StoreError, match="start `natsmedic serve` once"):
        async with SqlStore.open(url, FixedClock(), read_only=True):
            pass


async def test_two_processes_that_open_an_empty_database_at_once_both_find_it(url: str) -> None:
    async def opened() -> int:
        async with SqlStore.open(url, FixedClock()) as store:
            return len(await store.incidents())

    assert await asyncio.gather(*(opened() for _ in range(4))) == [0, 0, 0, 0]


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(StoreLost, match=r"127\.0\.0\.1/natsmedic") as raised:
        async with SqlStore.open("postgresql://ana:canary@127.0.0.1:1/natsmedic", FixedClock()):
            pass
    assert "canary" not in str(raised.value)


def end_sessions(url: str) -> None:
    """End every other session of the database, as an administrator or a dead network does."""
    mine = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url) as raw:
        raw.execute(mine)
