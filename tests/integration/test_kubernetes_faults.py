"""The fault matrix of a change in Kubernetes, on the stand-in: whatever goes wrong, the object sees at most one change, and what is said is what is so."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import compose_probe
from bot.adapters.clock import SystemClock
from bot.adapters.cluster import ClusterReaders, ClusterWriters
from bot.adapters.database import SqlStore
from bot.adapters.kubernetes import KubernetesApiReader, KubernetesApiWriter
from bot.adapters.nats import NatsWriters, connect_cluster
from bot.bootstrap.serving import end
from bot.lab.kubernetes import FaultKind, NatsManifest, StandInKubernetes
from bot.lab.kubernetes_nats import start_nats
from bot.model import Endpoint, Execution, ExecutionState, ProposalState, StageState
from bot.model.kubernetes import Workload
from bot.model.probes import ENABLED_ONLY, ProbeKind
from bot.settings import ClusterSettings
from bot.settings.clusters import ApplierSettings, KubernetesSettings
from tests.integration.executing import Desk, database

TIMEOUT = 2.0
"""Seconds for one answer, of either side."""
NEEDS = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})
OBJECT = "statefulsets/nats"


@dataclass
class Scene:
    kube: StandInKubernetes
    desk: Desk
    generation: int
    """Of the object before natsmedic changed it."""

    async def planned(self) -> Execution:
        """The edit of a probe, approved: one stage, which holds the rollout back."""
        snapshot = await self.desk.readers.gather(NEEDS)
        assert snapshot.kubernetes is not None
        workload = snapshot.kubernetes.workload
        assert isinstance(workload, Workload)
        made = compose_probe(snapshot, workload, ProbeKind.READINESS, ProbeChange(path=ENABLED_ONLY))
        return await self.desk.approved(await self.desk.plan(made.stages[:1]))

    async def carried_out(self, execution: Execution) -> Execution:
        return await self.desk.run(execution)

    @property
    def effects(self) -> int:
        """How often the object was really changed by natsmedic."""
        raw = self.kube.get("StatefulSet", "nats", api_version="apps/v1")
        assert raw is not None
        path = raw["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"]
        changes = raw["metadata"]["generation"] - self.generation
        return changes if path == ENABLED_ONLY or changes > 1 else 0

    @property
    def sent(self) -> int:
        """How many writes arrived, without dry runs."""
        return len([w for w in self.kube.writes if w.method == "PATCH" and OBJECT in w.path and not w.dry_run])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with _scene(tmp_path) as made:
        yield made


@asynccontextmanager
async def _scene(folder: Path) -> AsyncGenerator[Scene]:
    async with StandInKubernetes(folder / "kubernetes") as kube:
        await start_nats(kube, NatsManifest(version="2.10.26"))
        kubernetes = KubernetesSettings(
            kubeconfig=kube.kubeconfig(), namespace=kube.namespace, statefulset="nats", timeout_seconds=TIMEOUT
        ).model_copy(update={"applier": ApplierSettings(kubeconfig=kube.kubeconfig(folder / "applier"))})
        nats = {
            "servers": [f"nats://{kube.pod_address(pod)}:4222" for pod in kube.pods()],
            "system": {"user": "sys", "password": "sys"},
            "timeout_seconds": TIMEOUT,
        }
        clock = SystemClock()
        named = ClusterSettings.model_validate({"name": "prod", "channel": "C0123456789", "nats": nats})
        reading, _ = await connect_cluster(named, clock)
        applier = kubernetes.as_applier
        assert applier is not None
        writer = KubernetesApiWriter(applier)
        readers = ClusterReaders(reading, KubernetesApiReader(kubernetes, clock), clock, writer)
        try:
            async with SqlStore.open(database(folder), clock) as store:
                before = kube.get("StatefulSet", "nats", api_version="apps/v1")
                assert before is not None
                desk = Desk(store, readers, ClusterWriters(NatsWriters("prod", {}), writer))
                yield Scene(kube, desk, before["metadata"]["generation"])
        finally:
            await reading.aclose()


async def test_without_a_fault_one_write_is_one_effect(scene: Scene) -> None:
    ended = await scene.carried_out(await scene.planned())
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.DONE, 1, 1)


@pytest.mark.parametrize("kind", [FaultKind.CONFLICT, FaultKind.TOO_MANY_REQUESTS])
async def test_what_is_refused_for_the_moment_is_read_again_and_sent_again(scene: Scene, kind: FaultKind) -> None:
    execution = await scene.planned()
    scene.kube.faults.add(kind, "PATCH", OBJECT, count=2)
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.DONE, 1, 3)


async def test_a_refusal_for_good_changes_nothing_and_names_verb_and_resource(scene: Scene) -> None:
    execution = await scene.planned()
    scene.kube.faults.add(FaultKind.FORBIDDEN, "PATCH", OBJECT)
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.FAILED, 0, 1)
    assert "no role grants it `patch` on `statefulsets.apps`" in ended.sentence
    assert "Nothing was changed." in ended.sentence


async def test_an_error_of_the_server_is_unknown_until_the_receipt_is_read_and_is_sent_once_more(scene: Scene) -> None:
    execution = await scene.planned()
    scene.kube.faults.add(FaultKind.SERVER_ERROR, "PATCH", OBJECT)
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.DONE, 1, 2)
    assert "stage.unknown" in [entry.kind for entry in await scene.desk.audit()]


def cut(scene: Scene) -> None:
    scene.kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", OBJECT)


def late(scene: Scene) -> None:
    scene.kube.faults.add(FaultKind.SLOW, "PATCH", OBJECT, seconds=3 * TIMEOUT)


@pytest.mark.parametrize("fault", [cut, late])
async def test_a_change_whose_answer_is_lost_is_found_by_its_receipt_and_never_sent_again(
    scene: Scene, fault: Callable[[Scene], None]
) -> None:
    execution = await scene.planned()
    fault(scene)
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.DONE, 1, 1)
    assert "stage.unknown" in [entry.kind for entry in await scene.desk.audit()]


async def test_where_the_api_server_is_away_nothing_is_sent_and_nothing_is_claimed(scene: Scene) -> None:
    execution = await scene.planned()
    outage = asyncio.create_task(scene.kube.outage(10 * TIMEOUT))
    await asyncio.sleep(0.1)
    ended = await scene.carried_out(execution)
    assert not outage.done()
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.REFUSED, 0, 0)
    proposal = await scene.desk.proposal_of(ended)
    assert proposal.state is ProposalState.WITHDRAWN
    assert "could not be read right before the first write" in proposal.state_reason
    await end([outage])


async def test_an_api_server_that_goes_away_right_after_the_write_keeps_it_unknown_until_it_is_back(
    scene: Scene,
) -> None:
    execution = await scene.planned()
    scene.kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", OBJECT)
    running = asyncio.create_task(scene.carried_out(execution))
    while scene.effects == 0:
        await asyncio.sleep(0.02)
    await scene.kube.outage(10.0)
    ended = await running
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.DONE, 1, 1)


async def test_an_object_that_was_made_anew_under_the_same_name_is_another_one(scene: Scene) -> None:
    execution = await scene.planned()
    scene.kube.recreate("apps/v1", "StatefulSet", "nats")
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.effects, scene.sent) == (ExecutionState.REFUSED, 0, 0)
    assert "made anew" in (await scene.desk.proposal_of(ended)).state_reason


async def test_what_somebody_edited_in_between_is_named_by_its_field(scene: Scene) -> None:
    execution = await scene.planned()
    raw = scene.kube.get("StatefulSet", "nats", api_version="apps/v1")
    assert raw is not None
    raw["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = 7
    scene.kube.apply([{key: raw[key] for key in ("apiVersion", "kind", "metadata", "spec")}])
    ended = await scene.carried_out(execution)
    assert (ended.state, scene.sent) == (ExecutionState.REFUSED, 0)
    assert "readinessProbe" in (await scene.desk.proposal_of(ended)).state_reason
    assert [run.state for run in ended.stages] == [StageState.SKIPPED]
