"""Limits on the stand-in Kubernetes, whose pods are real nats-servers: files that come late, answers that are lost, and a server that refuses the file."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.action import Composed, Draft
from bot.actions.limit_change import compose_limit
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.lab.kubernetes import FaultKind, NatsManifest, StandInKubernetes
from bot.lab.kubernetes_nats import start_nats
from bot.model import Endpoint, ExecutionState, StageState
from bot.model.limits import Setting, Value, shown
from tests.integration.executing import STAGES, Desk, database
from tests.integration.rollout_scene import bot_wired
from tests.integration.test_rollout_faults import Scene, service, settings, shipped

SERVERS = ("nats-0", "nats-1", "nats-2")
VARZ = frozenset({Endpoint.VARZ})
CONFIG = "configmaps/nats-config$"
LATE = 3.0
"""Seconds until a changed file is in the pods: longer than one reload after another."""


@asynccontextmanager
async def open_scene(folder: Path, version: str, conf: str = "") -> AsyncGenerator[Scene]:
    login = {"user": "sys", "password": "sys"}
    async with StandInKubernetes(folder / "kube", config_delay=LATE, first_back_off=0.5) as kube:
        await start_nats(kube, NatsManifest(version=version, storage_class="standard", extra_conf=conf))
        async with (
            service(kube) as url,
            bot_wired([url], settings(kube, shipped()), system_writer=login) as (readers, writers),
            SqlStore.open(database(folder), SystemClock()) as store,
        ):
            yield Scene(kube, url, Desk(store, readers, writers, STAGES))


def conf_of(scene: Scene) -> str:
    raw = scene.kube.get("ConfigMap", "nats-config")
    assert raw is not None
    return raw["data"]["nats.conf"]


async def composed(scene: Scene, setting: Setting, value: Value) -> Composed:
    return compose_limit(await scene.readers.gather(VARZ), await scene.workload(), setting, value)


async def limits(scene: Scene, setting: Setting) -> list[int | None]:
    snapshot = await scene.readers.gather(VARZ)
    return [shown(snapshot, name, setting) for name in SERVERS]


async def test_a_lost_answer_to_the_edit_is_found_in_the_receipt_and_late_files_are_waited_for(tmp_path: Path) -> None:
    async with open_scene(tmp_path, "2.15.1") as scene:
        before = conf_of(scene)
        change = await composed(scene, Setting.DEFAULT_MAX_CONSUMERS, -1)
        execution = await scene.desk.approved(await scene.desk.plan(change.stages))
        scene.kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", CONFIG)
        ended = await scene.desk.run(execution)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert [(run.state, run.sent) for run in ended.stages] == [(StageState.VERIFIED, 1)] * 4
        assert scene.written() == ["PATCH nats-config 0"]
        assert conf_of(scene).replace("\n  limits { default_max_consumers: -1 }\n", "") == before
        assert await limits(scene, Setting.DEFAULT_MAX_CONSUMERS) == [-1, -1, -1]


async def test_a_file_that_servers_refuse_is_taken_back_and_they_run_on_with_what_they_had(tmp_path: Path) -> None:
    async with open_scene(tmp_path, "2.11.11") as scene:
        stale = await composed(scene, Setting.MAX_CONNECTIONS, 90_000)
        # Somebody changes what only a restart brings in force, and has restarted nothing yet.
        edited = conf_of(scene).replace("jetstream {", "jetstream { request_queue_limit: 500,")
        meta = {"name": "nats-config", "namespace": scene.kube.namespace}
        scene.kube.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"nats.conf": edited}}])
        plan = await scene.desk.stages.plan(scene.readers, Draft(title="", why="", stages=stale.stages))
        assert plan.guidance == ("Not offered: nats.conf in ConfigMap nats-config was edited since.",)
        ended = await scene.desk.carry_out((await composed(scene, Setting.MAX_CONNECTIONS, 90_000)).stages)
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        assert "config reload not supported for JetStreamRequestQueueLimit" in ended.sentence
        assert conf_of(scene) == edited
        assert await limits(scene, Setting.MAX_CONNECTIONS) == [65_536] * 3
