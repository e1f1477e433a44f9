"""A long audit log, verified by several processes at once: a million rows keep one of them busy for six seconds and more (tests/bench/bench_audit.py).

A slice begins behind the row that the one before it ends with, as that row stands in the database, and its rows are verified from there. Then every slice's
beginning is compared with the end of the one before. What does not verify or does not fit is left to the one verifier that goes on from there row by row:
nobody else names the first bad row.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_all_start_methods, get_context
from typing import Final

from bot.adapters.clock import SystemClock
from bot.adapters.database.store import SqlStore
from bot.errors import StoreError
from bot.flow.audit import ChainVerifier, verify_store
from bot.model import Checkpoint

ENDS_WITHIN: Final = 0.5
"""Seconds that a thread which is about to end is waited for."""
LONG: Final = 100_000
"""Rows from which it is worth the trouble: fewer are verified within a second."""
SLICE: Final = 50_000
"""Rows; so small that one process which comes late keeps the others waiting for half a second at most."""


def verify_database(url: str, verifier: ChainVerifier) -> None:
    """Give the verifier all rows that it has not had, as `verify_store` does. Raises `StoreError`.

    Processes are forked, which costs next to nothing, and so only from a process of one thread: whatever another one did would stand still in them for ever.
    The database's driver has threads of its own, so it is opened after that.
    """
    long = asyncio.run(_head(url)) - verifier.reached >= LONG
    if not long or (cores := _cores()) == 1 or "fork" not in get_all_start_methods() or not _alone():
        asyncio.run(_verify(url, verifier, None))
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("fork"), initializer=_begin) as pool:
        pool.submit(os.getpid).result()  # with the first work all processes begin
        asyncio.run(_verify(url, verifier, pool))


def _alone() -> bool:
    """Whether this is the only thread; the database's driver may need a moment to end its own after it is closed."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(ENDS_WITHIN)
            if thread.is_alive():
                return False
    return True


async def _head(url: str) -> int:
    async with SqlStore.open(url, SystemClock(), read_only=True) as store:
        newest = await store.newest_audit_lines(limit=1)
    return newest[0].seq if newest else 0


async def _verify(url: str, verifier: ChainVerifier, pool: Executor | None) -> None:
    async with SqlStore.open(url, SystemClock(), read_only=True) as store:
        if pool is not None:
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


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the process that was started; it ends these
