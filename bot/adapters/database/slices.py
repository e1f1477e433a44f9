"""A long audit log, verified by several processes at once: a million rows keep one of them busy for six seconds and more (tests/bench/bench_audit.py).

A slice begins behind the row that the one before it ends with, as that row stands in the database, and its rows are verified from there. Then every slice's
beginning is compared with the end of the one before. What does not verify or does not fit is left to the one verifier that goes on from there row by row:
nobody else names the first bad row.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Final

from bot.adapters.clock import SystemClock
from bot.adapters.database.store import SqlStore
from bot.errors import StoreError
from bot.flow.audit import ChainVerifier, verify_store
from bot.model import Checkpoint

LONG: Final = 200_000
"""Rows from which it pays: a process takes a second and more until it reads its first row, and verifies more than 100,000 in the next."""
SLICE: Final = 50_000
"""Rows; so small that one process which comes late keeps the others waiting for half a second at most."""


async def verify_database(url: str, store: SqlStore, verifier: ChainVerifier, prepare: Callable[[], None]) -> None:
    """Give the verifier all rows that it has not had, as `verify_store` does. `prepare` is run in every process that helps, and must be importable there."""
    newest = await store.newest_audit_lines(limit=1)
    if newest and newest[0].seq - verifier.reached >= LONG and (cores := _cores()) > 1:
        async with _processes(cores, prepare) as pool:
            await verify_ahead(pool, url, store, verifier)
    await verify_store(store, verifier)


async def verify_ahead(pool: Executor, url: str, store: SqlStore, verifier: ChainVerifier, length: int = SLICE) -> None:
    """Let the pool verify slices of so many rows, and take over what does verify, up to the first row that does not."""
    bounds = await _bounds(store, verifier, length)
    loop = asyncio.get_running_loop()
    running: list[asyncio.Future[Checkpoint]] = []
    try:
        running += [loop.run_in_executor(pool, verified, url, start, end.seq) for start, end in pairwise(bounds)]
        for start, end in zip(bounds, running, strict=False):
            if not verifier.advance(start, await end):
                return
    except BrokenExecutor:
        return  # a process was killed: what it has not verified is verified here
    finally:
        for one in running:
            one.cancel()


def verified(url: str, start: Checkpoint, last: int) -> Checkpoint:
    """Verify in a process or thread of its own, as `verified_here`."""
    return asyncio.run(verified_here(url, start, last))


async def verified_here(url: str, start: Checkpoint, last: int) -> Checkpoint:
    """Verify the rows behind `start` up to `last`, and return the last of those that verify without a gap."""
    verifier = ChainVerifier(after=start)
    try:
        async with SqlStore.open(url, SystemClock(), read_only=True) as store:
            await verify_store(store, verifier, last=last)
    except StoreError:
        return start  # the verifier that goes on from here hears of it itself, if it lasts
    return verifier.report().head


async def _bounds(store: SqlStore, verifier: ChainVerifier, length: int) -> Sequence[Checkpoint]:
    """Return where slices begin and end, up to the first row that is missing. A checkpoint of the verifier is such a place, so that it is compared."""
    newest = await store.newest_audit_lines(limit=1)
    end = newest[0].seq if newest else 0
    places = {*range(verifier.reached + length, end, length), end}
    if verifier.checkpoint is not None and verifier.reached < verifier.checkpoint.seq < end:
        places.add(verifier.checkpoint.seq)
    found = [verifier.report().head]
    for seq in sorted(places):
        line = await store.audit_line(seq)
        if line is None:
            break
        found.append(Checkpoint(seq=line.seq, hash=line.hash))
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@asynccontextmanager
async def _processes(count: int, prepare: Callable[[], None]) -> AsyncGenerator[Executor]:
    # Spawned: this process has threads of the database's driver, which a fork would leave behind in the middle of whatever they do.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(prepare,))
    try:
        yield pool
    finally:
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _begin(prepare: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the process that was started; it ends these
    prepare()
