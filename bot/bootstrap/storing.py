"""The database alone, for commands that only read or write records: it loads neither Slack nor the engine, which takes a second."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.ports import UNMETERED, Meter
from bot.settings import Settings


@asynccontextmanager
async def open_store(
    settings: Settings, *, read_only: bool = False, meter: Meter = UNMETERED
) -> AsyncGenerator[SqlStore]:
    """Open the configured database, for reading beside a serving process or for serving."""
    async with SqlStore.open(settings.database.url, SystemClock(), read_only=read_only, meter=meter) as store:
        yield store
