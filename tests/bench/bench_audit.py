"""A million audit rows verified against the floor, in one run: `python -m tests.bench.bench_audit [--rows N] [--turns N]`.

Floor: the same rows read by the sqlite3 module, SHA-256 over their texts joined, and nothing else. Verification is what `natsmedic audit verify` runs, by the
store of the bot. Rows are as long as in a real log (`natsmedic audit export` shows them): most are short, and one in twenty carries a whole
proposal. Floor and verification take turns in one process, so that a shared machine disturbs both alike. Exit code 1 where a million rows take over 10 s
(issue 6), scaled to the rows asked for.
"""

import argparse
import asyncio
import hashlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.flow.audit import ChainReport, ChainVerifier, verify_store
from bot.model import GENESIS, AuditLine, canonical_json

TARGET_SECONDS: Final = 10.0
"""For a million rows."""
MILLION: Final = 1_000_000
PROPOSAL: Final = canonical_json({"proposal": {"stages": [{"diff": "-  a: 1\n+  a: 2\n" * 40}] * 3, "why": "späť"}})
SHORT: Final = canonical_json({"after": {}, "execution": "exec_0123456789", "operation": "op_0123456789", "sent": 1})


def chain(rows: int) -> Iterator[AuditLine]:
    head = GENESIS
    for seq in range(1, rows + 1):
        line = AuditLine(
            seq=seq,
            at=f"2026-11-21T08:00:{seq % 60:02d}.{seq % 1_000_000:06d}Z",
            kind="stage.applied",
            actor="bot",
            incident_id=f"inc_{seq // 40:026x}",
            subject=f"prop_{seq // 20:026x}",
            sentence=f"Stage {seq % 3} of 3: applied – the receipt was found.",
            data=SHORT if seq % 20 else PROPOSAL,
            previous=head,
            hash="",
        )
        head = line.computed_hash()
        yield line._replace(hash=head)


def filled(path: Path, rows: int) -> None:
    """Fill the table in one transaction; the bot would commit a thousand times as long."""
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TRIGGER audit_in_order")  # it looks for the highest number before each row
        raw.executemany(
            "INSERT INTO audit (seq, at, kind, actor, incident_id, subject, sentence, data, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            chain(rows),
        )


def floor(path: Path) -> float:
    began = time.perf_counter()
    with closing(sqlite3.connect(path)) as raw:
        for row in raw.execute(
            "SELECT at || kind || actor || incident_id || subject || sentence || data || previous FROM audit ORDER BY seq"
        ):
            hashlib.sha256(row[0].encode()).hexdigest()
    return time.perf_counter() - began


async def verification(path: Path) -> tuple[float, ChainReport]:
    began = time.perf_counter()
    verifier = ChainVerifier()
    async with SqlStore.open(f"sqlite:///{path}", SystemClock(), read_only=True) as store:
        await verify_store(store, verifier)
    return time.perf_counter() - began, verifier.report()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "natsmedic.db"
        async with SqlStore.open(f"sqlite:///{path}", SystemClock()):
            pass
        filled(path, asked.rows)
        floors: list[float] = []
        taken: list[float] = []
        for _ in range(asked.turns):
            floors.append(floor(path))
            seconds, report = await verification(path)
            taken.append(seconds)
            if not report.intact or report.rows != asked.rows:
                raise SystemExit(f"the chain is whole and was judged: {report.reason}")
            print(f"floor {floors[-1]:6.2f} s   audit verify {seconds:6.2f} s   ratio {seconds / floors[-1]:.2f}")
    limit = TARGET_SECONDS * asked.rows / MILLION
    middle = statistics.median(taken)
    print(f"{asked.rows} rows: median {middle:.2f} s, floor {statistics.median(floors):.2f} s, at most {limit:.2f} s")
    return 0 if middle <= limit else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
