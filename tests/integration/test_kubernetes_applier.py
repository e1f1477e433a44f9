"""The applier on a real cluster: with the roles that deploy/ ships each of its writes works, and nothing else does."""

import asyncio
from collections.abc import AsyncGenerator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader, KubernetesApiWriter
from bot.errors import ObjectMoved, ObjectRefused, ReadDenied, Refused, WriteDenied
from bot.model import JsonObject, OperationId
from bot.model.kubernetes import Kind, creation, deletion, patch, receipt_of, signed
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_support import (
    IMAGE,
    NOT_FOUND,
    PULL_POLICY,
    Cluster,
    Raw,
    applier_of,
    new_namespace,
    open_cluster,
    reader_of,
)

pytestmark = [pytest.mark.kubernetes, pytest.mark.asyncio(loop_scope="module")]

OPERATION = OperationId("op_1")
LABELS = {"app": "nats"}


@dataclass
class Scene:
    cluster: Cluster
    settings: KubernetesSettings
    reader: KubernetesApiReader
    writer: KubernetesApiWriter

    @property
    def namespace(self) -> str:
        return self.settings.namespace

    async def pod(self) -> JsonObject | None:
        """The one pod, as the administrator sees it: the reader lists pods, and gets none."""
        status, found = await self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/pods/nats-9")
        return None if status == NOT_FOUND else found

    async def read(self, kind: Kind, name: str) -> JsonObject:
        found = await self.reader.object(kind, name)
        assert found is not None, (kind, name)
        return found


def objects(namespace: str) -> list[Raw]:
    """One of each kind that is written. No pod of the StatefulSet runs: its writes are what matters here."""
    container = {"name": "nats", "image": IMAGE, "imagePullPolicy": PULL_POLICY}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}

    def meta(name: str) -> Raw:
        return {"name": name, "namespace": namespace, "labels": LABELS}

    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("nats-config"), "data": {"nats.conf": "port: 4222"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta("nats-9") | {"labels": {}}, "spec": spec},
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": meta("nats"),
            "spec": {
                "replicas": 0,
                "serviceName": "nats-headless",
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": spec},
            },
        },
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with open_cluster() as cluster:
        namespace = await new_namespace(cluster)
        for raw in objects(namespace):
            await cluster.create(raw)
        folder = tmp_path_factory.mktemp("applier")
        reading = await reader_of(cluster, folder, namespace, statefulset="nats")
        settings = await applier_of(cluster, folder, reading)
        applier = settings.as_applier
        assert applier is not None
        yield Scene(cluster, settings, KubernetesApiReader(settings, SystemClock()), KubernetesApiWriter(applier))


def edited(raw: JsonObject, replicas: int) -> JsonObject:
    return raw | {"spec": raw["spec"] | {"replicas": replicas}}


async def test_a_stateful_set_is_changed_in_one_field_with_receipt_and_field_manager(scene: Scene):
    before = await scene.read(Kind.STATEFUL_SET, "nats")
    template = deepcopy(before["spec"]["template"])
    template["spec"]["terminationGracePeriodSeconds"] = 60
    wanted = before | {"spec": before["spec"] | {"template": template}}
    made = await scene.writer.write(patch(Kind.STATEFUL_SET, before, signed(wanted, OPERATION)))
    after = await scene.read(Kind.STATEFUL_SET, "nats")
    assert after["metadata"]["uid"] == made["metadata"]["uid"] == before["metadata"]["uid"]
    assert receipt_of(after) == OPERATION
    assert after["spec"] == wanted["spec"], "nothing else moved"
    assert "natsmedic" in {entry["manager"] for entry in after["metadata"]["managedFields"]}


async def test_whoever_wrote_in_between_wins(scene: Scene):
    before = await scene.read(Kind.CONFIG_MAP, "nats-config")
    await scene.cluster.patch("ConfigMap", "nats-config", scene.namespace, {"data": {"other": "1"}})
    with pytest.raises(ObjectMoved, match="409 Conflict"):
        await scene.writer.write(patch(Kind.CONFIG_MAP, before, before | {"data": {"nats.conf": "port: 4333"}}))
    now = await scene.read(Kind.CONFIG_MAP, "nats-config")
    assert now["data"] == {"nats.conf": "port: 4222", "other": "1"}
    made = await scene.writer.write(patch(Kind.CONFIG_MAP, now, now | {"data": {"nats.conf": "port: 4333"}}))
    assert made["data"] == {"nats.conf": "port: 4333"}


