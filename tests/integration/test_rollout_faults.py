"""Rollouts on the stand-in Kubernetes, whose pods are real nats-servers: answers that are lost, refused, or never asked for, and what is written all the same."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest_asyncio
import yaml

from bot.action import Composed
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.kubernetes_restart_pod import RestartPod
from bot.actions.kubernetes_roll_pod import RollPod
from bot.actions.rollout import compose_image, compose_probe
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.bootstrap.serving import end
from bot.flow.stages import Stages
from bot.lab.kubernetes import FaultKind, NatsManifest, StandInKubernetes
from bot.lab.kubernetes_nats import start_nats
from bot.lab.process import LabError
from bot.model import ExecutionState, StageState
from bot.model.probes import ENABLED_ONLY, ProbeKind
from bot.registry import load
from bot.settings.clusters import ApplierSettings, KubernetesSettings
from tests.integration.executing import Desk, database
from tests.integration.kubernetes_support import APPLIER_FILE, Raw
from tests.integration.rollout_scene import Eyes, bot_wired

STATEFUL_SET, PODS = "statefulsets/nats$", "pods/nats-"
OLD = "2.10.26"
QUICK = Stages(dict(load().actions) | {RollPod.kind: RollPod(settle=1.0), RestartPod.kind: RestartPod(settle=1.0)})


class Scene(Eyes):
    """Three servers on the stand-in, and the applier with no more rights than `deploy/` grants."""

    def __init__(self, kube: StandInKubernetes, url: str, desk: Desk) -> None:
        super().__init__(desk.readers)
        self.kube = kube
        self.url = url
        self.desk = desk

    async def relaxed(self) -> Composed:
        await self.whole()
        change = ProbeChange(path=ENABLED_ONLY)
        return compose_probe(await self.look(), await self.workload(), ProbeKind.READINESS, change)

    def written(self) -> list[str]:
        """What took effect, dry runs left out."""
        made = [write for write in self.kube.writes if not write.dry_run]
        return [f"{write.method} {write.path.partition('?')[0].rpartition('/')[2]} {write.status}" for write in made]


@asynccontextmanager
async def service(kube: StandInKubernetes) -> AsyncGenerator[str]:
    """One address in front of all pods, as a Service is: each new pod has another address, and the stand-in's cluster IPs lead nowhere."""
    open_: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pod in kube.pods():
            with suppress(OSError, LabError):
                theirs, mine = await asyncio.open_connection(kube.pod_address(pod), 4222)
                pipes = {asyncio.create_task(pipe(reader, mine)), asyncio.create_task(pipe(theirs, writer))}
                open_.update(pipes)
                return
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await end(list(open_))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with StandInKubernetes(tmp_path / "kube", config_delay=0.2, first_back_off=0.5) as kube:
        await start_nats(kube, NatsManifest(version=OLD, storage_class="standard"))
        async with (
            service(kube) as url,
            bot_wired([url], settings(kube, shipped())) as (readers, writers),
            SqlStore.open(database(tmp_path), SystemClock()) as store,
        ):
            yield Scene(kube, url, Desk(store, readers, writers, QUICK))


def shipped() -> list[Raw]:
    """The rules of deploy/kubernetes-applier.yaml."""
    return next(raw for raw in yaml.safe_load_all(APPLIER_FILE.read_text()) if raw["kind"] == "Role")["rules"]


def settings(kube: StandInKubernetes, rules: list[Raw]) -> KubernetesSettings:
    """Of an applier with these rules alone."""
    token = kube.grant(f"applier-{secrets.token_hex(3)}", rules)
    applier = ApplierSettings(kubeconfig=kube.kubeconfig(token=token))
    return KubernetesSettings(kubeconfig=kube.kubeconfig(), namespace=kube.namespace, applier=applier)


async def test_a_lost_answer_is_found_in_the_receipt_and_nothing_is_written_twice(scene: Scene) -> None:
    execution = await scene.desk.approved(await scene.desk.plan((await scene.relaxed()).stages))
    scene.kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", STATEFUL_SET, count=4)
    ended = await scene.desk.run(execution)
    assert ended.state is ExecutionState.DONE, ended.sentence
    assert [stage.sent for stage in ended.stages] == [1, 1, 1, 1]
    assert scene.written() == ["PATCH nats 0"] * 4


async def test_the_way_back_goes_on_through_conflicts_lost_answers_and_refusals(scene: Scene) -> None:
    await scene.whole()
    before = scene.kube.get("StatefulSet", "nats")
    rollout = compose_image(await scene.look(), await scene.workload(), "nats:2.11.99", "2.11.99")
    execution = await scene.desk.approved(await scene.desk.plan(rollout.stages))
    faults = scene.kube.faults
    faults.add(FaultKind.CONFLICT, "PATCH", STATEFUL_SET)
    faults.add(FaultKind.SLOW, "PATCH", STATEFUL_SET, count=2, seconds=0.1)
    faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", STATEFUL_SET)
    faults.add(FaultKind.SERVER_ERROR, "DELETE", PODS)
    faults.add(FaultKind.TOO_MANY_REQUESTS, "DELETE", PODS)
    faults.add(FaultKind.COMMIT_THEN_CUT, "DELETE", PODS)
    ended = await scene.desk.run(execution)
    assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
    after = scene.kube.get("StatefulSet", "nats")
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert [write for write in scene.written() if write.startswith("DELETE")] == [
        "DELETE nats-2 500",
        "DELETE nats-2 429",
        "DELETE nats-2 0",
    ]
    assert {pod.revision for pod in await scene.pods()} == {before["status"]["updateRevision"]}


async def test_without_the_right_to_patch_the_thread_names_verb_and_resource_and_nothing_is_applied(
    scene: Scene,
) -> None:
    weak = settings(scene.kube, [rule for rule in shipped() if "statefulsets" not in rule["resources"]])
    async with bot_wired([scene.url], weak) as (readers, writers):
        desk = Desk(scene.desk.store, readers, writers, QUICK)
        ended = await desk.carry_out((await scene.relaxed()).stages)
    assert (ended.state, ended.stages[0].state) == (ExecutionState.FAILED, StageState.NOT_APPLIED)
    assert "no role grants it `patch` on `statefulsets.apps`" in ended.sentence
    assert "Nothing was changed." in ended.sentence
