"""The audit chain in a real database whose owner tampers with it."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.errors import AuditBroken
from bot.flow.audit import ChainVerifier, export_lines, read_lines, verify
from tests.integration.store_records import FixedClock, draft

pytestmark = pytest.mark.timeout(120)
ROWS = 40
TAMPERINGS = 1000
COLUMNS = ("at", "kind", "actor", "incident_id", "subject", "sentence", "data", "previous", "hash")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    database = tmp_path / "natsmedic.db"
    async with SqlStore.open(f"sqlite:///{database}", FixedClock()) as store:
        for number in range(ROWS):
            async with store.begin() as tx:
                await tx.audit(draft(f"Entry {number}.", number=number, text="ü"))
    return database


def tampered(raw: sqlite3.Connection, chance: random.Random) -> str:
    """Change one row, as an owner of the file can; return what was done."""
    seq = chance.randint(1, ROWS)
    match chance.choice(("edit", "byte", "delete", "insert", "swap")):
        case "edit":
            column = chance.choice(COLUMNS)
            raw.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (f"forged {chance.random()}", seq))
            return f"edit {column} of {seq}"
        case "byte":
            column = chance.choice(("kind", "sentence", "actor", "subject"))
            (text,) = raw.execute(f"SELECT {column} FROM audit WHERE seq = ?", (seq,)).fetchone()
            at = chance.randrange(len(text))
            other = chr(ord(text[at]) ^ 1)
            raw.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (text[:at] + other + text[at + 1 :], seq))
            return f"one character of {column} of {seq}"
        case "delete":
            seq = chance.randint(1, ROWS - 1)
            raw.execute("DELETE FROM audit WHERE seq = ?", (seq,))
            return f"delete {seq}"
        case "insert":
            raw.execute(
                "INSERT INTO audit SELECT ?, at, kind, 'mallory', incident_id, subject, sentence, data, hash, ? FROM audit WHERE seq = ?",
                (ROWS + 1, f"{chance.getrandbits(256):064x}", ROWS),
            )
            return "insert at the end"
        case _:
            seq = chance.randint(1, ROWS - 1)
            raw.execute("UPDATE audit SET seq = -1 WHERE seq = ?", (seq,))
            raw.execute("UPDATE audit SET seq = ? WHERE seq = ?", (seq, seq + 1))
            raw.execute("UPDATE audit SET seq = ? WHERE seq = -1", (seq + 1,))
            return f"swap {seq} and {seq + 1}"


async def looks_whole(store: SqlStore) -> bool:
    try:
        return verify(await store.audit_entries()).intact
    except AuditBroken:
        return False


async def test_a_thousand_random_tamperings_of_one_row_are_all_detected(path: Path) -> None:
    chance = random.Random(20261121)
    missed: list[str] = []
    async with SqlStore.open(f"sqlite:///{path}", FixedClock()) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {trigger}")
            raw.execute("CREATE TABLE honest AS SELECT * FROM audit")
            raw.execute("PRAGMA synchronous = OFF")
            for _ in range(TAMPERINGS):
                done = tampered(raw, chance)
                if await looks_whole(store):
                    missed.append(done)
                raw.execute("BEGIN")
                raw.execute("DELETE FROM audit")
                raw.execute("INSERT INTO audit SELECT * FROM honest")
                raw.execute("COMMIT")
        assert verify(await store.audit_entries()).intact, (
            "the restored chain is whole, so the findings above are no accident"
        )
    assert missed == []


async def test_a_row_that_is_no_entry_any_more_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER audit_no_update")
        raw.execute("UPDATE audit SET data = 'not JSON' WHERE seq = 7")
    async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as store:
        with pytest.raises(AuditBroken, match="Audit row 7 was altered"):
            await store.audit_entries()
        verifier = ChainVerifier()
        for entry in await store.audit_entries(limit=6):
            assert verifier.add(entry)
        verifier.unreadable("Audit row 7 was altered.")
        assert verifier.report().first_bad_seq == 7


async def test_an_export_of_the_database_verifies_offline(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    async with SqlStore.open(f"sqlite:///{path}", FixedClock(), read_only=True) as store:
        file.write_text("\n".join(export_lines(await store.audit_entries())) + "\n", encoding="utf-8")
    with file.open(encoding="utf-8") as lines:
        report = verify(read_lines(lines))
    assert (report.intact, report.rows) == (True, ROWS)


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
