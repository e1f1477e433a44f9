"""The incidents of the demo on Kubernetes: how each is brought about, which alert tells of it, which proposal repairs it, and what proves that it did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from bot.lab.drills import ghost_split, publish, remove_decoys
from bot.lab.kubernetes import NatsManifest, Routes
from bot.lab.kubernetes.manifests import STRICT_READINESS
from bot.lab.kubernetes_bot import NAME, NAMESPACE
from bot.lab.kubernetes_nats import Pods
from bot.lab.kubernetes_scene import Scene
from bot.lab.process import LabError
from bot.lab.stuck_consumer import CONSUMER, ROOM, drain
from bot.lab.whole import ADA, BO
from bot.model import part, parts

CONFIG_ARRIVES: Final = 2.0
"""Seconds in which a changed ConfigMap has reached every pod of the stand-in."""
CATCHES_UP: Final = 12.0
"""Seconds after which every group counts a restarted server as current again (reference/drills.md 3.1)."""
MESH_SETTLES: Final = 6.0
"""Seconds in which servers that look for each other by one name have dialled what they dial."""
NOT_READY: Final = 30.0
"""Seconds within which a readiness probe that fails has taken its pod out of the Service."""
SICK, HOLDER = "nats-1", "nats-0"
SHIPMENTS: Final = "SHIPMENTS"
"""The stream whose consumer gets stuck."""
MORE: Final = 40
"""Messages that are published after the repair."""


@dataclass(frozen=True)
class Approval:
    """What one person writes into the form behind *Approve*."""

    user: str
    reason: str = "as proposed"
    typed_name: str = ""


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
    labels: Mapping[str, str] = field(default_factory=lambda: {"namespace": NAMESPACE, "statefulset": NAME})
    """Of the alert."""
    approvals: tuple[Approval, ...] = (Approval(ADA),)
    """Who approves: the class of most of these changes needs no second person."""


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


async def _consumer_gets_stuck(scene: Scene) -> str:
    """nats.conf gets a limit that one server alone starts with; a scale-up finds no room there; then there is room again, and the damage stays."""
    scene.kube.apply([replace(_STUCK, max_ha_assets=ROOM).config_map()])
    await asyncio.sleep(CONFIG_ARRIVES)
    scene.kube.kill_pod(SICK)
    await scene.kube.wait_ready(NAME)
    pods = Pods(scene.kube, {SICK: ROOM})
    # The application's stream is a Raft group on every server.
    drill = await ghost_split(pods, sick=SICK, holder=HOLDER, groups=1, stream=SHIPMENTS, consumers=(CONSUMER,))
    await remove_decoys(pods, drill)
    scene.drill = drill
    async with asyncio.timeout(NOT_READY):
        while scene.ready(SICK):
            await asyncio.sleep(0.2)
    worker = drill.worker
    return (
        f"{drill.published} shipments published, {len(worker.acked)} done, {len(worker.unacked)} in work; then {SHIPMENTS} was scaled to 3 replicas while {SICK} "
        f"had no room:\n  consumer {CONSUMER!r} has lost its Raft node there, {SICK} serves old shipments again, and is not ready: its probe asks {STRICT_READINESS}"
    )


async def _consumer_delivers(scene: Scene) -> str:
    """A worker gets everything that had to come, and of what it had done before no more than was predicted."""
    drill = scene.drill
    if drill is None:
        raise LabError("the consumer was never broken")
    pods = Pods(scene.kube, {})
    client = await pods.connect()
    try:
        await publish(client, drill.stream, MORE)
    finally:
        await client.close()
    drained = await drain(pods, drill, drill.published + MORE)
    _, predicted = await scene.bot.predicted()
    if drained.lost or len(drained.repeated) > predicted:
        raise LabError(
            f"the worker lost {drained.lost} and got {drained.repeated} again, {predicted} predicted at most"
        )
    await scene.kube.wait_ready(NAME)
    return (
        f"the worker got {sum(drained.got.values())} messages: all {len(drained.must)} that had to come, 0 lost, {len(drained.repeated)} repeated "
        f"({predicted} predicted at most); {SICK} is ready again"
    )


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

_STUCK: Final = replace(_SOUND, version="2.11.11", readiness=STRICT_READINESS, failure_threshold=3)
"""A version on which `group node missing` happens, and stays after its cause is gone (reference/drills.md 3.3); the readiness probe asks for every asset."""

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "stuck-consumer": Scenario(
        "a consumer that lost its Raft node on one server (family E)",
        _STUCK,
        "NatsConsumerStuck",
        f"Delete consumer {CONSUMER} and create it again at its position",
        _consumer_gets_stuck,
        _consumer_delivers,
        {"account": "APP", "stream": SHIPMENTS, "consumer": CONSUMER},
        (
            Approval(ADA, "the worker repeats old shipments", CONSUMER),
            Approval(BO, "checked with the shop: shipments are idempotent", CONSUMER),
        ),
    ),
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
