"""The durable engine beside the store in one PostgreSQL database."""

from __future__ import annotations

import asyncio
from functools import partial

import psycopg
import pytest

from bot.adapters.database import SqlStore
from bot.adapters.engine import DbosEngine
from bot.ports import Phase, Steps
from tests.integration.store_records import FixedClock, filled, incident

pytestmark = pytest.mark.timeout(60)


async def text(value: str) -> str:
    return value


async def test_the_engines_tables_lie_in_a_schema_of_their_own_beside_the_stores(postgres_url: str) -> None:
    ended = asyncio.Event()

    async def phase(key: str, steps: Steps) -> None:
        assert await steps.run("only", partial(text, key)) == "inc_1"
        ended.set()

    async with SqlStore.open(postgres_url, FixedClock()) as store:
        engine = DbosEngine(postgres_url, "replica-a", {Phase.DIAGNOSIS: phase})
        await engine.launch()
        try:
            await filled(store)
            await engine.start(Phase.DIAGNOSIS, "inc_1")
            async with asyncio.timeout(15):
                await ended.wait()
        finally:
            await engine.shutdown()
        assert await store.incidents() == [incident()]
    with psycopg.connect(postgres_url) as raw:
        found = raw.execute(
            "SELECT table_schema, count(*) FROM information_schema.tables WHERE table_name IN ('incidents', 'workflow_status') "
            "GROUP BY table_schema ORDER BY table_schema"
        ).fetchall()
    assert found == [("dbos", 1), ("public", 1)]
