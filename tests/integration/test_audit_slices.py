"""A chain that is verified in slices is judged exactly as one that is verified row by row, whoever tampered with it and wherever."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

import pytest

from bot.adapters.database import SqlStore, slices
from bot.cli.session import spare_the_collector
from bot.flow.audit import ChainReport, ChainVerifier, verify_store
from bot.model import Checkpoint
from tests.exhaustive import EXHAUSTIVE, on_demand
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

TRIALS: Final = 500 if EXHAUSTIVE else 3
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


@on_demand
async def test_processes_of_their_own_verify_a_long_chain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "LONG", ROWS)
    url, seen = f"sqlite:///{path}", list[int]()
    ahead = slices.verify_ahead

    async def watched(pool: Executor, where: str, store: SqlStore, verifier: ChainVerifier) -> None:
        await ahead(pool, where, store, verifier, LENGTH)
        seen.append(verifier.reached)

    monkeypatch.setattr(slices, "verify_ahead", watched)
    verifier = ChainVerifier()
    async with SqlStore.open(url, FixedClock(), read_only=True) as store:
        await slices.verify_database(url, store, verifier, spare_the_collector)
    assert (seen, verifier.report().intact, verifier.reached) == ([ROWS], True, ROWS)
