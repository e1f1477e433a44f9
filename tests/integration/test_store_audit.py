"""The audit chain in a real database whose owner tampers with it."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import AuditBroken
from bot.flow.audit import ChainReport, ChainVerifier, Checkpoint, export_lines, pages, read_lines
from bot.model import AuditFilter, AuditLine
from tests.integration.store_records import NOW, FixedClock, draft

pytestmark = pytest.mark.timeout(120)
ROWS = 40
TAMPERINGS = 1000
COLUMNS = ("at", "kind", "actor", "incident_id", "subject", "sentence", "data", "previous", "hash")
KEPT_AT = 30
"""Row of the checkpoint: what is cut or rewritten behind it is younger than the newest checkpoint, and no one can know of it."""


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    database = tmp_path / "natsmedic.db"
    async with SqlStore.open(f"sqlite:///{database}", FixedClock()) as store:
        for number in range(ROWS):
            async with store.begin() as tx:
                await tx.audit(draft(f"Entry {number}.", number=number, text="ü"))
    return database


def edit(raw: sqlite3.Connection, chance: random.Random) -> str:
    seq, column = chance.randint(1, ROWS), chance.choice(COLUMNS)
    if chance.random() < 0.5:
        raw.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (f"forged {chance.random()}", seq))
        return f"edit {column} of {seq}"
    column = chance.choice(("at", "kind", "sentence", "actor", "subject", "data", "previous", "hash"))
    (text,) = raw.execute(f"SELECT {column} FROM audit WHERE seq = ?", (seq,)).fetchone()
    at = chance.randrange(len(text))
    other = chr(ord(text[at]) ^ 1)
    raw.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (text[:at] + other + text[at + 1 :], seq))
    return f"one character of {column} of {seq}"


def delete(raw: sqlite3.Connection, chance: random.Random) -> str:
    seq = chance.randint(1, ROWS - 1)
    raw.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    if chance.random() < 0.5:  # and close the gap
        raw.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (seq,))
        raw.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0")
    return f"delete {seq}"


def reorder(raw: sqlite3.Connection, chance: random.Random) -> str:
    one, other = chance.sample(range(1, ROWS + 1), 2)
    raw.execute("UPDATE audit SET seq = -1 WHERE seq = ?", (one,))
    raw.execute("UPDATE audit SET seq = ? WHERE seq = ?", (one, other))
    raw.execute("UPDATE audit SET seq = ? WHERE seq = -1", (other,))
    return f"swap {one} and {other}"


def insert(raw: sqlite3.Connection, chance: random.Random) -> str:
    """Anywhere, as a copy that continues its row and has a hash that is right for what it says, in place or with all behind it moved on."""
    at = chance.randint(1, ROWS - 1)
    raw.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (at,))
    raw.execute("UPDATE audit SET seq = -seq + 1 WHERE seq < 0")
    (last,) = lines(raw, f"WHERE seq = {at}")
    forged = last._replace(seq=at + 1, actor=f"mallory {chance.random()}", previous=f"{chance.getrandbits(256):064x}")
    put(raw, [forged._replace(hash=forged.computed_hash())])
    return f"insert behind {at}"


def cut(raw: sqlite3.Connection, chance: random.Random) -> str:
    seq = chance.randint(0, KEPT_AT - 1)
    raw.execute("DELETE FROM audit WHERE seq > ?", (seq,))
    return f"cut behind {seq}"


def rewrite(raw: sqlite3.Connection, chance: random.Random) -> str:
    """A chain that is whole in itself, from a row at or before the checkpoint on."""
    seq = chance.randint(1, KEPT_AT)
    old = lines(raw, f"WHERE seq >= {seq} ORDER BY seq")
    head, new = old[0].previous, list[AuditLine]()
    for line in old:
        forged = line._replace(previous=head, **({"actor": f"m {chance.random()}"} if line.seq == seq else {}))
        new.append(forged._replace(hash=forged.computed_hash()))
        head = new[-1].hash
    raw.execute("DELETE FROM audit WHERE seq >= ?", (seq,))
    put(raw, new)
    return f"rewrite from {seq}"


def lines(raw: sqlite3.Connection, where: str) -> list[AuditLine]:
    return [AuditLine(*row) for row in raw.execute(f"SELECT {', '.join(AuditLine._fields)} FROM audit {where}")]


def put(raw: sqlite3.Connection, new: Sequence[AuditLine]) -> None:
    raw.executemany(f"INSERT INTO audit ({', '.join(AuditLine._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", new)


async def verdict(store: SqlStore, checkpoint: Checkpoint | None) -> ChainReport:
    verifier = ChainVerifier(checkpoint)
    for line in await store.audit_lines():
        verifier.add(line)
    return verifier.report()


def tampered(
    path: Path, tamper: Callable[[sqlite3.Connection, random.Random], str], chance: random.Random, times: int
) -> Iterator[str]:
    """Tamper so many times, each time with the honest chain, and say what was done; after the last one the chain is honest again."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute("CREATE TABLE honest AS SELECT * FROM audit")
        raw.execute("PRAGMA synchronous = OFF")
        for _ in range(times):
            raw.execute("BEGIN")
            done = tamper(raw, chance)
            raw.execute("COMMIT")
            yield done
            raw.execute("BEGIN")
            raw.execute("DELETE FROM audit")
            raw.execute("INSERT INTO audit SELECT * FROM honest")
            raw.execute("COMMIT")


