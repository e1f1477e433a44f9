"""Demo scenarios on Kubernetes: the stand-in API server with pods that are local nats-servers, the bot with the roles of deploy/, and an incident.

Each scenario breaks something, lets the alert of that incident come in, has one operator approve the repair, and proves it: nothing acknowledged is lost,
and the cluster is as the proposal said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from bot.lab.drills import create_stream
from bot.lab.kubernetes import NatsManifest, Routes, StandInKubernetes
from bot.lab.kubernetes.front import ServiceFront
from bot.lab.kubernetes.manifests import CLIENT_PORT
from bot.lab.kubernetes_bot import NAME, NAMESPACE, KubernetesBot
from bot.lab.kubernetes_nats import start_nats
from bot.lab.process import LabError
from bot.lab.slack import Message
from bot.lab.whole import ADA, CHANNEL, VERIFIED_BOARD
from bot.model import JsonObject, part, parts

STREAM: Final = "ORDERS"
PUBLISH_EVERY: Final = 0.05
ANSWER: Final = 2.0
"""Seconds that a publisher waits for an acknowledgement before it sends the message again, under the same id."""
REPAIR_SECONDS: Final = 300.0
CONFIG_ARRIVES: Final = 2.0
"""Seconds in which a changed ConfigMap has reached every pod of the stand-in."""
CATCHES_UP: Final = 12.0
"""Seconds after which every group counts a restarted server as current again (reference/drills.md 3.1)."""
MESH_SETTLES: Final = 6.0
"""Seconds in which servers that look for each other by one name have dialled what they dial."""


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

    def template(self) -> JsonObject:
        """The container of nats-server in the StatefulSet's template."""
        raw = self.kube.get("StatefulSet", NAME, api_version="apps/v1") or {}
        return parts(part(part(part(raw, "spec"), "template"), "spec"), "containers")[0]

    async def routes(self) -> Mapping[str, int]:
        """By pod: how many routes its server has."""
        import httpx  # noqa: PLC0415 - only this scenario asks a monitoring port

        found: dict[str, int] = {}
        async with httpx.AsyncClient(timeout=ANSWER) as http:
            for name in self.kube.pods():
                answer = await http.get(f"http://{self.kube.pod_address(name)}:8222/varz")
                found[name] = int(answer.json().get("routes") or 0)
        return found


@dataclass(frozen=True)
class Scenario:
    """One incident."""

    told: str
    manifest: NatsManifest
    alert: str
    wanted: str
    """What the title of the proposal to approve begins with."""
    happens: Callable[[Scene], Awaitable[str]]
    """Breaks something and says what, in one line."""
    proof: Callable[[Scene], Awaitable[str]]
    """Says what is proven, in one line. Raises `LabError` where it is not so."""


async def _mesh_breaks(scene: Scene) -> str:
    """Somebody writes the headless service as the only route, and the servers are started anew, until they land unevenly."""
    scene.kube.apply([_ONE_NAME.config_map()])
    for _ in range(20):
        await asyncio.sleep(CONFIG_ARRIVES)
        await _restart_all(scene)
        await asyncio.sleep(MESH_SETTLES)
        routes = await scene.routes()
        if len(set(routes.values())) > 1 or min(routes.values()) < _COMPLETE:
            told = ", ".join(f"{name} {count}" for name, count in sorted(routes.items()))
            return f"all servers dial the one name nats-headless, and land anywhere: routes are {told} instead of {_COMPLETE} each"
    raise LabError("the mesh came out complete 20 times in a row, which one headless name does not do")


_COMPLETE: Final = 8
"""Routes of each of three servers: three of the pool and one of the system account, to each other (reference/nats.md 6)."""


async def _restart_all(scene: Scene) -> None:
    for name in scene.kube.pods():
        scene.kube.kill_pod(name)
    await scene.kube.wait_ready(NAME)


async def _mesh_is_complete(scene: Scene) -> str:
    routes = await scene.routes()
    if set(routes.values()) != {_COMPLETE}:
        raise LabError(f"the mesh is not complete: {routes}")
    restarted = {name for name, (_, count) in scene.containers().items() if count}
    return f"every server has its {_COMPLETE} routes, and no server was restarted for it" + (
        f" ({', '.join(sorted(restarted))} was before)" if restarted else ""
    )


async def _back(scene: Scene) -> None:
    """Wait until every pod is ready and has caught up: an alert comes minutes after the fact, and nothing is rolled before."""
    await asyncio.sleep(1)
    await scene.kube.wait_ready(NAME)
    await asyncio.sleep(CATCHES_UP)


