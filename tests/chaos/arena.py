"""Where the chaos happens: replicas of the bot, one PostgreSQL, one stand-in Slack, and NATS behind doors that count."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import yaml
from nats.aio.client import Client

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.lab.config import READER, SYSREADER, WRITER
from bot.lab.http import http_client
from bot.lab.postgres import PostgresServer, running_postgres
from bot.lab.process import LabError, watch_over
from bot.lab.servers import LabCluster
from bot.lab.slack import Channel, Message, StandInSlack, User
from bot.lab.whole import START_SECONDS, BotProcess, login
from bot.model import JsonObject, RiskClass
from bot.settings import GroupSettings, PolicySettings
from tests.crash.proxy import Proxy

VERSION: Final = "2.15.1"
"""The one that knows every small change of a consumer."""
DATABASE: Final = "chaos"
API_TIMEOUT: Final = 1.5
"""Seconds. A lost request is sent again after twice as long, so it says how long a repair takes."""
PATIENCE: Final = 10.0
"""Seconds that Slack waits for an answer, and a click for its form: instead of three, which a machine that runs all this besides may take."""
OURS: Final = ("-m", "tests.chaos.replica")
NEWER: Final = (*OURS, "--newer")
"""Programs of a replica: this natsmedic, and one of a version to come."""
RISE_SECONDS: Final = 3 * START_SECONDS
"""Others rise at the same time."""
RESTART_SECONDS: Final = 1.0
"""Until a replica that ended by itself is started again, as Kubernetes does."""
POST_SECONDS: Final = 5.0
"""What a sender of webhooks waits for an answer; Alertmanager waits 10."""


@dataclass(frozen=True)
class Crew:
    """The two people who decide about the repairs of one worker, so that no two forms of a person are open at once."""

    operator: str
    owner: str


def crews(count: int) -> list[Crew]:
    """Return so many."""
    return [Crew(f"U0OPERATOR{number}", f"U0OWNER{number}") for number in range(count)]


def rules(people: Sequence[Crew]) -> PolicySettings:
    """Return who may approve, as the replicas' settings say it."""
    return PolicySettings(
        groups={
            "operators": GroupSettings(users=tuple(crew.operator for crew in people)),
            "owners": GroupSettings(users=tuple(crew.owner for crew in people)),
        },
        approvers={
            RiskClass.LOW: ("operators",),
            RiskClass.MEDIUM: ("operators",),
            RiskClass.DESTRUCTIVE: ("operators", "owners"),
        },
    )


@dataclass(frozen=True)
class Site:
    """What the bot takes for a NATS cluster of its own, with a lock and a channel: a door of its own to three servers that all sites share."""

    name: str
    channel: str
    door: Proxy
    client: Client
    """The harness's own way in, past the door."""


