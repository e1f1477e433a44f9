"""A chain that is verified in slices is judged exactly as one that is verified row by row, whoever tampered with it and wherever."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

import pytest

from bot.adapters.database import SqlStore, slices
from bot.flow.audit import ChainReport, ChainVerifier, verify_store
from bot.model import Checkpoint
from tests.exhaustive import EXHAUSTIVE
from tests.integration.store_records import FixedClock
from tests.integration.test_store_audit import (
    KEPT_AT,
    ROWS,
    cut,
    delete,
    edit,
    insert,
    path,
    reorder,
    rewrite,
    tampered,
)

__all__ = ["path"]

HOME: Final = Path(slices.__file__).parents[3]
TRIALS: Final = 100 if EXHAUSTIVE else 3
"""Of each kind of tampering."""
LENGTH: Final = 7
"""Rows of a slice, so that a chain of 40 has five and a rest, and a checkpoint in the midst of one."""
Tamper = Callable[[sqlite3.Connection, random.Random], str]


async def by_rows(store: SqlStore, kept: Checkpoint | None) -> ChainReport:
    verifier = ChainVerifier(kept)
    await verify_store(store, verifier)
    return verifier.report()


async def by_slices(store: SqlStore, url: str, kept: Checkpoint | None, pool: Executor) -> tuple[int, ChainReport]:
    """Return how far the slices came, and the whole verdict."""
    verifier = ChainVerifier(kept)
    await slices.verify_ahead(pool, url, store, verifier, LENGTH)
    reached = verifier.reached
    await verify_store(store, verifier)
    return reached, verifier.report()


@pytest.mark.parametrize("tamper", [edit, delete, reorder, insert, cut, rewrite])
async def test_whatever_was_done_to_a_chain_the_verdict_is_that_of_row_by_row(path: Path, tamper: Tamper) -> None:
    url = f"sqlite:///{path}"
    with ThreadPoolExecutor(2) as pool:
        async with SqlStore.open(url, FixedClock(), read_only=True) as store:
            line = await store.audit_line(KEPT_AT)
            assert line is not None
            kept = Checkpoint(seq=line.seq, hash=line.hash)
            for done in tampered(path, tamper, random.Random(20261127), TRIALS):
                for one in (None, kept):
                    expected = await by_rows(store, one)
                    reached, found = await by_slices(store, url, one, pool)
                    assert found == expected, done
                    assert reached <= expected.rows, "no slice vouches for more than is whole"


@pytest.mark.parametrize("kept_at", [None, 1, LENGTH, LENGTH + 1, ROWS])
async def test_a_whole_chain_is_verified_by_its_slices_alone(path: Path, kept_at: int | None) -> None:
    url = f"sqlite:///{path}"
    with ThreadPoolExecutor(2) as pool:
        async with SqlStore.open(url, FixedClock(), read_only=True) as store:
            line = await store.audit_line(kept_at or 1)
            assert line is not None
            kept = Checkpoint(seq=line.seq, hash=line.hash) if kept_at is not None else None
            reached, report = await by_slices(store, url, kept, pool)
    assert (reached, report.rows, report.intact) == (ROWS, ROWS, True)
    assert report.checkpoint_matched is (True if kept_at is not None else None)


class Killed(Executor):
    """Processes that die at the first question."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        del fn, args, kwargs
        found: Future[Any] = Future()
        found.set_exception(BrokenProcessPool("killed"))
        return found


async def test_what_killed_processes_have_not_verified_is_verified_without_them(path: Path) -> None:
    url = f"sqlite:///{path}"
    async with SqlStore.open(url, FixedClock(), read_only=True) as store:
        assert await by_slices(store, url, None, Killed()) == (0, await by_rows(store, None))


async def test_a_slice_whose_database_is_gone_vouches_for_nothing(tmp_path: Path) -> None:
    start = Checkpoint(seq=3, hash="a" * 64)
    assert await slices.verified_here(f"sqlite:///{tmp_path}/gone.db", start, 9) == start


FORKING: Final = """
import sys, threading, time
from bot.adapters.database import slices
from bot.flow.audit import ChainVerifier
ahead, head = slices.verify_ahead, slices._head
async def left_a_thread(url):
    found = await head(url)
    threading.Thread(target=time.sleep, args=[0.2]).start()
    return found
async def watched(pool, url, store, verifier):
    await ahead(pool, url, store, verifier, 7)
    print(verifier.reached)
slices.LONG, slices._cores, slices.verify_ahead, slices._head = 40, lambda: 2, watched, left_a_thread
verifier = ChainVerifier()
slices.verify_database(sys.argv[1], verifier)
print(verifier.report().reason)
"""
"""In a process of its own: this one has threads, and so would not fork. That of the database's driver ends late, as it does on a busy machine."""


def test_forked_processes_verify_a_long_chain(path: Path) -> None:
    command = [sys.executable, "-c", FORKING, f"sqlite:///{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=HOME)
    assert (done.stdout.split("\n")[:2], done.returncode) == ([str(ROWS), f"All {ROWS} rows verify."], 0), done.stderr


def test_a_process_of_several_threads_forks_none_and_verifies_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "LONG", ROWS)
    monkeypatch.setattr(slices, "_cores", lambda: 2)
    monkeypatch.setattr(slices, "ProcessPoolExecutor", None)
    verifier = ChainVerifier()
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        slices.verify_database(f"sqlite:///{path}", verifier)
    finally:
        over.set()
        other.join()
    assert verifier.report().reason == f"All {ROWS} rows verify."
