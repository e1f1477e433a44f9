"""What a scenario on Kubernetes plays in: the stand-in API server with pods that are local nats-servers, the bot, and an application that publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from bot.lab.drills import Drill
from bot.lab.http import http_client
from bot.lab.kubernetes import NatsManifest, StandInKubernetes
from bot.lab.kubernetes.front import ServiceFront
from bot.lab.kubernetes.manifests import CLIENT_PORT, MONITOR_PORT
from bot.lab.kubernetes_bot import NAME, KubernetesBot
from bot.lab.kubernetes_nats import quiet, start_nats
from bot.lab.process import LabError
from bot.model import JsonObject, part, parts

STREAM: Final = "ORDERS"
"""What the application publishes to."""
PUBLISH_EVERY: Final = 0.05
ANSWER: Final = 2.0
"""Seconds that a publisher waits for an acknowledgement before it sends the message again, under the same id."""


@dataclass
class Publisher:
    """An application that publishes with retries: what was acknowledged must be there in the end."""

    acked: set[str] = field(default_factory=set[str])
    over: bool = False

    async def run(self, client: Client) -> None:
        jetstream = JetStreamContext(client, timeout=ANSWER)
        number = 0
        while not self.over:
            number += 1
            message = f"order-{number}"
            while not self.over:
                with suppress(NatsError, TimeoutError, OSError):
                    await jetstream.publish(f"{STREAM}.new", message.encode(), headers={"Nats-Msg-Id": message})
                    self.acked.add(message)
                    break
                await asyncio.sleep(PUBLISH_EVERY)
            await asyncio.sleep(PUBLISH_EVERY)


@dataclass
class Scene:
    """Everything that runs."""

    kube: StandInKubernetes
    bot: KubernetesBot
    front: ServiceFront
    client: Client
    publisher: Publisher
    drill: Drill | None = None
    """The consumer that a scenario has broken, and what its worker still has to get."""
    publishing: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Nothing is kept between two looks: the thread and the cluster are asked each time."""

    async def application_ends(self) -> None:
        """Let the application publish no more, and wait until it has stopped."""
        self.publisher.over = True
        if self.publishing is not None:
            await self.publishing

    def containers(self) -> Mapping[str, tuple[str, int]]:
        """By pod: its uid, and how often its server was started again."""
        found: dict[str, tuple[str, int]] = {}
        for name in sorted(self.kube.pods()):
            pod = self.kube.get("Pod", name) or {}
            statuses = parts(part(pod, "status"), "containerStatuses")
            found[name] = (
                str(part(pod, "metadata").get("uid")),
                sum(int(s.get("restartCount") or 0) for s in statuses),
            )
        return found

    def ready(self, pod: str) -> bool:
        """Whether its readiness probe has let it into the Service."""
        conditions = parts(part(self.kube.get("Pod", pod) or {}, "status"), "conditions")
        return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)

    def template(self) -> JsonObject:
        """The container of nats-server in the StatefulSet's template."""
        raw = self.kube.get("StatefulSet", NAME, api_version="apps/v1") or {}
        return parts(part(part(part(raw, "spec"), "template"), "spec"), "containers")[0]

    async def routes(self) -> Mapping[str, int]:
        """By pod: how many routes its server has."""
        found: dict[str, int] = {}
        async with http_client(ANSWER) as http:
            for name in self.kube.pods():
                answer = await http.get(f"http://{self.kube.pod_address(name)}:{MONITOR_PORT}/varz")
                found[name] = int(answer.json().get("routes") or 0)
        return found


@asynccontextmanager
async def stage(
    manifest: NatsManifest, port: int, directory: Path, say: Callable[[str], None]
) -> AsyncGenerator[Scene]:
    """Start Kubernetes, servers, stand-in Slack, bot and an application that publishes."""
    async with StandInKubernetes(directory / "kubernetes") as kube:
        await start_nats(kube, manifest)
        say(f"  a stand-in Kubernetes with three pods of nats:{manifest.version}: {kube.url}")

        def pods() -> list[str]:
            found: list[str] = []
            for name in kube.pods():
                with suppress(LabError):
                    found.append(kube.pod_address(name))
            return found

        async with ServiceFront(pods, CLIENT_PORT) as front:
            bot = KubernetesBot(directory, kube, front)
            await bot.slack.start(port=port)
            try:
                async with bot:
                    await bot.start()
                    say(f"  the bot, on SQLite: natsmedic --config {bot.config} serve")
                    client = Client()
                    await client.connect(
                        bot.servers.urls[0],
                        user="app",
                        password="app",
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=1,
                        error_cb=quiet,
                    )
                    scene = Scene(kube, bot, front, client, Publisher())
                    try:
                        yield scene
                    finally:
                        await scene.application_ends()
                        await client.close()
            finally:
                await bot.slack.stop()


async def lost(scene: Scene) -> int:
    """How many of the application's acknowledged messages are not in its stream: told by what stands in them, for a count would take one that was never acknowledged for one that was."""
    jetstream = JetStreamContext(scene.client, timeout=ANSWER)
    reading = await jetstream.pull_subscribe(
        f"{STREAM}.>", stream=STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    kept: set[str] = set()
    with suppress(TimeoutError):
        while True:
            kept |= {message.data.decode() for message in await reading.fetch(500, timeout=ANSWER)}
    return len(scene.publisher.acked - kept)
