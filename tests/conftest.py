"""Fixtures that more than one test tier needs."""

import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bot.lab.postgres import PostgresServer, running_postgres
from bot.lab.servers import LabCluster

TESTS = Path(__file__).parent

FIRST = ("test_healthy_clusters", "test_noticed", "test_scenarios", "test_crashes", "test_truth_table")
"""Modules whose tests take longest, the longest first."""

LAST = "unit"
"""The tier that only computes, and so fills the end: what waits for servers and people meets no busier machine than it makes itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: a worker that begins with it last keeps everybody waiting at the end. A mutant is soonest killed the other way round.

    Tiers that start servers are dealt evenly: several whole bots at once keep both cores busy, and later nobody would.
    """
    order = _order(items)
    items.sort(key=order.__getitem__, reverse="MUTANT_UNDER_TEST" in os.environ)


def _order(items: Sequence[pytest.Item]) -> dict[pytest.Item, tuple[float, float]]:
    """The place of each test: the long modules, then every other tier spread over the whole way, then the last one."""
    order: dict[pytest.Item, tuple[float, float]] = {}
    tiers: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.stem in FIRST:
            order[item] = (0, FIRST.index(item.path.stem))
        else:
            tiers.setdefault(item.path.relative_to(TESTS).parts[0], []).append(item)
    for tier, those in tiers.items():
        order |= {item: (2 if tier == LAST else 1, place / len(those)) for place, item in enumerate(those)}
    return order


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
