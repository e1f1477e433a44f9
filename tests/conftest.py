"""Fixtures that more than one test tier needs."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bot.lab.servers import LabCluster

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
