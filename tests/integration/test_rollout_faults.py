"""Rollouts on the stand-in Kubernetes, whose pods are real nats-servers: answers that are lost, refused, or never asked for, and what is written all the same."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio
import yaml

from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.kubernetes_restart_pod import RestartPod
from bot.actions.kubernetes_roll_pod import RollPod
from bot.actions.rollout import Rollout, compose_image, compose_probe
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.flow.stages import Stages
from bot.lab.kubernetes import FaultKind, NatsManifest, StandInKubernetes
from bot.model import ExecutionState, StageState
from bot.model.probes import ENABLED_ONLY, ProbeKind
from bot.registry import load
from bot.settings.clusters import ApplierSettings, KubernetesSettings
from tests.integration.executing import Desk, database
from tests.integration.kubernetes_support import APPLIER_FILE
from tests.integration.rollout_scene import SERVERS, Eyes, bot_wired

STATEFUL_SET, PODS = "statefulsets/nats$", "pods/nats-"
OLD = "2.10.26"
QUICK = Stages(dict(load().actions) | {RollPod.kind: RollPod(settle=1.0), RestartPod.kind: RestartPod(settle=1.0)})


class Scene(Eyes):
    """Three servers on the stand-in, and the applier with no more rights than `deploy/` grants."""

    def __init__(self, kube: StandInKubernetes, desk: Desk) -> None:
        super().__init__(desk.readers)
        self.kube = kube
        self.desk = desk

    async def relaxed(self) -> Rollout:
        await self.whole()
        change = ProbeChange(path=ENABLED_ONLY)
        return compose_probe(await self.look(), await self.workload(), ProbeKind.READINESS, change)

    def written(self) -> list[str]:
        """What took effect, dry runs left out."""
        made = [write for write in self.kube.writes if not write.dry_run]
        return [f"{write.method} {write.path.partition('?')[0].rpartition('/')[2]} {write.status}" for write in made]


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with StandInKubernetes(tmp_path / "kube", config_delay=0.2, first_back_off=0.5) as kube:
        kube.apply(NatsManifest(version=OLD, storage_class="standard").manifests())
        await kube.wait_ready("nats")
        rules = next(raw for raw in yaml.safe_load_all(APPLIER_FILE.read_text()) if raw["kind"] == "Role")["rules"]
        applier = ApplierSettings(kubeconfig=kube.kubeconfig(token=kube.grant("natsmedic-applier", rules)))
        settings = KubernetesSettings(kubeconfig=kube.kubeconfig(), namespace=kube.namespace, applier=applier)
        urls = [f"nats://{kube.pod_address(f'nats-{ordinal}')}:4222" for ordinal in range(SERVERS)]
        async with (
            bot_wired(urls, settings) as (readers, writers),
            SqlStore.open(database(tmp_path), SystemClock()) as store,
        ):
            yield Scene(kube, Desk(store, readers, writers, QUICK))


async def test_a_lost_answer_is_found_in_the_receipt_and_nothing_is_written_twice(scene: Scene) -> None:
    execution = await scene.desk.approved(await scene.desk.plan((await scene.relaxed()).stages))
    scene.kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", STATEFUL_SET, count=4)
    ended = await scene.desk.run(execution)
    assert ended.state is ExecutionState.DONE, ended.sentence
    assert [stage.sent for stage in ended.stages] == [1, 1, 1, 1]
    assert scene.written() == ["PATCH nats 0"] * 4


async def test_a_broken_way_back_goes_on_through_lost_answers_refusals_and_an_outage(scene: Scene) -> None:
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
    execution = await scene.desk.approved(await scene.desk.plan((await scene.relaxed()).stages))
    scene.kube.grant("natsmedic-applier", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}])
    ended = await scene.desk.run(execution)
    assert (ended.state, ended.stages[0].state) == (ExecutionState.FAILED, StageState.NOT_APPLIED)
    assert "no role grants it `patch` on `statefulsets.apps`" in ended.sentence
    assert "Nothing was changed." in ended.sentence
