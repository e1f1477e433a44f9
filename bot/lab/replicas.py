"""Several bots on one PostgreSQL and one Slack: which of them is at a repair, and what becomes of it when that one is killed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import psycopg

from bot.lab.process import LabError
from bot.lab.whole import BotProcess, Twin

AT_IT: Final = (
    "SELECT executor_id FROM dbos.workflow_status WHERE name LIKE 'natsmedic_execution_%' AND status = 'PENDING'"
)
"""The replicas that run an execution, as the engine knows them (docs.dbos.dev, system tables)."""


class Replicas:
    """All bots of one database, the first one among them. They run already."""

    def __init__(self, url: str, bots: Sequence[BotProcess]) -> None:
        self.bots = tuple(bots)
        self._url = url

    async def at_it(self) -> BotProcess | None:
        """Return a bot that runs an execution now, None where none does; one that died counts until another has taken over from it."""
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as raw:
            found = {str(name) for (name,) in await (await raw.execute(AT_IT)).fetchall()}
        return next((bot for bot in self.bots if name_of(bot) in found), None)


def name_of(bot: BotProcess) -> str:
    """Return the name under which a bot serves since its last start, as its log says. Raises `LabError` where it says none."""
    for line in reversed(bot.log.splitlines()):
        if "natsmedic serves" in line:
            return str(json.loads(line)["replica"])
    raise LabError(f"the bot of {bot.directory} has not said that it serves")


@asynccontextmanager
async def beside(first: BotProcess, url: str, count: int) -> AsyncGenerator[Replicas]:
    """Start more bots beside the first, which runs with this database, until there are so many."""
    async with AsyncExitStack() as stack:
        bots = [first]
        for number in range(2, count + 1):
            twin = await stack.enter_async_context(Twin(first, first.directory / f"replica{number}"))
            await twin.start()
            bots.append(twin)
        yield Replicas(url, bots)