async def _pod_dies(scene: Scene) -> str:
    scene.kube.kill_pod("nats-1")
    await _back(scene)
    return "nats-1 was killed and catches up; its readiness probe asks js-server-only, which 2.10 fails while it is behind the meta leader"


async def _probe_is_relaxed(scene: Scene) -> str:
    path = part(part(scene.template(), "readinessProbe"), "httpGet").get("path")
    if path != "/healthz?js-enabled-only=true":
        raise LabError(f"the readiness probe still asks {path}")
    await _all_new(scene)
    return f"the readiness probe asks {path}, and every pod runs with it"


async def _memory_runs_out(scene: Scene) -> str:
    scene.kube.kill_pod("nats-2", oom=True)
    await _back(scene)
    return "the kernel killed nats-2 (OOMKilled): Go did not know the container's memory limit"


async def _memory_is_told(scene: Scene) -> str:
    variables = {str(v.get("name")): v.get("value") for v in parts(scene.template(), "env")}
    if not variables.get("GOMEMLIMIT"):
        raise LabError("GOMEMLIMIT is not set")
    await _all_new(scene)
    return f"GOMEMLIMIT is {variables['GOMEMLIMIT']}, and every pod runs with it"


async def _all_new(scene: Scene) -> None:
    await scene.kube.wait_ready(NAME)
    raw = scene.kube.get("StatefulSet", NAME, api_version="apps/v1") or {}
    revision = part(raw, "status").get("updateRevision")
    for name in scene.kube.pods():
        labels = part(part(scene.kube.get("Pod", name) or {}, "metadata"), "labels")
        if labels.get("controller-revision-hash") != revision:
            raise LabError(f"{name} does not run the new template")


_MEMORY: Final = {"cpu": "1", "memory": "1Gi"}
_ENABLED: Final = "/healthz?js-enabled-only=true"
_SOUND: Final = NatsManifest(
    liveness=_ENABLED,
    startup_threshold=300,
    failure_threshold=30,
    resources={"requests": _MEMORY, "limits": _MEMORY},
    gomemlimit="819MiB",
    storage_class="standard",
)
"""What there is nothing to say of but what a scenario changes."""
_EXPLICIT: Final = replace(_SOUND, startup=_ENABLED)
_ONE_NAME: Final = replace(_EXPLICIT, routes=Routes.HEADLESS)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "readiness": Scenario(
        "a readiness probe that 2.10 fails while it catches up (family A)",
        replace(_SOUND, version="2.10.26"),
        "KubePodNotReady",
        "Let the readiness probe ask",
        _pod_dies,
        _probe_is_relaxed,
    ),
    "routes": Scenario(
        "one headless name for all routes (families B and C)",
        _EXPLICIT,
        "NatsRouteMeshIncomplete",
        "Name every pod in cluster.routes",
        _mesh_breaks,
        _mesh_is_complete,
    ),
    "overload": Scenario(
        "a server that the kernel kills for its memory (family D, the Kubernetes side)",
        replace(_SOUND, gomemlimit=None),
        "KubeContainerOOMKilled",
        "Set GOMEMLIMIT to",
        _memory_runs_out,
        _memory_is_told,
    ),
}


@asynccontextmanager
async def stage(directory: Path, scenario: Scenario, port: int, say: Callable[[str], None]) -> AsyncGenerator[Scene]:
    """Start Kubernetes, servers, stand-in Slack, bot and an application that publishes."""
    async with StandInKubernetes(directory / "kubernetes") as kube:
        await start_nats(kube, scenario.manifest)
        say(f"  a stand-in Kubernetes with three pods of nats:{scenario.manifest.version}: {kube.url}")

        def pods() -> list[str]:
            found: list[str] = []
            for name in kube.pods():
                with suppress(LabError):
                    found.append(kube.pod_address(name))
            return found

        async with ServiceFront(pods, CLIENT_PORT) as front:
            bot = KubernetesBot(directory, kube, front)
            await bot.slack.start(port=port)
            client, publisher = Client(), Publisher()
            try:
                async with bot:
                    await bot.start()
                    say(f"  the bot, on SQLite: natsmedic --config {bot.config} serve")
                    url = bot.servers.urls[0]
                    await client.connect(
                        url,
                        user="app",
                        password="app",
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=1,
                        error_cb=_quiet,
                    )
                    yield Scene(kube, bot, front, client, publisher)
            finally:
                publisher.over = True
                await client.close()
                await bot.slack.stop()


