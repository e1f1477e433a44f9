"""Backups that are made while a bot works, put back as deploy/backup.md says; and what natsmedic does with a database that is older than its checkpoints."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psycopg
import pytest
import yaml
from typer.testing import CliRunner, Result

from bot.adapters.checkpoints import FileSink, newest_of
from bot.adapters.database import SqlStore, back_up
from bot.adapters.database.revisions import OURS
from bot.adapters.terminal import operator
from bot.cli import app
from bot.errors import BadInput, StoreError
from bot.flow.checkpoints import Checkpointer
from bot.lab.postgres import PostgresServer
from bot.limits import Limits, Stop
from bot.model import Incident
from bot.model.base import new_id
from bot.settings import LimitSettings
from tests.integration.store_records import FixedClock, draft, filled, incident, proposal

pytestmark = pytest.mark.timeout(120)


def configured(folder: Path, url: str | None = None) -> Path:
    file = folder / "natsmedic.yaml"
    cluster = {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
    database = {} if url is None else {"database": {"url": url}}
    policy = {
        "groups": {"sre": {"persons": ["ada"]}},
        "persons": {"ada": []},
        "terminal": {operator().user_id: "ada"},
        "approvers": {"low": ["sre"]},
    }
    file.write_text(yaml.safe_dump({"clusters": [cluster], "policy": policy, **database}), encoding="utf-8")
    return file


def natsmedic(config: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *map(str, arguments)])


async def beside(config: Path, *arguments: str | Path) -> Result:
    """A command while this loop goes on: it has a loop of its own."""
    return await asyncio.to_thread(natsmedic, config, *arguments)


@asynccontextmanager
async def bot(url: str, kept: Path) -> AsyncGenerator[SqlStore]:
    """As far as a bot that serves: nobody else does, and it has compared its database with the checkpoints outside."""
    async with SqlStore.open(url, FixedClock()) as store:
        await (store.join(new_id("bot")) if store.takes_several else store.acquire_process_lock())
        places = [FileSink(kept)]
        checkpointer = Checkpointer(places, store=store, clock=FixedClock(), every_seconds=60, every_rows=1)
        await checkpointer.begin()
        yield store
        await checkpointer.sweep_all()


async def append(store: SqlStore, rows: int) -> None:
    async with store.begin() as tx:
        for _ in range(rows):
            await tx.audit(draft())


def done(program: Path, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs."""
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


async def made_of(path: Path, rows: int) -> None:
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        await append(store, rows)


async def ruling(store: SqlStore) -> Stop:
    async with store.begin() as tx:
        return (await Limits(LimitSettings(), FixedClock()).stage(tx, "prod", "consumer.delete")).stop


async def assert_nothing_changes_until_acknowledged(config: Path, url: str, kept: Path) -> None:
    """The database at `url` was put back from a backup; `kept` holds a head that it does not reach."""
    lost = newest_of(kept)
    assert (await beside(config, "db", "status")).exit_code == 0
    assert (await beside(config, "audit", "verify")).exit_code == 0, "by itself the chain is whole"
    assert (await beside(config, "audit", "verify", "--checkpoint", kept)).exit_code == 1
    async with bot(url, kept) as store:
        assert await store.get(Incident, "inc_1") == incident()
        assert await ruling(store) is Stop.AUDIT_GAP
    assert newest_of(kept) == lost, "the newest checkpoint outside stays what it was"
    told = await beside(config, "audit", "acknowledge", "--reason", "the disk failed")
    assert told.exit_code == 0, told.stderr
    async with bot(url, kept) as store:
        assert await ruling(store) is Stop.NONE
    assert (await beside(config, "audit", "verify", "--checkpoint", kept)).exit_code == 0


