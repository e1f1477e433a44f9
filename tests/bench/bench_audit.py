"""A million audit rows verified against the floor, in one run: `python -m tests.bench.bench_audit [--rows N] [--turns N]`.

Floor: the same rows read by the sqlite3 module, SHA-256 over their texts joined, and nothing else. Verification is what `natsmedic audit verify` runs, by the
store of the bot and as many processes as there are cores. Rows are as long as in a real log (`natsmedic audit export` shows them): most are short, and one in twenty carries a whole
proposal. Floor and verification take turns in one process, so that a shared machine disturbs both alike; the seconds of CPU, those of all processes together, tell what it has waited for. Exit code 1 where a million rows take over 10 s
(issue 6), scaled to the rows asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Self

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.database.slices import verify_database
from bot.cli.session import spare_the_collector
from bot.flow.audit import ChainReport, ChainVerifier
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


class Taken(NamedTuple):
    """Seconds on the wall, and of CPU by this process and those that it has waited for."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def since(self, began: Taken) -> Taken:
        return Taken(self.wall - began.wall, self.cpu - began.cpu)


def floor(path: Path) -> Taken:
    began = Taken.now()
    with closing(sqlite3.connect(path)) as raw:
        for row in raw.execute(
            "SELECT at || kind || actor || incident_id || subject || sentence || data || previous FROM audit ORDER BY seq"
        ):
            hashlib.sha256(row[0].encode()).hexdigest()
    return Taken.now().since(began)


async def verification(path: Path) -> tuple[Taken, ChainReport]:
    began = Taken.now()
    verifier = ChainVerifier()
    async with SqlStore.open(f"sqlite:///{path}", SystemClock(), read_only=True) as store:
        await verify_database(f"sqlite:///{path}", store, verifier, spare_the_collector)
    return Taken.now().since(began), verifier.report()


def _told(one: Taken) -> str:
    return f"{one.wall:6.2f} s ({one.cpu:.2f} s of CPU)"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    spare_the_collector()  # as every command does before its work begins
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "natsmedic.db"
        async with SqlStore.open(f"sqlite:///{path}", SystemClock()):
            pass
        filled(path, asked.rows)
        floors: list[Taken] = []
        taken: list[Taken] = []
        for _ in range(asked.turns):
            floors.append(floor(path))
            found, report = await verification(path)
            taken.append(found)
            if not report.intact or report.rows != asked.rows:
                raise SystemExit(f"the chain is whole and was judged: {report.reason}")
            ratios = f"ratio {found.wall / floors[-1].wall:.2f}, of CPU {found.cpu / floors[-1].cpu:.2f}"
            print(f"floor {_told(floors[-1])}   audit verify {_told(found)}   {ratios}")
    limit = TARGET_SECONDS * asked.rows / MILLION
    middle = statistics.median(one.wall for one in taken)
    least = statistics.median(one.wall for one in floors)
    print(f"{asked.rows} rows: median {middle:.2f} s, floor {least:.2f} s, at most {limit:.2f} s")
    return 0 if middle <= limit else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
