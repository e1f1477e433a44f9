"""Incident family A on a real Kubernetes: a pod is killed on 2.10, natsmedic says *wait*, and then offers the probe's change, in Helm's values first."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
import yaml

from bot.bootstrap import registry
from bot.flow.examination import look
from bot.model import Focus
from bot.model.probes import ENABLED_ONLY
from bot.runbook import Proposed
from tests.integration.kubernetes_support import IMAGE, REFUSED, until
from tests.integration.rollout_scene import SERVERS, Scene, open_scene, under_load

pytestmark = [pytest.mark.kubernetes, pytest.mark.asyncio(loop_scope="module")]

QUICK = {"READINESS": {"settle": 1.0}}
HELM = {"meta.helm.sh/release-name": "nats", "meta.helm.sh/release-namespace": "queues"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with open_scene(tmp_path_factory.mktemp("family-a"), IMAGE) as opened:
        yield opened


async def proposed(scene: Scene, code: str) -> list[Proposed]:
    runbook = registry().runbook(code)
    assert runbook is not None
    _, (judgement,) = await look(scene.readers, (runbook,), QUICK, Focus())
    return list(judgement.proposed)


@asynccontextmanager
async def no_room(scene: Scene) -> AsyncGenerator[None]:
    """A quota that lets no further pod be made, so that a deleted one stays away."""
    folder = f"/api/v1/namespaces/{scene.namespace}/resourcequotas"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "2"}}}
    status, made = await scene.cluster.call("POST", folder, quota)
    assert status < REFUSED, made
    try:
        yield
    finally:
        await scene.cluster.call("DELETE", f"{folder}/full")


async def test_while_a_killed_pod_is_away_the_advice_is_to_wait_and_nothing_is_offered_that_rolls(scene: Scene) -> None:
    seen: list[Proposed] = []

    async def told_to_wait() -> bool:
        seen[:] = await proposed(scene, "READINESS")
        return any(one.draft.title.startswith("Wait until") for one in seen)

    async with under_load(scene) as watch:
        async with no_room(scene):
            now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await scene.cluster.call("DELETE", f"/api/v1/namespaces/{scene.namespace}/pods/nats-1", now)
            await until("the advice to wait", told_to_wait, 60)
            assert [one.draft.stages for one in seen if one.draft.stages] == []
        await until("the pod's return", lambda: _back(scene))
        assert watch.away == 1
    await scene.whole()


async def _back(scene: Scene) -> bool:
    pods = await scene.pods()
    return len(pods) == SERVERS and all(pod.ready for pod in pods)


async def test_under_helm_the_values_come_first_and_the_direct_change_is_marked(scene: Scene) -> None:
    await scene.whole()
    labels = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "nats-1.2.11"}
    await scene.cluster.patch(
        "StatefulSet", "nats", scene.namespace, {"metadata": {"annotations": HELM, "labels": labels}}
    )
    await asyncio.sleep(1)  # the controller's answer to a new generation
    drafts = [one.draft for one in await proposed(scene, "DEPLOYMENT") if ENABLED_ONLY in one.draft.title]
    source, direct = [draft for draft in drafts if "readiness" in draft.title]
    assert (source.stages, [patch.name for patch in source.patches]) == ((), ["nats-values.yaml"])
    probe = yaml.safe_load(source.patches[0].text)["container"]["merge"]["readinessProbe"]
    assert probe["httpGet"] == {"path": ENABLED_ONLY, "port": "monitor", "scheme": "HTTP"}
    assert "it holds until Helm's next upgrade" in direct.title
    assert [kind for kind, _ in direct.stages] == ["kubernetes.probe"] + ["kubernetes.roll_pod"] * 3
    assert "Helm release nats in namespace queues keeps this object" in direct.cautions[0]