async def test_a_file_that_was_copied_while_a_bot_served_is_put_back_and_told_from_the_newest(tmp_path: Path) -> None:
    path, copy, kept = tmp_path / "natsmedic.db", tmp_path / "copy.db", tmp_path / "heads.jsonl"
    config, url = configured(tmp_path), f"sqlite:///{path}"
    async with bot(url, kept) as store:
        await filled(store)
        await append(store, 4)
        made = await beside(config, "db", "backup", copy)
        assert made.exit_code == 0, made.stderr
        assert "4 rows of the audit log" in made.stdout
        assert f"4:{(await store.audit_entries())[-1].hash}" in made.stdout
        await append(store, 6)
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    shutil.copy(copy, path)
    await assert_nothing_changes_until_acknowledged(config, url, kept)


async def test_a_dump_of_postgresql_is_put_back_with_its_triggers_and_told_from_the_newest(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    dump, restore = postgres.programs / "pg_dump", postgres.programs / "pg_restore"
    if not dump.exists():
        pytest.skip("this PostgreSQL has no pg_dump")
    kept, file = tmp_path / "heads.jsonl", tmp_path / "natsmedic.dump"
    async with bot(postgres_url, kept) as store:
        await filled(store)
        await append(store, 4)
        await asyncio.to_thread(done, dump, "--format=custom", f"--file={file}", postgres_url)
        await append(store, 6)
    with postgres.database("put_back") as url:
        await asyncio.to_thread(done, restore, "--exit-on-error", "--no-owner", f"--dbname={url}", str(file))
        await assert_nothing_changes_until_acknowledged(configured(tmp_path, url), url, kept)
        with psycopg.connect(url) as raw:
            raw.execute("SET session_replication_role = replica")
            with pytest.raises(psycopg.IntegrityError, match="append-only"):
                raw.execute("DELETE FROM audit")


async def test_a_copy_is_of_one_moment_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        await filled(store)
        writing = True

        async def write() -> int:
            rows = 0
            while writing:
                async with store.begin() as tx:
                    await tx.put(proposal(f"{rows + 2}"))
                    await tx.audit(draft())
                rows += 1
            return rows

        writer = asyncio.create_task(write())
        made = [await asyncio.to_thread(back_up, path, tmp_path / f"{number}.db") for number in range(5)]
        writing = False
        assert await writer >= made[-1].rows >= made[0].rows
    for one in made:
        async with SqlStore.open(f"sqlite:///{one.file}", FixedClock(), read_only=True) as store:
            assert len(await store.proposals()) == one.rows + 1, "a proposal and its row come together"
            assert [row.hash for row in await store.audit_entries()][-1:] == ([one.head] if one.rows else [])


def test_a_copy_stands_alone_is_for_its_owner_and_overwrites_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / "n.db", tmp_path / "copy.db"
    asyncio.run(made_of(path, 0))
    made = back_up(path, copy)
    assert (made.rows, made.head, made.bytes) == (0, "", copy.stat().st_size)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as alone:
        assert alone.execute("SELECT version_num FROM alembic_version").fetchone() == (OURS.newest,)
    before = copy.read_bytes()
    with pytest.raises(BadInput, match="is there already"):
        back_up(path, copy)
    with pytest.raises(BadInput, match="cannot be made: No such file"):
        back_up(path, tmp_path / "absent" / "copy.db")
    (tmp_path / "busy.db.part").touch()
    with pytest.raises(BadInput, match="cannot be made: File exists"):
        back_up(path, tmp_path / "busy.db")
    assert copy.read_bytes() == before
    assert sorted(one.name for one in tmp_path.glob("*.part")) == ["busy.db.part"], "that of another run"


def test_a_damaged_or_missing_database_makes_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    with pytest.raises(StoreError, match="no database"):
        back_up(path, tmp_path / "copy.db")
    asyncio.run(made_of(path, 200))
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged|could not be copied"):
        back_up(path, tmp_path / "copy.db")
    assert list(tmp_path.glob("copy.db*")) == []


def test_for_postgresql_its_own_tool_is_named_without_the_password(tmp_path: Path) -> None:
    config = configured(tmp_path, "postgresql://ana:canary@db.example/natsmedic")
    refused = natsmedic(config, "db", "backup", tmp_path / "copy.db")
    assert refused.exit_code == 2
    assert "pg_dump --format=custom" in refused.stderr
    assert "canary" not in refused.stderr