class Replica(BotProcess):
    """One bot, which starts again by itself where it ends by itself, each time with the next of its programs."""

    def __init__(
        self,
        directory: Path,
        cluster: LabCluster,
        slack: StandInSlack,
        sections: JsonObject,
        programs: Iterable[Sequence[str]] = (OURS,),
    ) -> None:
        super().__init__(directory, cluster, slack, sections)
        self._programs = itertools.cycle(programs)
        self.ended: list[int] = []
        """Exit codes of the times that it ended by itself."""
        self._down = False
        self._watch: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        """Start it, and again whenever it ends without having been killed, until cancelled."""
        while True:
            if not self._down and not self.alive:
                if self._process is not None and self._process.returncode is not None and self._process.returncode >= 0:
                    self.ended.append(self._process.returncode)
                await self._spawn()
            await asyncio.sleep(RESTART_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; it stays away until `rise`."""
        self._down = True
        await super().kill()

    async def rise(self) -> None:
        """Start again where it was killed, and wait until it serves. Raises TimeoutError."""
        self._down = False
        async with asyncio.timeout(RISE_SECONDS):
            while not await self.serves():
                await asyncio.sleep(RESTART_SECONDS / 4)

    async def serves(self) -> bool:
        """Whether it lives and is ready."""
        if not self.alive:
            return False
        try:
            async with http_client(timeout=2) as client:
                return (await client.get(f"{self.url}/readyz")).is_success
        except httpx.TransportError:
            return False

    async def stop(self) -> int | None:
        """SIGKILL and reap: what an orderly end does is not what is tested here."""
        await self.kill()
        await self._release()
        return None

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _spawn(self) -> None:
        await self._release()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(self.settings(), sort_keys=False))
        with (self.directory / "natsmedic.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *next(self._programs), "--config", str(self.config), "serve"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self._watch = await watch_over(self._process)

    async def _release(self) -> None:
        """End the watch of a process that was reaped."""
        if self._watch is not None and self._watch.returncode is None:
            self._watch.kill()
            await self._watch.wait()


class Arena:
    """Everything, from the first server to the last; an async context manager. `people` are the crews that decide.

    Where it is `mixed`, each replica is of the other version after each start, but for the last one, which is the newer always.
    """

    def __init__(
        self, folder: Path, *, replicas: int, sites: int, people: Sequence[Crew], seed: int, mixed: bool = False
    ) -> None:
        self.people = people
        self._mixed = mixed
        self._folder = folder
        self._counts = replicas, sites
        self._dice = random.Random(f"arena {seed}")
        self._stack = AsyncExitStack()
        self._channels = [Channel(f"C0CHAOS{number}", f"chaos-{number}") for number in range(sites)]
        everybody = [person for crew in people for person in (crew.operator, crew.owner)]
        users = [User(person, person.lower()) for person in everybody]
        self.slack = StandInSlack(users, self._channels, rate_limits=False, ack_timeout_s=PATIENCE)
        self.slack.workspace.trigger_life_s = PATIENCE
        self.delivered: Counter[str] = Counter()
        """Webhooks that were answered 2xx, clicks and forms that were sent, each copy of them."""
        self.places: list[Site] = []
        self.victims: list[Replica] = []
        self._server: PostgresServer | None = None
        self._store: SqlStore | None = None

    @property
    def sites(self) -> int:
        """How many NATS clusters there are."""
        return len(self.places)

    @property
    def store(self) -> SqlStore:
        """The bots' records, for reading."""
        assert self._store is not None, "the arena is open"
        return self._store

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        # No power is cut here: what the server has given to the kernel survives each of its ends.
        self._server = self._stack.enter_context(running_postgres())
        url = self._stack.enter_context(self._server.database(DATABASE))
        await self._stack.enter_async_context(self.slack)
        replicas, sites = self._counts
        cluster = LabCluster(self._folder / "nats", VERSION)
        await self._stack.enter_async_context(cluster)
        client = await cluster.connect()
        self._stack.push_async_callback(client.close)
        self.places = [await self._site(number, cluster, client) for number in range(sites)]
        sections = self._sections(url)
        for number in range(replicas):
            programs = [OURS] if not self._mixed else [NEWER] if number == replicas - 1 else [OURS, NEWER]
            replica = Replica(self._folder / f"replica{number}", cluster, self.slack, sections, programs)
            self._stack.push_async_callback(replica.stop)
            self.victims.append(replica)
        # One after the other: the first one makes the tables.
        group = await self._stack.enter_async_context(_Background())
        for replica in self.victims:
            group.add(replica.keep())
            await replica.rise()
        self._store = await self._stack.enter_async_context(SqlStore.open(url, SystemClock(), read_only=True))

    async def _site(self, number: int, cluster: LabCluster, client: Client) -> Site:
        door = Proxy(lambda: [_address(url) for url in cluster.urls])
        await self._stack.enter_async_context(door)
        return Site(f"chaos{number}", self._channels[number].id, door, client)

    def _sections(self, url: str) -> JsonObject:
        """What differs from the lab's own settings: many clusters, people of our own, and no limits on how much is changed."""
        return {
            "database": {"url": url},
            "clusters": [_cluster_settings(site) for site in self.places],
            "policy": rules(self.people).model_dump(mode="json", exclude_defaults=True),
            "limits": {"per_hour": 1_000_000, "rest_seconds": 0, "failures": 1_000, "block_seconds": 0},
            "threads": {"storm_incidents": 1_000},
        }

    # --- what the nemesis does ---------------------------------------------------------------------------------------

    async def restart_database(self) -> None:
        """End all sessions at once and start again. Cancelled, it comes to its end all the same."""
        assert self._server is not None, "the arena is open"
        restart = asyncio.create_task(asyncio.to_thread(self._server.restart))
        try:
            await asyncio.shield(restart)
        except asyncio.CancelledError:
            await restart
            raise

    def lose(self, site: int) -> None:
        """Keep the answer to the next change of this cluster."""
        self.places[site].door.lose[""] = 1

    def heal(self) -> None:
        """Lose nothing more."""
        for site in self.places:
            site.door.lose.clear()

    # --- what people and senders do ----------------------------------------------------------------------------------

    async def alert(self, site: Site, name: str, labels: dict[str, str], *, state: str = "firing") -> None:
        """Send one alert until a replica, any of them, has answered 2xx."""
        everything = labels | {"cluster": site.name}
        fingerprint = json.dumps(everything, sort_keys=True)
        while True:
            replica = self._dice.choice(self.victims)
            with suppress(httpx.TransportError, TimeoutError):
                async with asyncio.timeout(POST_SECONDS):
                    answer = await replica.alert(name, state=state, labels=everything, fingerprint=fingerprint)
                if answer.is_success:
                    self.delivered["webhooks"] += 1
                    return
            await asyncio.sleep(self._dice.uniform(0.1, 1.0))

    def message(self, channel: str, key: str, containing: str = "", since: str = "") -> Message | None:
        """Return the newest message of the bot whose key begins so; `since` is a ts before which none is looked for."""
        for ts, message in reversed(self.slack.workspace.messages[channel].items()):
            if ts < since:
                return None
            if key_of(message).startswith(key) and not message.deleted and containing in json.dumps(message.blocks):
                return message
        return None

    async def unlock(self, site: Site) -> None:
        """Give the lock of a cluster back, as a person who has looked does in a terminal."""
        code, said = await self.victims[0].command("unlock", site.name, "--reason", "the harness has looked")
        if code != 0 and "there is no lock" not in said:
            raise LabError(f"unlock ended with {code}: {said}")


class _Background:
    """Tasks that last as long as the block; what ended one of them before is raised at its end."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, work: Coroutine[object, object, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


def key_of(message: Message) -> str:
    """The key that the bot gave the message."""
    return "" if message.metadata is None else str(message.metadata["event_payload"]["key"])


def _cluster_settings(site: Site) -> JsonObject:
    nats: JsonObject = {
        "servers": [site.door.url],
        "system": login(SYSREADER),
        "accounts": {"APP": {"reader": login(READER), "writer": login(WRITER)}},
        "timeout_seconds": API_TIMEOUT,
    }
    return {"name": site.name, "channel": site.channel, "nats": nats, "advisories": {"enabled": False}}


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname, url
    assert parts.port, url
    return parts.hostname, parts.port
