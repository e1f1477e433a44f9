"""The Kubernetes side of a real cluster, read as the administrator and as the ServiceAccount of deploy/kubernetes-reader.yaml."""

import io
import zipfile
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from bot.adapters.archive import content_digest, read_archive, write_archive
from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.model import Snapshot, SnapshotId, Unknown, UnknownReason
from bot.model.kubernetes import ConfigFile, Kind, KubernetesFacts, OwnerKind, Pod, Service
from bot.model.nats_conf import NatsConf, Variable
from bot.settings.clusters import KubernetesSettings
from tests.integration import kubernetes_objects as objects
from tests.integration.kubernetes_scene import (
    Scene,
    everything,
    gather,
    known,
    open_scene,
    skip_where_a_custom_resource_ends_the_server,
    the_workload,
)
from tests.integration.kubernetes_support import NEWER_IMAGE, Cluster, Raw, admin, new_namespace, reader_of, until

pytestmark = [pytest.mark.kubernetes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with open_scene(tmp_path_factory.mktemp("reader")) as opened:
        yield opened


async def test_with_the_shipped_roles_nothing_is_unknown(scene: Scene):
    facts = await gather(scene.settings)
    assert facts.unknown == ()
    assert facts.version.startswith("v1.")
    as_administrator = await gather(admin(scene.namespace))
    kinds = {listing.kind: len(listing.items or ()) for listing in facts.listings}
    assert kinds == {listing.kind: len(listing.items or ()) for listing in as_administrator.listings}


async def test_the_stateful_set_is_read_as_it_was_written(scene: Scene):
    workload = the_workload(await gather(scene.settings))
    nats = workload.nats
    assert nats.readiness is not None
    assert nats.startup is not None
    assert (workload.name, workload.replicas, workload.ready_replicas, workload.observed) == ("nats", 2, 2, True)
    assert (nats.readiness.endpoint, dict(nats.readiness.parameters)) == ("/healthz", {"js-server-only": "true"})
    assert nats.port_number(nats.readiness.port) == 8222
    assert (nats.readiness.period, nats.readiness.failure_threshold) == (2, 3)
    assert (nats.startup.path, nats.startup.patience, nats.liveness) == ("/healthz", 180, None)
    assert (nats.resources.cpu_request, nats.resources.memory_limit) == (0.05, 128 * 2**20)
    assert (nats.gomemlimit, nats.image.reference) == (100 * 2**20, NEWER_IMAGE)
    assert workload.container("nats") == nats
    assert (workload.pod_management_policy, workload.grace_seconds) == ("Parallel", 5)
    assert [(s.topology_key, s.required) for s in workload.spread] == [("kubernetes.io/hostname", False)]


async def test_pods_services_volumes_budget_and_nodes_are_tied_together(scene: Scene):
    workload = the_workload(await gather(scene.settings))
    pods = known(workload.pods)
    assert [pod.name for pod in pods] == ["nats-0", "nats-1"]
    assert all(pod.ready and pod.phase == "Running" and pod.qos == "Burstable" and pod.ip for pod in pods)
    assert {pod.revision for pod in pods} == {workload.current_revision}
    assert [revision.name for revision in known(workload.revisions)] == [workload.current_revision]
    assert isinstance(workload.headless, Service)
    assert workload.headless.headless
    assert workload.headless.publishes_not_ready
    assert {service.name for service in known(workload.services)} == {"nats", "nats-headless"}
    assert {(b.pod, b.ip, b.ready) for b in known(workload.backends("nats"))} == {(p.name, p.ip, True) for p in pods}
    claims = known(workload.store_claims)
    assert [claim.name for claim in claims] == ["data-nats-0", "data-nats-1"]
    for claim in claims:
        volume, storage = workload.volume_of(claim), workload.class_of(claim)
        assert not isinstance(volume, Unknown)
        assert not isinstance(storage, Unknown)
        assert volume is not None
        assert storage is not None
        assert (claim.phase, claim.requested) == ("Bound", 512 * 2**20)
        assert (volume.capacity or 0) >= 512 * 2**20
        assert storage.provisioner
    (budget,) = known(workload.budgets)
    assert budget.max_unavailable == 1
    for pod in pods:
        node = workload.node_of(pod)
        assert node is not None
        assert not isinstance(node, Unknown)
        assert node.ready
        assert (node.allocatable_memory or 0) > 2**20
    assert {"SuccessfulCreate"} <= {event.reason for event in known(workload.events)}


async def test_nats_conf_is_read_and_its_digest_is_the_one_that_each_server_reports(scene: Scene):
    workload = the_workload(await gather(scene.settings))
    file = workload.config_file
    conf = workload.conf
    assert not isinstance(file, Unknown)
    assert isinstance(conf, NatsConf)
    assert conf.cluster is not None
    assert conf.jetstream is not None
    assert isinstance(conf.cluster.routes, tuple)
    assert (file.name, file.key, file.live) == ("nats-config", "nats.conf", True)
    assert [r.address for r in conf.cluster.routes] == [f"nats-{i}.nats-headless:6222" for i in range(2)]
    assert (conf.jetstream.max_file, conf.accounts, conf.server_name) == (
        256 * 2**20,
        ("SYS", "APP"),
        Variable("POD_NAME"),
    )
    for pod in known(workload.pods):
        status, varz = await scene.cluster.call(
            "GET", f"/api/v1/namespaces/{scene.namespace}/pods/{pod.name}:8222/proxy/varz"
        )
        assert status == 200
        assert varz["config_digest"] in file.digests[pod.name]
        own = workload.conf_of(pod)
        assert isinstance(own, NatsConf)
        assert own.server_name == varz["server_name"] == pod.name


async def test_owners_and_managers_of_fields_are_read(scene: Scene):
    workload = the_workload(await gather(scene.settings))
    assert [(owner.kind, owner.name, owner.namespace) for owner in workload.owners] == [
        (OwnerKind.HELM, "nats", "queues")
    ]
    path = ("spec", "template", "spec", "containers", {"name": "nats"}, "readinessProbe", "httpGet", "path")
    (manager,) = workload.managers(*path)
    assert manager.operation == "Update"
    assert workload.managers("status", "readyReplicas") != workload.managers(*path)


async def test_no_planted_secret_leaves_the_adapter_or_enters_an_archive(scene: Scene):
    facts = await gather(admin(scene.namespace))
    assert objects.CANARY not in everything(facts)
    snapshot = Snapshot(
        id=SnapshotId("snap_1"),
        cluster="prod",
        taken_at=datetime(2026, 1, 1, tzinfo=UTC),
        via="system account",
        servers=(),
        samples=(),
        kubernetes=facts,
    )
    archive = write_archive(snapshot)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content = b"".join(opened.read(name) for name in opened.namelist())
    assert b"nats-config" in content
    assert objects.CANARY.encode() not in content
    again = read_archive(archive)
    assert again.kubernetes is not None
    assert again.kubernetes == facts
    assert content_digest(again) == content_digest(snapshot)
    assert the_workload(again.kubernetes).conf == the_workload(facts).conf


RIGHTS = [
    ("Role", "statefulsets", Kind.STATEFUL_SET, "list"),
    ("Role", "pods", Kind.POD, "list"),
    ("Role", "controllerrevisions", Kind.REVISION, "list"),
    ("Role", "services", Kind.SERVICE, "list"),
    ("Role", "endpoints", Kind.ENDPOINTS, "list"),
    ("Role", "endpointslices", Kind.ENDPOINT_SLICE, "list"),
    ("Role", "persistentvolumeclaims", Kind.CLAIM, "list"),
    ("Role", "events", Kind.EVENT, "list"),
    ("Role", "poddisruptionbudgets", Kind.BUDGET, "list"),
    ("Role", "configmaps", Kind.CONFIG_MAP, "get"),
    ("ClusterRole", "nodes", Kind.NODE, "get"),
    ("ClusterRole", "persistentvolumes", Kind.VOLUME, "get"),
    ("ClusterRole", "storageclasses", Kind.STORAGE_CLASS, "get"),
]


@pytest.mark.parametrize(("role", "resource", "kind", "verb"), RIGHTS)
async def test_a_right_that_is_taken_away_leaves_one_unknown_that_names_it(
    scene: Scene, role: str, resource: str, kind: Kind, verb: str
):
    name, namespace = "natsmedic-reader", scene.namespace if role == "Role" else None
    if namespace is None:
        name += "-" + scene.namespace.rpartition("-")[2]
    rules = (await scene.cluster.get(role, name, namespace))["rules"]
    less = [rule | {"resources": [r for r in rule["resources"] if r != resource]} for rule in rules]
    await scene.cluster.patch(role, name, namespace, {"rules": [rule for rule in less if rule["resources"]]})
    try:

        async def denied() -> bool:
            return isinstance((await gather(scene.settings)).of(kind), Unknown)

        await until(f"the loss of {resource}", denied, 20)
        facts = await gather(scene.settings)
    finally:
        await scene.cluster.patch(role, name, namespace, {"rules": rules})
    found = facts.of(kind)
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.DENIED
    assert f"may not {verb} {resource}" in found.detail
    assert (scene.namespace if role == "Role" else "in the whole cluster") in found.detail
    assert facts.unknown == (found,), "nothing else becomes unknown for another reason"

    async def granted() -> bool:
        return not (await gather(scene.settings)).unknown

    await until(f"the return of {resource}", granted, 20)


async def test_without_slices_the_endpoints_tell_who_is_behind_a_service(scene: Scene):
    facts = await gather(scene.settings)
    denied = Unknown(reason=UnknownReason.DENIED, detail="no")
    kept = tuple(
        listing.model_copy(update={"items": None, "unknown": denied})
        if listing.kind is Kind.ENDPOINT_SLICE
        else listing
        for listing in facts.listings
    )
    blind = KubernetesFacts(facts.namespace, facts.taken_at, kept, facts.config_files)
    backends = known(the_workload(blind).backends("nats"))
    assert {(b.pod, b.ready) for b in backends} == {("nats-0", True), ("nats-1", True)}


WRITES = [
    ("PATCH", "/apis/apps/v1/namespaces/{}/statefulsets/nats"),
    ("DELETE", "/apis/apps/v1/namespaces/{}/statefulsets/nats"),
    ("PATCH", "/apis/apps/v1/namespaces/{}/statefulsets/nats/scale"),
    ("PATCH", "/api/v1/namespaces/{}/configmaps/nats-config"),
    ("DELETE", "/api/v1/namespaces/{}/pods/nats-0"),
    ("POST", "/api/v1/namespaces/{}/pods/nats-0/eviction"),
    ("POST", "/api/v1/namespaces/{}/pods/nats-0/exec?command=sh"),
    ("GET", "/api/v1/namespaces/{}/pods/nats-0/log"),
    ("GET", "/api/v1/namespaces/{}/secrets"),
    ("GET", "/api/v1/namespaces/{}/configmaps"),
    ("DELETE", "/api/v1/namespaces/{}/persistentvolumeclaims/data-nats-0"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/nodes/any/proxy/metrics"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_the_reader_can_change_nothing_and_see_no_secret(scene: Scene, method: str, path: str):
    assert scene.settings.token_file is not None
    as_reader = Cluster(scene.cluster.client_of(scene.settings.token_file.read_text()))
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    status, _ = await as_reader.call(method, path.format(scene.namespace), {}, kind)
    assert status == 403
    await as_reader.close()


async def test_a_stateful_set_is_found_by_name_by_labels_or_by_its_image(scene: Scene):
    by_name = await gather(admin(scene.namespace, statefulset="nats"))
    by_labels = await gather(admin(scene.namespace, selector="app.kubernetes.io/name=nats"))
    assert the_workload(by_name).uid == the_workload(by_labels).uid == the_workload(await gather(scene.settings)).uid
    wrong = await gather(admin(scene.namespace, statefulset="other"))
    assert isinstance(wrong.workload, Unknown)
    assert "has none: name it in kubernetes.statefulset" in wrong.workload.detail


async def test_long_lists_are_read_page_by_page(scene: Scene):
    paged = await KubernetesApiReader(admin(scene.namespace), SystemClock(), page=1).gather()
    assert [pod.name for pod in known(the_workload(paged).pods)] == ["nats-0", "nats-1"]
    assert paged.unknown == ()


async def test_nack_is_absent_until_it_is_installed_and_then_its_resources_are_read(scene: Scene):
    await skip_where_a_custom_resource_ends_the_server(scene.cluster)
    before = await gather(scene.settings)
    if before.stream_resources != ():
        pytest.skip("NACK is installed in this cluster")
    for plural, kind in (("streams", "Stream"), ("consumers", "Consumer")):
        await scene.cluster.create(objects.nack_definition(plural, kind))
    api = "jetstream.nats.io/v1beta2"
    named = {"name": "orders", "namespace": scene.namespace}
    stream: Raw = {"apiVersion": api, "kind": "Stream", "metadata": named, "spec": {"name": "ORDERS"}}
    consumer: Raw = {
        "apiVersion": api,
        "kind": "Consumer",
        "metadata": named,
        "spec": {"streamName": "ORDERS", "durableName": "worker"},
    }

    async def served() -> bool:
        return (await scene.cluster.call("GET", f"/apis/{api}/consumers"))[0] == 200

    await until("the custom resources", served, 20)
    for raw in (stream, consumer):
        await scene.cluster.create(raw)
    after = await gather(scene.settings)
    assert [resource.stream for resource in known(after.stream_resources)] == ["ORDERS"]
    assert [(r.stream, r.consumer) for r in known(after.consumer_resources)] == [("ORDERS", "worker")]


async def test_pods_in_trouble_say_why(scene: Scene):
    namespace = await new_namespace(scene.cluster)
    for raw in (*objects.services(namespace), objects.config_map(namespace)):
        await scene.cluster.create(raw)
    starved = objects.stateful_set(namespace, "nats")
    container = starved["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"cpu": "500m", "memory": "32Mi"}}
    container["command"], container["args"] = ["sh", "-c", "tail /dev/zero"], []
    await scene.cluster.create(starved)
    missing = objects.stateful_set(namespace, "missing", image="nats:no-such-tag")
    missing["spec"]["selector"] = {"matchLabels": {"app": "missing"}}
    missing["spec"]["template"]["metadata"]["labels"] = {"app": "missing"}
    missing["spec"]["template"]["spec"]["topologySpreadConstraints"] = []
    await scene.cluster.create(missing)
    settings = admin(namespace)

    async def in_trouble() -> bool:
        pods = await first_pods(settings)
        starved_one, without_image = pods.get("nats-0"), pods.get("missing-0")
        if starved_one is None or without_image is None or "nats" not in without_image.statuses:
            return False
        status = starved_one.statuses.get("nats")
        waiting = without_image.statuses["nats"].waiting_reason
        return status is not None and status.last_termination is not None and waiting.startswith(("ErrImage", "Image"))

    await until("trouble", in_trouble)
    pods = await first_pods(settings)
    status = pods["nats-0"].statuses["nats"]
    assert status.last_termination is not None
    assert status.last_termination.oom_killed
    assert status.last_termination.exit_code == 137
    assert status.restarts >= 1
    assert not pods["nats-0"].ready
    assert pods["nats-0"].qos == "Guaranteed", "limits alone are requests, too"
    facts = await gather(settings)
    assert isinstance(facts.workload, Unknown)
    assert "has missing, nats: name it" in facts.workload.detail
    both = {workload.name: workload for workload in known(facts.workloads)}
    assert [pod.name for pod in known(both["missing"].pods)] == ["missing-0", "missing-1"]
    assert any(event.type == "Warning" for event in known(both["nats"].events))


async def first_pods(settings: KubernetesSettings) -> dict[str, Pod]:
    facts = await gather(settings)
    return {pod.name: pod for workload in known(facts.workloads) for pod in known(workload.pods)}


async def test_a_configuration_in_a_secret_is_read_only_where_it_is_allowed_and_granted(scene: Scene, tmp_path: Path):
    namespace = await new_namespace(scene.cluster)
    await scene.cluster.create(objects.config_secret(namespace))
    workload = objects.stateful_set(namespace, "nats")
    spec = workload["spec"]["template"]["spec"]
    spec["volumes"][0] = {"name": "config", "secret": {"secretName": "nats"}}
    mount = {"name": "config", "mountPath": "/etc/nats-config/nats.conf", "subPath": "nats.conf"}
    spec["containers"][0]["volumeMounts"][0] = mount
    workload["spec"]["replicas"] = 0
    await scene.cluster.create(workload)
    off = await reader_of(scene.cluster, tmp_path, namespace)
    on = off.model_copy(update={"read_config_secret": True})

    def file_of(facts: KubernetesFacts) -> ConfigFile:
        found = the_workload(facts).config_file
        assert not isinstance(found, Unknown)
        return found

    not_asked = file_of(await gather(off))
    assert not_asked.unknown is not None
    assert not_asked.unknown.reason is UnknownReason.NOT_CONFIGURED
    assert "grant `get` on secrets/nats" in not_asked.unknown.detail
    refused = file_of(await gather(on))
    assert refused.unknown is not None
    assert refused.unknown.reason is UnknownReason.DENIED
    assert "may not get secrets in namespace" in refused.unknown.detail
    role = await scene.cluster.get("Role", "natsmedic-reader", namespace)
    grant = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["nats"], "verbs": ["get"]}
    await scene.cluster.patch("Role", "natsmedic-reader", namespace, {"rules": [*role["rules"], grant]})

    async def readable() -> bool:
        return file_of(await gather(on)).text is not None

    await until("the grant", readable, 20)
    facts = await gather(on)
    assert file_of(facts).live is False
    conf = the_workload(facts).conf
    assert isinstance(conf, NatsConf)
    assert conf.accounts == ("SYS", "APP")
    assert objects.CANARY not in everything(facts)
