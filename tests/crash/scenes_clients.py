"""The scene of letting clients go: real workers on one server, which connect to the others once they are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.client import Client

from bot.actions.clients_shed import NEEDS, Shed
from bot.actions.shedding import Pace, compose_shed
from bot.lab.config import APP
from bot.model.clients import ClientKind, Selection, clients_of
from tests.crash.scene import Lab, Scene, Situation, Where, until
from tests.crash.scenes_nats import NatsLab

CROWDED = "n0"
WORKERS, SHARE = 30, 10
"""On a cluster of three servers, so 20 are too many: the fewest that a slice has."""
PACE = Pace(per_second=50.0, slice=20, most=20, cpu=100.0, waiting=10_000)
"""How busy this machine is must not decide whether a server may take clients."""


@asynccontextmanager
async def workers(lab: NatsLab, name: str) -> AsyncGenerator[None]:
    """Clients of that name on the crowded server that know the others."""
    servers = dict.fromkeys((CROWDED, *lab.cluster.names))
    urls = [lab.cluster.url(server).replace("://", f"://{APP.user}:{APP.password}@") for server in servers]
    clients = [Client() for _ in range(WORKERS)]

    async def quiet(error: Exception) -> None:
        del error

    async def arrive(client: Client) -> None:
        await client.connect(
            servers=list(urls),
            name=name,
            dont_randomize=True,
            error_cb=quiet,
            reconnect_time_wait=0,
            max_reconnect_attempts=-1,
        )

    try:
        await asyncio.gather(*map(arrive, clients))
        yield
    finally:
        await asyncio.gather(*(client.close() for client in clients))


@dataclass(frozen=True)
class LetGo:
    """One slice of clients leaves a crowded server."""

    name: str = "let clients go"
    kinds: Sequence[str] = (Shed.kind,)
    where: Where = Where.NATS
    share: int = 3

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        name = f"RUN{number}"
        selection = Selection(kinds=(ClientKind.NATS,), account="APP", name=name)

        async def there() -> int:
            own = clients_of(await lab.readers.gather(NEEDS), CROWDED)
            return sum(row.fits(selection) for row in own.rows) if own is not None else -1

        async def crowded() -> bool:
            return await there() == WORKERS

        async def problem() -> str:
            count = await there()
            return "" if SHARE <= count < WORKERS else f"{CROWDED} has {count} of {WORKERS} workers"

        async def untouched() -> str:
            count = await there()
            return "" if count == WORKERS else f"{CROWDED} has {count} of {WORKERS} workers"

        async with workers(lab, name), lab.counted() as proxy:
            await until("all workers on one server", crowded)
            ((kind, raw),) = compose_shed(await lab.readers.gather(NEEDS), CROWDED, selection, PACE).stages
            # A notice would only make each run ten seconds longer; its requests change nothing.
            stage = raw | {"notice": 0.0}
            one = f"SERVER.{raw['server_id']}.KICK"
            yield Situation(
                cluster=lab.settings([proxy.url]),
                door=proxy,
                stages=[(kind, stage)],
                expected=[[one] * len(raw["cids"])],
                effects=lambda: proxy.effects,
                problem=problem,
                untouched=untouched,
                lose=lambda what: proxy.lose.update([what]),
            )


SCENES: Sequence[Scene] = (LetGo(),)
