"""Rollouts on a real Kubernetes: pods go one at a time, each only when every Raft group can spare its server; what goes wrong is undone.

The tests share one cluster and run in order: each leaves it whole, the last one upgrades it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.action import Composed
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import compose_image, compose_probe, compose_resources, compose_restart
from bot.model import Execution, ExecutionState, ProposalState, StageState
from bot.model.probes import ENABLED_ONLY, ProbeKind
from tests.integration.kubernetes_support import IMAGE, NEWER_IMAGE, until
from tests.integration.rollout_scene import Scene, open_scene, under_load

pytestmark = [pytest.mark.kubernetes, pytest.mark.asyncio(loop_scope="module")]

LEADERLESS = 10.0
"""Seconds an election may take (4 to 9, reference/nats.md 1.0), and a look."""
PAUSE = 6.0
"""Seconds of a pause that can be no accident: a gate is asked every second."""
NO_SUCH_IMAGE = "nats:2.11.99"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with open_scene(tmp_path_factory.mktemp("rollout"), IMAGE) as opened:
        yield opened


async def readiness(scene: Scene, change: ProbeChange) -> Composed:
    await scene.whole()
    return compose_probe(await scene.look(), await scene.workload(), ProbeKind.READINESS, change)


async def test_a_changed_probe_rolls_the_pods_one_at_a_time_and_loses_no_acknowledged_message(scene: Scene) -> None:
    async with under_load(scene) as watch:
        old = (await scene.workload()).update_revision
        plan = await scene.desk.plan((await readiness(scene, ProbeChange(path=ENABLED_ONLY))).stages)
        assert [stage.kind for stage in plan.stages] == ["kubernetes.probe"] + ["kubernetes.roll_pod"] * 3
        diff = plan.stages[0].preview.diff.splitlines()
        assert [line.split() for line in diff if line.startswith("+ ")] == [
            ["+", "path:", ENABLED_ONLY],
            ["+", "partition:", "3"],
        ]
        execution = await scene.desk.run(await scene.desk.approved(plan))
        assert execution.state is ExecutionState.DONE, execution.sentence
        after = await scene.workload()
        new = after.update_revision
        assert after.nats.readiness is not None
        assert after.nats.readiness.path == ENABLED_ONLY
        assert (after.partition, after.update_strategy, after.ready_replicas) == (0, "RollingUpdate", 3)
        assert watch.revisions == [(old, old, old), (old, old, new), (old, new, new), (new, new, new)]
        assert (watch.away, watch.fewest) == (1, 2)
        assert watch.leaderless < LEADERLESS


async def test_a_stateful_set_that_was_edited_after_the_proposal_is_not_touched_and_the_field_is_named(
    scene: Scene,
) -> None:
    execution = await approved(scene, await readiness(scene, ProbeChange(failures=5)))
    before = await scene.raw()
    container = before["spec"]["template"]["spec"]["containers"][0]
    edited = container | {"readinessProbe": container["readinessProbe"] | {"periodSeconds": 7}}
    await scene.patch({"template": {"spec": {"containers": [edited]}}} | hold(3))
    try:
        ended = await scene.desk.run(execution)
        after = await scene.raw()
    finally:
        await scene.patch({"template": {"spec": {"containers": [container]}}} | hold(0))
    assert ended.state is ExecutionState.REFUSED
    assert (await scene.desk.proposal_of(ended)).state is ProposalState.SUPERSEDED
    assert "statefulset.container.nats.readinessProbe.periodSeconds was 1, now 7." in ended.sentence
    assert after["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["failureThreshold"] == 3


async def test_a_pod_is_restarted_only_while_every_other_one_is_there(scene: Scene) -> None:
    await scene.whole()
    pods = await scene.pods()
    rollout = compose_restart(await scene.look(), await scene.workload(), pods[1])
    early = await approved(scene, rollout)
    await scene.cluster.delete("Pod", "nats-2", scene.namespace)
    refused = await scene.desk.run(early)
    assert refused.state is ExecutionState.REFUSED
    assert "nats-2" in refused.sentence
    assert (await scene.pods())[1].uid == pods[1].uid

    await scene.ready()
    await scene.whole()
    ended = await scene.desk.carry_out(rollout.stages)
    assert ended.state is ExecutionState.DONE, ended.sentence
    assert (await scene.pods())[1].uid != pods[1].uid


async def test_an_image_that_does_not_exist_stops_at_the_first_pod_and_is_rolled_back(scene: Scene) -> None:
    async with under_load(scene) as watch:
        await scene.whole()
        before, pods = await scene.raw(), await scene.pods()
        rollout = compose_image(await scene.look(), await scene.workload(), NO_SUCH_IMAGE, "2.11.99")
        execution = await scene.desk.carry_out(rollout.stages)
        assert execution.state is ExecutionState.ROLLED_BACK, execution.sentence
        assert "nats-2 can't run: container nats waits with" in execution.sentence
        states = [stage.state for stage in execution.stages]
        assert states == [StageState.ROLLED_BACK, StageState.ROLLED_BACK, StageState.SKIPPED, StageState.SKIPPED]
        after = await scene.raw()
        assert after["spec"] == before["spec"]
        assert [pod.uid for pod in await scene.pods()][:2] == [pod.uid for pod in pods][:2]
        assert {pod.revision for pod in await scene.pods()} == {before["status"]["updateRevision"]}
        assert (watch.away, watch.fewest) == (1, 2)


async def test_under_on_delete_resources_roll_pod_by_pod_too(scene: Scene) -> None:
    await scene.whole()
    await scene.patch({"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}})
    try:
        async with under_load(scene) as watch:
            amounts = {"memory_request": "64Mi", "memory_limit": "256Mi", "cpu_request": "100m"}
            rollout = compose_resources(await scene.look(), await scene.workload(), amounts, "200MiB")
            execution = await scene.desk.carry_out(rollout.stages)
            assert execution.state is ExecutionState.DONE, execution.sentence
            for pod in await scene.pods():
                container = pod.pod_spec.container("nats")
                assert container is not None
                assert (container.resources.memory_limit, container.gomemlimit) == (256 * 2**20, 200 * 2**20)
            assert (watch.away, watch.fewest) == (1, 2)
    finally:
        await scene.patch({"updateStrategy": {"type": "RollingUpdate"}})


async def test_an_upgrade_waits_while_a_server_hangs_and_goes_on_when_it_is_back(scene: Scene) -> None:
    await scene.whole()
    hanging = server_process((await scene.pods())[0].uid)
    if hanging is None:
        pytest.skip("the processes of the cluster's pods are not this host's")
    async with under_load(scene) as watch:
        version = NEWER_IMAGE.rpartition(":")[2]
        rollout = compose_image(await scene.look(), await scene.workload(), NEWER_IMAGE, version)
        execution = await approved(scene, rollout)
        old = (await scene.workload()).update_revision
        running = asyncio.create_task(scene.desk.run(execution))
        try:
            await until("the first pod of the new version", lambda: first_is_ready(scene, old))
            os.kill(hanging, signal.SIGSTOP)

            async def first_is_verified() -> bool:
                return (await stage(scene, execution, 1)) is StageState.VERIFIED

            await until("its verification", first_is_verified)
            await asyncio.sleep(PAUSE)
            assert await stage(scene, execution, 2) is StageState.WAITING
            assert [pod.revision == old for pod in await scene.pods()] == [True, True, False]
        finally:
            os.kill(hanging, signal.SIGCONT)
            ended = await running
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert {server.version for server in (await scene.look()).servers} == {version}
        assert watch.away <= 2, "the one that hangs, and the one that was replaced before"


async def approved(scene: Scene, rollout: Composed) -> Execution:
    return await scene.desk.approved(await scene.desk.plan(rollout.stages))


async def stage(scene: Scene, execution: Execution, index: int) -> StageState:
    found = await scene.desk.store.get(Execution, execution.id)
    assert found is not None
    return found.stages[index].state


def hold(partition: int) -> dict[str, object]:
    return {"updateStrategy": {"rollingUpdate": {"partition": partition}}}


async def first_is_ready(scene: Scene, old: str) -> bool:
    pods = await scene.pods()
    return len(pods) == 3 and pods[2].revision != old and pods[2].ready


def server_process(pod: str) -> int | None:
    """The nats-server of a pod, by its uid in the process's cgroup; None where it does not run on this host."""
    for folder in Path("/proc").iterdir():
        try:
            if (folder / "comm").read_text().strip() != "nats-server":
                continue
            group = (folder / "cgroup").read_text()
        except OSError:
            continue
        if pod in group or pod.replace("-", "_") in group:
            return int(folder.name)
    return None