@pytest.mark.parametrize("tamper", [edit, delete, reorder, insert, cut, rewrite])
async def test_a_thousand_tamperings_of_each_kind_are_all_found(
    path: Path, tamper: Callable[[sqlite3.Connection, random.Random], str]
) -> None:
    """A cut tail and a chain that was rewritten as a whole are found with a checkpoint; all others without one."""
    chance = random.Random(20261121)
    missed: list[str] = []
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        kept = await store.audit_line(KEPT_AT)
        assert kept is not None
        needed = Checkpoint(seq=kept.seq, hash=kept.hash) if tamper in {cut, rewrite} else None
        for done in tampered(path, tamper, chance, TAMPERINGS):
            if (await verdict(store, needed)).intact:
                missed.append(done)
            elif needed is not None:
                assert (await verdict(store, None)).intact, f"{done}: the checkpoint is what finds it"
        assert (await verdict(store, needed)).intact, "the restored chain is whole, so what was found is no accident"
    assert missed == []


async def test_a_row_that_is_no_entry_any_more_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER audit_no_update")
        raw.execute("UPDATE audit SET data = 'not JSON' WHERE seq = 7")
    async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as store:
        with pytest.raises(AuditBroken, match="Audit row 7 was altered"):
            await store.audit_entries()
        verifier = ChainVerifier()
        for line in await store.audit_lines():
            verifier.add(line)
        assert verifier.report().first_bad_seq == 7


async def test_bytes_that_are_no_text_are_a_broken_row_and_not_a_broken_disk(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER audit_no_update")
        raw.execute("UPDATE audit SET sentence = CAST(X'FF80' AS TEXT) WHERE seq = 7")
    async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as store:
        found = ChainVerifier()

        async def read() -> None:
            async for page in pages(store):
                assert all(found.add(line) for line in page)

        with pytest.raises(AuditBroken, match="bytes that are no text"):
            await read()
        assert found.report().rows == 6


async def test_an_export_of_the_database_verifies_offline(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as store:
        file.write_text("\n".join(export_lines(await store.audit_entries())) + "\n", encoding="utf-8")
    verifier = ChainVerifier()
    with file.open(encoding="utf-8") as export:
        assert all(verifier.add(line) for line in read_lines(export))
    assert verifier.report().rows == ROWS


async def test_the_database_narrows_what_is_listed(tmp_path: Path) -> None:
    clock = FixedClock()
    async with SqlStore.open(f"sqlite:///{tmp_path / 'db'}", clock) as store:
        for number, kind in enumerate(("click.refused", "click", "clicks", "alert.firing", "click.refused"), start=1):
            async with store.begin() as tx:
                await tx.audit(
                    draft(f"{number}").model_copy(update={"kind": kind, "actor": f"p{number}", "subject": "s"})
                )
            clock.time = NOW.replace(microsecond=0) + number * timedelta(milliseconds=500)

        async def found(**narrow: object) -> list[int]:
            wanted = AuditFilter.model_validate(narrow)
            newest = await store.newest_audit_lines(limit=3, wanted=wanted)
            assert list(newest) == list(await store.audit_lines(wanted=wanted))[-3:]
            return [line.seq for line in newest]

        assert await found() == [3, 4, 5]
        assert await found(kind="click") == [1, 2, 5], "a family, and not what only begins alike"
        assert await found(kind="cl_ck") == []
        assert await found(actor="p4") == [4]
        assert await found(kind="click.refused", subject="s") == [1, 5]
        assert await found(subject="x") == []
        at = [datetime.fromisoformat(line.at) for line in await store.audit_lines()]
        assert await found(since=at[3]) == [4, 5]
        assert await found(since=at[3], until=at[4]) == [4]
        assert await found(until=at[0]) == []


async def test_a_commit_with_its_audit_entry_is_fast_enough_for_a_click(tmp_path: Path) -> None:
    """A click is answered within 3 s (reference/chatops.md 5), so a commit may take a small part of that only, even on a slow disk."""
    took: list[float] = []
    async with SqlStore.open(f"sqlite:///{tmp_path / 'db'}", FixedClock()) as store:
        for number in range(100):
            began = time.perf_counter()
            async with store.begin() as tx:
                await tx.audit(draft(f"{number}"))
            took.append(time.perf_counter() - began)
    assert statistics.median(took) < 0.25
