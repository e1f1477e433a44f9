"""Scenes of the actions that change NATS itself, on three real servers. Each run has a stream of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg

from bot.action import RECEIPT_KEY
from bot.actions._facts import look
from bot.actions.consumer_step_down import ACTION as STEP_DOWN
from bot.actions.consumer_step_down import step_down_stage
from bot.actions.recreate import compose, read_consumer
from bot.adapters.clock import SystemClock
from bot.adapters.nats import NatsReaders, connect_cluster
from bot.errors import Refused
from bot.lab import drills
from bot.lab.config import READER, SYSREADER, SYSWRITER, WRITER, Login
from bot.lab.jetstream import consumer_views, request, section
from bot.lab.servers import LabCluster
from bot.model import ConsumerKey, JsonObject
from bot.settings import ClusterSettings
from tests.crash.proxy import Proxy
from tests.crash.scene import Lab, Scene, Situation, StageList, Where, until

API_TIMEOUT = 2.0
"""Seconds. A lost request is sent again after twice as long, so it says how long a run takes."""
PUBLISHED, PROCESSED = 10, 4
ADVISED = {"CREATED": "CREATE", "DELETED": "DELETE"}
"""The verbs of advisories, and those of the API."""
WORKER = "worker"


class NatsLab:
    """Three servers or more, and the way to them past a counter."""

    where = Where.NATS
    spent = False

    def __init__(self, folder: Path, version: str, size: int = 3) -> None:
        self.version = version
        self.cluster = LabCluster(folder, version, size=size)
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        self._readers: NatsReaders | None = None
        self._advisories: list[tuple[str, str, str]] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.cluster)
        self._client = await self.cluster.connect()
        self._stack.push_async_callback(self._client.close)
        for verb in ADVISED:
            await self._client.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.{verb}.>", cb=self._heard)
        self._readers, writers = await connect_cluster(self.settings(self.cluster.urls), SystemClock())
        self._stack.push_async_callback(self._readers.aclose)
        if writers is not None:
            await writers.aclose()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def lost(self, door: Proxy) -> int:
        """Only at the door."""
        return door.lost

    @property
    def client(self) -> Client:
        assert self._client is not None, "the lab is open"
        return self._client

    @property
    def readers(self) -> NatsReaders:
        """For composing; they do not go past the counter."""
        assert self._readers is not None, "the lab is open"
        return self._readers

    def consumers_changed(self, stream: str) -> list[str]:
        """What the servers themselves say was done to the consumers of a stream, in order: of a leader that was paused the answer may never come.

        Several members may tell of one change. It can't be made twice in a row: a consumer that is there can't be created, and one that is not can't be deleted.
        """
        told = [(verb, consumer) for verb, at, consumer in self._advisories if at == stream]
        once = [one for number, one in enumerate(told) if number == 0 or one != told[number - 1]]
        return [f"CONSUMER.{ADVISED[verb]}.{stream}.{consumer}" for verb, consumer in once]

    async def _heard(self, message: Msg) -> None:
        verb, stream, consumer = message.subject.split(".")[4:7]
        self._advisories.append((verb, stream, consumer))

    def settings(self, urls: Sequence[str]) -> ClusterSettings:
        def login(one: Login) -> JsonObject:
            return {"user": one.user, "password": one.password, "inbox_prefix": one.inbox_prefix}

        nats: JsonObject = {
            "servers": list(urls),
            "system": login(SYSREADER),
            "system_writer": login(SYSWRITER),
            "accounts": {"APP": {"reader": login(READER), "writer": login(WRITER)}},
            "timeout_seconds": API_TIMEOUT,
        }
        return ClusterSettings.model_validate({"name": self.cluster.name, "channel": "C0123456789", "nats": nats})

    def counted(self) -> Proxy:
        """A counter in front of the servers that answer now."""
        return Proxy(lambda: [_address(self.cluster.url(name)) for name in self.cluster.answering])


@asynccontextmanager
async def worked_on(lab: NatsLab, number: int) -> AsyncGenerator[ConsumerKey]:
    """A stream with a consumer that has processed some of its messages."""
    key = ConsumerKey("APP", f"RUN{number}", WORKER)
    await drills.create_stream(lab.client, key.stream, 3)
    try:
        await drills.create_consumer(lab.client, key.stream, WORKER, {"metadata": {"team": "a"}})
        await drills.publish(lab.client, key.stream, PUBLISHED)
        for message in (await drills.take(lab.client, key.stream, WORKER, PROCESSED)).values():
            await drills.acknowledge(message)
        await until(f"one position of {key} on all members", partial(_agreed, lab, key))
        yield key
    finally:
        await request(lab.client, f"STREAM.DELETE.{key.stream}")


async def _agreed(lab: NatsLab, key: ConsumerKey) -> bool:
    try:
        state = read_consumer(await look(lab.readers), key).state
    except Refused:
        return False
    return (state.floor_stream_seq, state.num_pending, state.num_ack_pending) == (PROCESSED, PUBLISHED - PROCESSED, 0)


async def position_problem(lab: NatsLab, key: ConsumerKey) -> str:
    """What is wrong with the consumer's position or group; nothing was published or fetched since."""
    views = await consumer_views(lab.cluster, key.stream, key.consumer)
    leaders = {view.leader for view in views.values()}
    if len(views) != len(lab.cluster.names) or len(leaders) != 1:
        return f"{key}: the members name {sorted(map(str, leaders))} as leader"
    info = await request(lab.client, f"CONSUMER.INFO.{key.stream}.{key.consumer}")
    waiting = int(info["num_pending"]) + int(info["num_ack_pending"])
    if waiting != PUBLISHED - PROCESSED:
        return f"{key}: {waiting} messages wait, not {PUBLISHED - PROCESSED}"
    team = section(info, "config", "metadata").get("team")
    return "" if team == "a" else f"{key}: its own metadata is gone"


