"""The webhook door with a real store behind it and a clock that a test moves."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bot.adapters.database import SqlStore
from bot.adapters.webhooks import parser_of, serving, webhook_app
from bot.adapters.webhooks.app import HELD_BYTES, Accepts, Handler, Health
from bot.flow.intake import Intake
from bot.flow.quota import Quota
from bot.lab.http import http_client
from bot.model import IncidentId
from bot.ports import Phase
from bot.settings import ClusterSettings, ThreadSettings, WebhookSettings
from tests.integration.store_records import FixedClock

CLUSTER = ClusterSettings.model_validate(
    {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
)


class Engine:
    """Remembers what was started; the work itself is not what these tests are about."""

    def __init__(self) -> None:
        self.diagnoses: list[str] = []

    async def start(self, phase: Phase, key: str) -> None:
        assert phase is Phase.DIAGNOSIS
        self.diagnoses.append(key)


class Chat:
    def __init__(self) -> None:
        self.nudged: list[IncidentId] = []

    def nudge(self, incident: IncidentId) -> None:
        self.nudged.append(incident)


@dataclass
class Door:
    """A served app before a real store."""

    client: httpx.AsyncClient
    store: SqlStore
    engine: Engine
    address: tuple[str, int]
    clock: FixedClock
    intake: Intake

    async def bodies(self) -> list[str]:
        return [delivery.body for delivery in await self.store.unprocessed_deliveries()]


@asynccontextmanager
async def open_door(
    folder: Path,
    settings: WebhookSettings,
    *,
    accepts: Accepts | None = None,
    health: Health | None = None,
    slack_handler: Handler | None = None,
    head_timeout: float = 5.0,
    read_timeout: float = 10.0,
    held_bytes: int = HELD_BYTES,
) -> AsyncGenerator[Door]:
    clock, engine = FixedClock(), Engine()
    async with SqlStore.open(f"sqlite:///{folder}/door.db", clock) as store:
        intake = Intake(
            store=store,
            engine=engine,
            clock=clock,
            chat=Chat(),
            clusters=(CLUSTER,),
            parsers={name: parser_of(source) for name, source in settings.sources.items()},
            max_queue=settings.max_queue,
            threads=ThreadSettings(),
            quotas={name: Quota(one.alerts_per_second, one.alerts_burst) for name, one in settings.sources.items()},
        )
        app = webhook_app(
            settings,
            accepts or intake,
            health,
            slack_handler,
            read_timeout=read_timeout,
            clock=clock,
            held_bytes=held_bytes,
        )
        async with (
            serving(app, settings.listen, head_timeout=head_timeout) as address,
            http_client(base_url=f"http://{address[0]}:{address[1]}") as client,
        ):
            yield Door(client, store, engine, address, clock, intake)


def hmac_hex(secret: str, text: str | bytes) -> str:
    """Sign as the senders do."""
    raw = text.encode() if isinstance(text, str) else text
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
