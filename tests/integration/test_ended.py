"""What DBOS remembers of ended phases, and that it forgets them when it is told to, and no others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from dbos import DBOS

from bot.adapters.database import SqlStore
from bot.adapters.engine import DbosEnded, DbosEngine
from bot.errors import StoreError
from bot.ports import Phase, Steps
from tests.integration.store_records import FixedClock

pytestmark = pytest.mark.timeout(60)


async def remembered() -> dict[str, str]:
    return {one.workflow_id: one.status for one in await DBOS.list_workflows_async()}


async def text(value: str) -> str:
    return value


async def test_the_oldest_that_ended_are_forgotten_and_what_runs_or_failed_stays(url: str) -> None:
    goes_on = asyncio.Event()

    async def phase(key: str, steps: Steps) -> None:
        await steps.run("only", partial(text, key))
        if key == "fails":
            raise ValueError(key)
        if key == "runs":
            await goes_on.wait()

    async def settled(*keys: str) -> None:
        async with asyncio.timeout(15):
            while sum(status != "PENDING" for status in (await remembered()).values()) < len(keys):
                await asyncio.sleep(0.05)

    async with SqlStore.open(url, FixedClock()):
        engine = DbosEngine(url, "replica-a", {Phase.DIAGNOSIS: phase}, retry_delays=(600.0,))
        await engine.launch()
        try:
            before = datetime.now(UTC) - timedelta(seconds=5)  # DBOS rounds to seconds on SQLite
            for place, key in enumerate(("fails", "1", "2", "3"), start=1):
                await engine.start(Phase.DIAGNOSIS, key)
                await settled(*range_of(place))
            await engine.start(Phase.DIAGNOSIS, "runs")
            ended, later = DbosEnded(url), datetime.now(UTC) + timedelta(minutes=1)
            assert await ended.forget(before, 10) == 0, "none of them had ended by then"
            assert await ended.forget(later, 2) == 2
            assert await remembered() == {
                "diagnosis:fails": "ERROR",
                "diagnosis:3": "SUCCESS",
                "diagnosis:runs": "PENDING",
            }
            assert await ended.forget(later, 2) == 1
            assert await ended.forget(later, 2) == 0
            goes_on.set()
            await settled("fails", "runs")
            assert (await remembered())["diagnosis:runs"] == "SUCCESS"
        finally:
            await engine.shutdown()


def range_of(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def test_a_database_that_cannot_be_reached_is_an_error_of_the_store() -> None:
    nobody = DbosEnded("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreError, match="could not be removed"):
        await nobody.forget(datetime.now(UTC), 10)
