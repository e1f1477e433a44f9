"""Turns are given by rank, to as many at once as are allowed, and none is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from bot.flow.turns import Turns


async def rest() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("most", "running"), [(1, 1), (2, 2), (3, 3), (4, 3)])
async def test_so_many_run_at_once_and_no_more(most: int, running: int) -> None:
    turns, gate, seen = Turns(most), asyncio.Event(), 0

    async def one() -> None:
        nonlocal seen
        async with turns.turn(0):
            seen += 1
            await gate.wait()

    tasks = [asyncio.create_task(one()) for _ in range(3)]
    await rest()
    assert seen == running
    gate.set()
    await asyncio.gather(*tasks)
    assert seen == 3


async def test_the_lowest_rank_goes_first_and_of_one_rank_whoever_has_waited_longest() -> None:
    turns, order = Turns(1), list[str]()

    async def one(name: str, rank: int) -> None:
        async with turns.turn(rank):
            order.append(name)
            await asyncio.sleep(0)

    named = [("first", 2), ("rest", 2), ("rest, later", 2), ("page", 1), ("asked", 0), ("page, later", 1)]
    await asyncio.gather(*(one(name, rank) for name, rank in named))
    assert order == ["first", "asked", "page", "page, later", "rest", "rest, later"]


@pytest.mark.parametrize("called", [False, True])
async def test_a_turn_is_not_lost_with_whoever_gives_up_waiting_for_it(called: bool) -> None:
    turns, gate = Turns(1), asyncio.Event()

    async def holds() -> None:
        async with turns.turn(0):
            await gate.wait()

    async def waits() -> str:
        async with turns.turn(0):
            return "had its turn"

    holder, gone, last = (asyncio.create_task(one) for one in (holds(), waits(), waits()))
    await rest()
    if called:
        gate.set()
        while not holder.done():
            await asyncio.sleep(0)
    gone.cancel()
    gate.set()
    with suppress(asyncio.CancelledError):
        await gone
    assert await asyncio.wait_for(last, 1) == "had its turn"
    async with asyncio.timeout(1), turns.turn(0):
        pass


async def test_a_failure_gives_the_turn_back() -> None:
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError):
        async with turns.turn(0):
            raise ZeroDivisionError
    async with asyncio.timeout(1), turns.turn(0):
        pass
