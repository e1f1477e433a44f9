"""Fixtures that more than one test tier needs."""

import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bot.lab.postgres import PostgresServer, running_postgres
from bot.lab.servers import LabCluster

FIRST = ("test_healthy_clusters", "test_noticed", "test_scenarios", "test_crashes", "test_truth_table")
"""Modules whose tests take longest, the longest first."""

TIERS = ("e2e", "integration", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: a worker that begins with it last keeps everybody waiting at the end. A mutant is soonest killed the other way round."""
    items.sort(key=_rank, reverse="MUTANT_UNDER_TEST" in os.environ)


def _rank(item: pytest.Item) -> tuple[int, int]:
    module = FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST)
    tier = next((rank for rank, name in enumerate(TIERS) if name in item.path.parts), 0)
    return module, tier


LabFactory = Callable[..., Awaitable[LabCluster]]


@pytest.fixture
async def lab_cluster(tmp_path: Path) -> AsyncGenerator[LabFactory]:
    """Makes ready clusters of real nats-servers (version, then options of `LabCluster`) that end with the test."""
    async with AsyncExitStack() as running:
        started = 0

        async def start(versions: str, **options: Any) -> LabCluster:
            nonlocal started
            started += 1
            return await running.enter_async_context(LabCluster(tmp_path / f"lab{started}", versions, **options))

        yield start


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """A server for this worker's tests, started by the first that needs it."""
    with running_postgres() as server:
        yield server


_numbers = itertools.count()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Generator[str]:
    """The URL of an empty database."""
    with postgres.database(f"test_{next(_numbers)}") as url:
        yield url
