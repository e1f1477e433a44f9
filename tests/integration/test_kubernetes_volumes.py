"""A claim in a real Kubernetes is made larger. No driver grows its volume here, so a test says in its place how far it is."""

import asyncio
from pathlib import Path

import pytest

from bot.actions import kubernetes_grow_volume
from bot.actions.volumes import compose_growth
from bot.model import ExecutionState
from tests.integration.kubernetes_nats import Nats, addresses, nats_conf, open_nats
from tests.integration.kubernetes_support import IMAGE, Raw

pytestmark = pytest.mark.kubernetes

CLAIM = "data-nats-0"


def growable(name: str) -> list[Raw]:
    """A storage class whose volumes may grow, and one volume of it."""
    folder = {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "allowVolumeExpansion": True,
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": spec | {"hostPath": folder, "persistentVolumeReclaimPolicy": "Retain"},
        },
    ]


async def driver_says(nats: Nats, capacity: str, *conditions: str) -> None:
    told = [{"type": one, "status": "True"} for one in conditions]
    status = {"phase": "Bound", "capacity": {"storage": capacity}, "conditions": told}
    path = f"/api/v1/namespaces/{nats.namespace}/persistentvolumeclaims/{CLAIM}/status"
    code, answer = await nats.cluster.call("PATCH", path, {"status": status}, "application/merge-patch+json")
    assert code == 200, answer


async def claim(nats: Nats) -> Raw:
    _, raw = await nats.cluster.call("GET", f"/api/v1/namespaces/{nats.namespace}/persistentvolumeclaims/{CLAIM}")
    return raw


async def test_a_claim_grows_and_a_growth_that_does_not_come_is_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with open_nats(tmp_path, IMAGE, 1, nats_conf(addresses(1)), growable) as nats:
        desk = nats.desk
        growth = compose_growth(*await nats.look(), "2Gi")
        plan = await desk.plan(growth.stages)
        assert "+      storage: 2Gi" in plan.stages[0].preview.diff

        async def driver() -> None:
            while (await claim(nats))["spec"]["resources"]["requests"]["storage"] != "2Gi":
                await asyncio.sleep(0.2)
            await driver_says(nats, "1Gi", "FileSystemResizePending")
            await asyncio.sleep(2)
            await driver_says(nats, "2Gi")

        driving = asyncio.create_task(driver())
        ended = await desk.run(await desk.approved(plan))
        await driving
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert ended.stages[0].after == {"capacity": 2 * 2**30, "requested": 2 * 2**30}

        monkeypatch.setattr(kubernetes_grow_volume.ACTION, "patience", 2.0)
        larger = await desk.plan(compose_growth(*await nats.look(), "3Gi").stages)
        await driver_says(nats, "2Gi", "FileSystemResizePending")
        ended = await desk.run(await desk.approved(larger))
        assert ended.state is ExecutionState.NEEDS_HUMAN
        assert "its file system grows when the pod that uses it is started anew" in ended.sentence
        assert "no volume can be made smaller" in ended.sentence
        assert (await claim(nats))["spec"]["resources"]["requests"]["storage"] == "3Gi"