async def _quiet(error: Exception) -> None:
    """A client that loses its server says so on every try; the scenario is about that."""


async def offered(scene: Scene, wanted: str) -> Message:
    """Wait for the proposal whose title begins like this, and return its message. Its buttons are there."""

    def look() -> Message | None:
        for parent in scene.bot.slack.messages(CHANNEL):
            for message in scene.bot.slack.thread(CHANNEL, parent.ts):
                text = " ".join(str(block) for block in message.blocks)
                if wanted in text and "'action_id': 'approve'" in text:
                    return message
        return None

    await scene.bot.wait(lambda: look() is not None, 90, f"no proposal {wanted!r} could be approved")
    found = look()
    if found is None:
        raise LabError(f"the proposal {wanted!r} vanished")
    return found


async def approve(scene: Scene, message: Message) -> None:
    """One operator approves; the class of these changes needs no second person."""
    pressed = await scene.bot.slack.person.click(ADA, CHANNEL, message.ts, "approve")
    if not pressed.ok:
        raise LabError(f"Slack refused the click: {pressed}")
    await scene.bot.wait(lambda: scene.bot.form(ADA), 20, "no form opened")
    outcome = await scene.bot.slack.person.submit(ADA, {"reason": "as proposed"})
    if not outcome.ok:
        raise LabError(f"the form was refused: {outcome}")


async def play(scene: Scene, scenario: Scenario, started: float, say: Callable[[str], None], *, scripted: bool) -> bool:
    """Play the incident; return whether everything is as promised. Raises `LabError` where it is not."""
    await create_stream(scene.client, STREAM, 3)
    publishing = asyncio.create_task(scene.publisher.run(scene.client))
    say(f"  {await scenario.happens(scene)}")
    posted = time.monotonic()
    answer = await scene.bot.alert(scenario.alert, labels={"namespace": NAMESPACE, "statefulset": NAME})
    say(f"  Alertmanager webhook {scenario.alert} posted: HTTP {answer.status_code}")
    await scene.bot.wait(lambda: scene.bot.board() is not None, 30, "no thread appeared")
    now = time.monotonic()
    say(f"  first message in the thread {now - posted:.1f} s after the alert, {now - started:.1f} s after the start")
    if scripted:
        await approve(scene, await offered(scene, scenario.wanted))
        await _done(scene)
    else:
        say(f"\n  Open {scene.bot.slack.page_url}\n  Be Ada and approve: {scenario.wanted} … Ctrl-C ends the demo.\n")
        await _done(scene, within=24 * 3600.0)
    say(f"  {await scenario.proof(scene)}")
    scene.publisher.over = True
    await publishing
    lost = await _lost(scene)
    say(f"  {len(scene.publisher.acked)} orders were acknowledged meanwhile, {lost} of them lost")
    if not scripted:
        say("  Repaired. The page stays open until Ctrl-C.")
        await asyncio.Event().wait()
    say("\n----- the thread -----\n" + scene.bot.slack.render_text(CHANNEL) + "\n----------------------\n")
    code, output = await scene.bot.command("audit", "verify")
    say(f"$ natsmedic --config {scene.bot.config} audit verify\n{output.rstrip()}")
    return lost == 0 and code == 0


async def _done(scene: Scene, within: float = REPAIR_SECONDS) -> None:
    """Wait until the thread says that the change is done and the board that a new diagnosis found it well. Raises `LabError`."""
    await scene.bot.see("Done and verified: ", within)
    await scene.bot.see(VERIFIED_BOARD, REPAIR_SECONDS)


async def _lost(scene: Scene) -> int:
    """How many acknowledged messages are not in the stream: told by what stands in them, for a count would take one that was never acknowledged for one that was."""
    jetstream = JetStreamContext(scene.client, timeout=ANSWER)
    reading = await jetstream.pull_subscribe(
        f"{STREAM}.>", stream=STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    kept: set[str] = set()
    with suppress(TimeoutError):
        while True:
            kept |= {message.data.decode() for message in await reading.fetch(500, timeout=ANSWER)}
    return len(scene.publisher.acked - kept)


async def run(directory: Path, name: str, *, scripted: bool, port: int, say: Callable[[str], None]) -> bool:
    """Run one scenario in `directory`."""
    started = time.monotonic()
    scenario = SCENARIOS[name]
    say(f"natsmedic demo: {scenario.told}")
    async with stage(directory, scenario, port, say) as scene:
        say(f"  Slack, as a page: {scene.bot.slack.page_url}")
        return await play(scene, scenario, started, say, scripted=scripted)
