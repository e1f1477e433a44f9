"""The end of a process: in its order, within its grace, at once where it is asked twice."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from bot.bootstrap.leaving import CLOSING_SHARE, Leaving

GRACE = 0.5


async def ended(leaving: Leaving, within: float = 5.0) -> float:
    """Wait until it may close; return the seconds that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait_for(leaving.gone.wait(), within)
    return loop.time() - began


async def test_it_is_not_ready_from_the_moment_it_is_asked_and_finishes_its_parts_in_their_order() -> None:
    leaving, order = Leaving(GRACE), list[str]()

    async def part(name: str, patience: float) -> None:
        assert leaving.problems == ("natsmedic is ending.",)
        assert 0 < patience <= GRACE * (1 - CLOSING_SHARE)
        order.append(name)

    async with leaving.after(lambda left: part("phases", left), lambda left: part("threads", left)):
        assert leaving.problems == ()
        await asyncio.sleep(0)
        assert (order, leaving.gone.is_set()) == ([], False)
        leaving.ask()
        assert await ended(leaving) < GRACE
    assert order == ["phases", "threads"]


async def test_a_part_that_fails_keeps_no_other_from_finishing() -> None:
    leaving, done = Leaving(GRACE), list[float]()

    async def fails(patience: float) -> None:
        raise RuntimeError(f"a defect after {patience}")

    async def works(patience: float) -> None:
        done.append(patience)

    async with leaving.after(fails, works):
        leaving.ask()
        await ended(leaving)
    assert len(done) == 1


async def test_what_one_part_has_used_the_next_one_has_not() -> None:
    leaving, left = Leaving(GRACE), list[float]()

    async def slow(patience: float) -> None:
        left.append(patience)
        await asyncio.sleep(patience)

    async with leaving.after(slow, slow):
        leaving.ask()
        assert await ended(leaving) < GRACE
    assert left[0] > 0.9 * GRACE * (1 - CLOSING_SHARE)
    assert left[1] < 0.1 * GRACE


async def test_asked_twice_it_waits_for_nothing_more() -> None:
    leaving = Leaving(60.0)
    begun = asyncio.Event()

    async def hangs(_patience: float) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with leaving.after(hangs):
        leaving.ask()
        await begun.wait()
        assert not leaving.gone.is_set()
        leaving.ask()
        assert await ended(leaving) < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_and_what_hangs_until_the_grace_is_over_is_left(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = threading.Event()
    monkeypatch.setattr("bot.bootstrap.leaving.give_up", left.set)
    leaving = Leaving(0.1)
    with leaving.on_signals():
        os.kill(os.getpid(), number)
        await asyncio.wait_for(leaving.said.wait(), 5)
        assert await asyncio.to_thread(left.wait, 5)


async def test_a_process_that_closes_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    monkeypatch.setattr("bot.bootstrap.leaving.give_up", left.set)
    leaving = Leaving(0.1)
    with leaving.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(leaving.said.wait(), 5)
    assert not await asyncio.to_thread(left.wait, 0.2)