@dataclass(frozen=True)
class Recreate:
    """A consumer is deleted, and created again at its position."""

    name: str = "recreate a consumer"
    kinds: Sequence[str] = ("consumer.delete", "consumer.create")
    where: Where = Where.NATS
    share: int = 6

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with worked_on(lab, number) as key, lab.counted() as proxy:
            stages = await _composed(lab, key)
            since = len(lab.consumers_changed(key.stream))
            expected = [[_effect(kind, raw)] for kind, raw in stages]

            async def problem() -> str:
                info = await request(lab.client, f"CONSUMER.INFO.{key.stream}.{key.consumer}")
                if not section(info, "config", "metadata").get(RECEIPT_KEY):
                    return f"{key} carries no receipt"
                return await position_problem(lab, key)

            yield Situation(
                cluster=lab.settings([proxy.url]),
                door=proxy,
                stages=stages,
                expected=expected,
                back=_way_back(stages),
                effects=lambda: lab.consumers_changed(key.stream)[since:],
                problem=problem,
                untouched=partial(position_problem, lab, key),
                lose=lambda what: proxy.lose.update([what]),
            )


async def _composed(lab: NatsLab, key: ConsumerKey) -> StageList:
    return compose(await look(lab.readers), key).stages


def _way_back(stages: StageList) -> list[list[str]]:
    """A consumer that is deleted and not there again is created from its copy; one that is there again stays."""
    (_, deleted), *_ = stages
    return [[_effect("consumer.create", deleted | {"config": deleted["restore"]})]]


def _effect(kind: str, raw: JsonObject) -> str:
    verb = {"consumer.delete": "DELETE", "consumer.create": "CREATE"}[kind]
    return f"CONSUMER.{verb}.{raw['stream']}.{raw['consumer']}"


@dataclass(frozen=True)
class StepDown:
    """A consumer gets another leader."""

    name: str = "move a consumer's leader"
    kinds: Sequence[str] = (STEP_DOWN.kind,)
    where: Where = Where.NATS
    share: int = 6

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with worked_on(lab, number) as key, lab.counted() as proxy:
            snapshot = await look(lab.readers)
            params = step_down_stage(snapshot, read_consumer(snapshot, key))
            yield Situation(
                cluster=lab.settings([proxy.url]),
                door=proxy,
                stages=[(STEP_DOWN.kind, params.model_dump(mode="json"))],
                expected=[[f"CONSUMER.LEADER.STEPDOWN.{key.stream}.{key.consumer}"]],
                effects=lambda: proxy.effects,
                by_itself=True,
                problem=partial(position_problem, lab, key),
                untouched=partial(position_problem, lab, key),
                lose=lambda what: proxy.lose.update([what]),
            )


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname, url
    assert parts.port, url
    return parts.hostname, parts.port


SCENES: Sequence[Scene] = (Recreate(), StepDown())
