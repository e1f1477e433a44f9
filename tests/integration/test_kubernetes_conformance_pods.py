"""The stand-in's pods live and break as those of a real cluster: every test runs against both, and the real cluster is right."""

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.lab.http import http_client
from bot.lab.kubernetes import NatsManifest
from bot.model.kubernetes import ConfigFile, Workload
from bot.model.nats_conf import NatsConf
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_conformance import (
    BAD_IMAGE,
    OTHER_UID,
    PODS,
    SETS,
    STRATEGIC,
    World,
    container,
    status_of,
    until,
    workload,
)
from tests.integration.kubernetes_support import PULL_POLICY

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


async def test_a_workload_makes_its_pods_and_counts_them(world: World):
    made = await world.make(SETS, workload(2))
    found = await world.ready()
    status = found["status"]
    assert status["currentRevision"] == status["updateRevision"]
    keys = ("observedGeneration", "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "collisionCount")
    assert [status[key] for key in keys] == [1, 2, 2, 2, 2, 0]
    pod = await world.pod("nats-1")
    assert pod is not None
    assert pod["metadata"]["generateName"] == "nats-"
    assert pod["metadata"]["labels"] == {
        "app": "nats",
        "controller-revision-hash": status["currentRevision"],
        "statefulset.kubernetes.io/pod-name": "nats-1",
    }
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nats", "uid": made["metadata"]["uid"]}
    assert pod["metadata"]["ownerReferences"] == [owner | {"controller": True, "blockOwnerDeletion": True}]
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("nats-1", "nats-headless")
    assert (pod["status"]["phase"], pod["status"]["qosClass"]) == ("Running", "BestEffort")
    assert pod["spec"]["nodeName"]
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert conditions == dict.fromkeys(("Initialized", "Ready", "ContainersReady", "PodScheduled"), "True")
    one = status_of(pod)
    assert (one["ready"], one["started"], one["restartCount"], one["lastState"]) == (True, True, 0, {})
    assert one["state"]["running"].keys() == {"startedAt"}
    entries = {entry["manager"] for entry in pod["metadata"]["managedFields"]}
    assert {"kube-controller-manager", "kubelet"} <= entries
    async with http_client() as client:
        answer = await client.get(f"http://{pod['status']['podIP']}:8222/varz")
    assert answer.json()["port"] == 4222


async def test_events_tell_what_happened(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    event = await world.told("StatefulSet", "nats", "SuccessfulCreate")
    assert event["message"] == "create Pod nats-0 in StatefulSet nats successful"
    assert (event["type"], event["source"]["component"]) == ("Normal", "statefulset-controller")
    assert event["involvedObject"]["apiVersion"] == "apps/v1"
    pod = await world.pod("nats-0")
    assert pod is not None
    scheduled = await world.told("Pod", "nats-0", "Scheduled")
    where = f"{world.namespace}/nats-0 to {pod['spec']['nodeName']}"
    assert scheduled["message"] == f"Successfully assigned {where}"
    for reason, message in (
        ("Pulled", "already present on machine"),
        ("Created", "Created container nats"),
        ("Started", "Started container nats"),
    ):
        told = await world.told("Pod", "nats-0", reason, message)
        assert told["involvedObject"]["fieldPath"] == "spec.containers{nats}"
        assert told["source"] == {"component": "kubelet", "host": pod["spec"]["nodeName"]}


async def test_ordered_pods_come_one_after_the_other(world: World):
    await world.make(SETS, workload(2, "OrderedReady"))
    await world.ready()
    first, second = await world.pod("nats-0"), await world.pod("nats-1")
    assert first is not None
    assert second is not None
    became_ready = next(c["lastTransitionTime"] for c in first["status"]["conditions"] if c["type"] == "Ready")
    assert second["metadata"]["creationTimestamp"] >= became_ready


async def test_an_image_that_may_not_be_pulled(world: World):
    await world.make(SETS, workload(1, pod=container(image=BAD_IMAGE, imagePullPolicy="Never")))
    pod = await world.waiting_for("nats-0", "ErrImageNeverPull")
    words = f'Container image "{BAD_IMAGE}" is not present with pull policy of Never'
    assert status_of(pod)["state"]["waiting"]["message"] == words
    assert (await world.told("Pod", "nats-0", "ErrImageNeverPull"))["message"] == words
    assert (await world.told("Pod", "nats-0", "Failed"))["message"] == "Error: ErrImageNeverPull"


async def test_a_failing_readiness_keeps_a_pod_unready_and_says_why(world: World):
    probe = {"httpGet": {"path": "/no-such-page", "port": "monitor"}, "periodSeconds": 1}
    await world.make(SETS, workload(1, pod=container(readinessProbe=probe)))
    event = await world.told("Pod", "nats-0", "Unhealthy", "statuscode")
    assert event["message"] == "Readiness probe failed: HTTP probe failed with statuscode: 404"
    assert event["type"] == "Warning"

    async def running() -> bool:
        return bool(status_of(await world.pod("nats-0")).get("state", {}).get("running"))

    await until("the kubelet's report", running)
    pod = await world.pod("nats-0")
    assert pod is not None
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    assert (condition["status"], condition["reason"]) == ("False", "ContainersNotReady")
    assert condition["message"] == "containers with unready status: [nats]"
    assert (pod["status"]["phase"], status_of(pod)["ready"], status_of(pod)["restartCount"]) == ("Running", False, 0)


async def test_a_failing_liveness_restarts_the_container(world: World):
    probe = {"httpGet": {"path": "/no-such-page", "port": "monitor"}, "periodSeconds": 1, "failureThreshold": 2}
    await world.make(SETS, workload(1, pod=container(livenessProbe=probe)))
    event = await world.told("Pod", "nats-0", "Killing", "liveness")
    assert event["message"] == "Container nats failed liveness probe, will be restarted"
    uid = await world.uid("nats-0")

    async def restarted() -> bool:
        return status_of(await world.pod("nats-0")).get("restartCount", 0) >= 1

    await until("a restart", restarted)
    assert await world.uid("nats-0") == uid
    ended = status_of(await world.pod("nats-0"))["lastState"]["terminated"]
    assert ended.keys() >= {"exitCode", "reason", "startedAt", "finishedAt", "containerID"}
    before = await world.ask("GET", f"{PODS}/nats-0/log", previous="true")
    assert "Server Exiting" in before.text


async def test_a_crash_is_started_again_with_back_off(world: World):
    pod = container(args=["--config", "/no-such-file"])
    await world.make(SETS, workload(1, pod=pod))
    found = await world.waiting_for("nats-0", "CrashLoopBackOff")
    one = status_of(found)
    assert one["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=nats pod=nats-0_")
    ended = one["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert one["restartCount"] == 1
    assert (await world.told("Pod", "nats-0", "BackOff"))["message"] == "Back-off restarting failed container"


async def test_logs(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    log = await world.ask("GET", f"{PODS}/nats-0/log")
    assert "Starting nats-server" in log.text
    assert (await world.ask("GET", f"{PODS}/nats-0/log", tailLines=1)).text == log.text.splitlines(keepends=True)[-1]
    answer = await world.ask("GET", f"{PODS}/nats-0/log", container="nope")
    assert answer.refusal == (400, "BadRequest", "container nope is not valid for pod nats-0")
    answer = await world.ask("GET", f"{PODS}/nats-0/log", previous="true")
    words = 'previous terminated container "nats" in pod "nats-0" not found'
    assert answer.refusal == (400, "BadRequest", words)


async def test_a_deleted_pod_has_its_grace_and_another_comes(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    uid = await world.uid("nats-0")
    answer = await world.ask("DELETE", f"{PODS}/nats-0", {"preconditions": {"uid": OTHER_UID}})
    assert answer.refusal[:2] == (409, "Conflict")
    going = await world.delete(f"{PODS}/nats-0", {"preconditions": {"uid": uid}})
    assert (going["kind"], going["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 3)
    assert going["metadata"]["deletionTimestamp"] > going["metadata"]["creationTimestamp"]
    assert (await world.told("Pod", "nats-0", "Killing"))["message"] == "Stopping container nats"
    await world.replaced("nats-0", uid)
    await world.ready()
    gone = await world.delete(f"{PODS}/nats-0", {"gracePeriodSeconds": 0})
    assert gone["kind"] == "Pod"


async def test_little_of_a_pod_can_be_changed(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    answer = await world.ask("PATCH", f"{PODS}/nats-0", {"spec": {"terminationGracePeriodSeconds": 99}}, STRATEGIC)
    assert answer.refusal[:2] == (422, "Invalid")
    assert answer.refusal[2].startswith(
        'Pod "nats-0" is invalid: spec: Forbidden: pod updates may not change fields other than'
    )


async def test_our_reader_sees_the_same_cluster(world: World):
    manifest = NatsManifest(
        version="2.11.11",
        namespace=world.namespace,
        replicas=2,
        budget_api="policy/v1beta1",
        grace=5,
        pull_policy=PULL_POLICY,
        helm=True,
        storage_class=None,
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}},
    )
    for raw in manifest.manifests():
        group = "" if raw["apiVersion"] == "v1" else "s"
        plural = {
            "StatefulSet": "statefulsets",
            "PodDisruptionBudget": "poddisruptionbudgets",
            "ConfigMap": "configmaps",
        }.get(raw["kind"], "services")
        await world.make(f"/api{group}/{raw['apiVersion']}/namespaces/{{}}/{plural}", raw, fieldManager="helm")
    await world.ready()
    settings = KubernetesSettings(kubeconfig=world.kubeconfig, namespace=world.namespace)
    facts = await KubernetesApiReader(settings, SystemClock()).gather()
    assert facts.unknown == ()
    found = facts.workload
    assert isinstance(found, Workload)
    assert (found.name, found.replicas, found.ready_replicas, found.pod_management_policy) == ("nats", 2, 2, "Parallel")
    assert isinstance(found.pods, tuple)
    assert [(pod.name, pod.ready, pod.phase, pod.qos) for pod in found.pods] == [
        (f"nats-{i}", True, "Running", "Burstable") for i in range(2)
    ]
    assert isinstance(found.conf, NatsConf)
    assert found.conf.cluster is not None
    assert isinstance(found.conf.cluster.routes, tuple)
    assert [route.address for route in found.conf.cluster.routes] == [f"nats-{i}.nats-headless:6222" for i in range(2)]
    backends = found.backends("nats-headless")
    assert isinstance(backends, tuple)
    assert {(b.pod, b.ip, b.ready) for b in backends} == {(pod.name, pod.ip, True) for pod in found.pods}
    assert isinstance(found.budgets, tuple)
    assert [budget.disruptions_allowed for budget in found.budgets] == [1]
    assert [owner.name for owner in found.owners] == ["nats"]
    path = ("spec", "template", "spec", "containers", {"name": "nats"}, "readinessProbe", "httpGet", "path")
    assert [manager.name for manager in found.managers(*path)] == ["helm"]
    file = found.config_file
    assert isinstance(file, ConfigFile)
    async with http_client() as client:
        for pod in found.pods:
            varz = (await client.get(f"http://{pod.ip}:8222/varz")).json()
            assert varz["config_digest"] in file.digests[pod.name], "the server has loaded what the ConfigMap holds"
            assert (varz["server_name"], varz["mem"] > 0) == (pod.name, True)
            routez = (await client.get(f"http://{pod.ip}:8222/routez")).json()
            assert {route["remote_name"] for route in routez["routes"]} == {"nats-0", "nats-1"} - {pod.name}