async def test_another_object_of_the_same_name_is_not_touched(scene: Scene):
    before = await scene.read(Kind.STATEFUL_SET, "nats")
    stranger = before | {"metadata": before["metadata"] | {"uid": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(ObjectRefused, match="422 Invalid"):
        await scene.writer.write(patch(Kind.STATEFUL_SET, stranger, edited(stranger, 5)))
    pod = await scene.pod()
    assert pod is not None
    other = pod | {"metadata": pod["metadata"] | {"uid": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(ObjectMoved, match="409 Conflict"):
        await scene.writer.write(deletion(Kind.POD, other))
    still = await scene.pod()
    assert still is not None
    assert still["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_a_rehearsal_shows_what_would_be_stored_and_stores_nothing(scene: Scene):
    before = await scene.read(Kind.STATEFUL_SET, "nats")
    template = deepcopy(before["spec"]["template"])
    template["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8222}}
    wanted = before | {"spec": before["spec"] | {"template": template}}
    seen = await scene.writer.rehearse(patch(Kind.STATEFUL_SET, before, wanted))
    probe = seen.after["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert (seen.by_server, probe["failureThreshold"]) == (True, 3), "the server's own defaults are in it"
    assert await scene.read(Kind.STATEFUL_SET, "nats") == before
    immutable = before | {"spec": before["spec"] | {"serviceName": "other"}}
    with pytest.raises(
        Refused, match=r"would refuse to patch statefulsets nats: .*Forbidden: updates to statefulset spec"
    ):
        await scene.writer.rehearse(patch(Kind.STATEFUL_SET, before, immutable))


async def test_a_budget_is_made_once_and_taken_away(scene: Scene):
    facts = await scene.reader.gather()
    listing = facts.listing(Kind.BUDGET)
    assert listing is not None
    budget = creation(
        Kind.BUDGET,
        {
            "apiVersion": listing.api,
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "nats"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}},
        },
    )
    await scene.writer.write(budget)
    with pytest.raises(ObjectRefused, match="409 AlreadyExists"):
        await scene.writer.write(budget)
    await scene.writer.write(deletion(Kind.BUDGET, await scene.read(Kind.BUDGET, "nats")))
    assert await scene.reader.object(Kind.BUDGET, "nats") is None


async def test_one_pod_is_deleted_once(scene: Scene):
    pod = await scene.pod()
    assert pod is not None
    await scene.writer.write(deletion(Kind.POD, pod))
    for _ in range(100):
        if await scene.pod() is None:
            break
        await asyncio.sleep(0.1)
    with pytest.raises(ObjectRefused, match="404 NotFound"):
        await scene.writer.write(deletion(Kind.POD, pod))


FOLDERS = {
    "apps/v1": ("statefulsets", "deployments", "daemonsets", "replicasets", "controllerrevisions"),
    "v1": (
        *("pods", "configmaps", "secrets", "services", "endpoints", "serviceaccounts"),
        *("persistentvolumeclaims", "events", "replicationcontrollers", "resourcequotas", "limitranges"),
    ),
    "policy/v1beta1": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io/v1": ("roles", "rolebindings"),
    "networking.k8s.io/v1": ("networkpolicies", "ingresses"),
    "batch/v1": ("jobs",),
}
ALLOWED = {
    *(("PATCH", "statefulsets"), ("DELETE", "pods"), ("PATCH", "configmaps"), ("PATCH", "persistentvolumeclaims")),
    *(("POST", "poddisruptionbudgets"), ("PATCH", "poddisruptionbudgets"), ("DELETE", "poddisruptionbudgets")),
}
FORBIDDEN = [
    (
        method,
        f"/{'api' if api == 'v1' else 'apis'}/{api}/namespaces/{{}}/{plural}" + ("" if method == "POST" else "/any"),
    )
    for api, plurals in FOLDERS.items()
    for plural in plurals
    for method in ("POST", "PATCH", "DELETE")
    if (method, plural) not in ALLOWED
] + [
    ("PATCH", "/apis/apps/v1/namespaces/{}/statefulsets/nats/scale"),
    ("PATCH", "/apis/apps/v1/namespaces/{}/statefulsets/nats/status"),
    ("POST", "/api/v1/namespaces/{}/pods/nats-0/exec?command=sh"),
    ("POST", "/api/v1/namespaces/{}/pods/nats-0/eviction"),
    ("GET", "/api/v1/namespaces/{}/pods/nats-0/log"),
    ("GET", "/api/v1/namespaces/{}/secrets"),
    ("GET", "/api/v1/namespaces/{}/secrets/any"),
    ("DELETE", "/api/v1/namespaces/{}/pods"),
    ("DELETE", "/apis/apps/v1/namespaces/{}/statefulsets"),
    ("PATCH", "/apis/apps/v1/namespaces/kube-system/statefulsets/any"),
    ("DELETE", "/api/v1/namespaces/kube-system/pods/any"),
    ("PATCH", "/api/v1/nodes/any"),
    ("DELETE", "/api/v1/persistentvolumes/any"),
    ("PATCH", "/apis/storage.k8s.io/v1/storageclasses/any"),
    ("DELETE", "/api/v1/namespaces/{}"),
]


async def test_nothing_else_is_granted(scene: Scene):
    assert scene.settings.applier is not None
    assert scene.settings.applier.token_file is not None
    as_applier = Cluster(scene.cluster.client_of(scene.settings.applier.token_file.read_text()))
    answers: dict[tuple[str, str], int] = {}
    for method, path in FORBIDDEN:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answers[method, path], _ = await as_applier.call(method, path.format(scene.namespace), {}, kind)
    await as_applier.close()
    assert len(answers) > 40
    assert {asked: status for asked, status in answers.items() if status != 403} == {}


async def test_a_right_that_is_missing_is_named_and_nothing_is_applied(scene: Scene, tmp_path: Path):
    other = await new_namespace(scene.cluster)
    await scene.cluster.create(objects(other)[2])

    def without_patching(made: Raw) -> None:
        if made["kind"] == "Role":
            made["rules"] = [rule for rule in made["rules"] if "statefulsets" not in rule["resources"]]

    reading = await reader_of(scene.cluster, tmp_path, other, statefulset="nats")
    applier = (await applier_of(scene.cluster, tmp_path, reading, without_patching)).as_applier
    assert applier is not None
    reader, writer = KubernetesApiReader(reading, SystemClock()), KubernetesApiWriter(applier)
    before = await reader.object(Kind.STATEFUL_SET, "nats")
    assert before is not None
    change = patch(Kind.STATEFUL_SET, before, edited(before, 5))
    with pytest.raises(WriteDenied, match=r"may not patch statefulsets\.apps nats.*no role grants it `patch`"):
        await writer.write(change)
    with pytest.raises(ReadDenied, match="may not patch statefulsets nats"):
        await writer.rehearse(change)
    assert await reader.object(Kind.STATEFUL_SET, "nats") == before
