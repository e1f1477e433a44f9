"""The stand-in's pods live, roll and break as those of a real cluster: every test runs against both, and the real cluster is right."""

import asyncio

import httpx
import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.lab.kubernetes import NatsManifest
from bot.model.kubernetes import Workload
from bot.model.nats_conf import NatsConf
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_conformance import (
    BAD_IMAGE,
    BUDGETS,
    NEWER_IMAGE,
    OTHER_UID,
    PODS,
    REVISIONS,
    SETS,
    STRATEGIC,
    World,
    container,
    image,
    revision,
    status_of,
    until,
    workload,
)
from tests.integration.kubernetes_support import PULL_POLICY, Raw

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

EVICTION = {"apiVersion": "policy/v1beta1", "kind": "Eviction"}
PULL_TIMEOUT = 120.0
"""Seconds that a real kubelet may need to find out that there is no such image."""
BUDGET_WORDS = "Cannot evict pod as it would violate the pod's disruption budget."


async def pod_uid(world: World, name: str) -> str:
    pod = await world.pod(name)
    return pod["metadata"]["uid"] if pod else ""


async def replaced(world: World, name: str, uid: str) -> Raw:
    """Waits until another pod has that name."""

    async def other() -> bool:
        return await pod_uid(world, name) not in ("", uid)

    await until(f"another {name}", other)
    found = await world.pod(name)
    assert found is not None
    return found


async def waiting_for(world: World, name: str, *reasons: str) -> Raw:
    """Waits until a pod's container waits for one of these reasons."""

    async def so() -> bool:
        return status_of(await world.pod(name)).get("state", {}).get("waiting", {}).get("reason") in reasons

    await until(f"{name} in {reasons}", so, PULL_TIMEOUT)
    found = await world.pod(name)
    assert found is not None
    return found


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
    async with httpx.AsyncClient() as client:
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


async def test_a_partition_holds_back_the_lower_pods(world: World):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    await world.make(SETS, workload(2, updateStrategy=strategy))
    old = (await world.ready())["status"]["currentRevision"]
    kept, uid = await pod_uid(world, "nats-0"), await pod_uid(world, "nats-1")
    await world.strategic(f"{SETS}/nats", image(NEWER_IMAGE))
    assert revision(await replaced(world, "nats-1", uid)) != old
    status = (await world.ready())["status"]
    assert (status["currentRevision"], status["currentReplicas"], status["updatedReplicas"]) == (old, 1, 1)
    assert await pod_uid(world, "nats-0") == kept
    held = await replaced_after_deletion(world, "nats-0")
    assert revision(held) == old, "a pod below the partition comes back as it was"
    await world.ready()
    await world.strategic(f"{SETS}/nats", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
    await replaced(world, "nats-0", held["metadata"]["uid"])

    async def complete() -> bool:
        status = (await world.ready())["status"]
        return status["currentRevision"] == status["updateRevision"] != old

    await until("the rest", complete)


async def replaced_after_deletion(world: World, name: str) -> Raw:
    uid = await pod_uid(world, name)
    await world.delete(f"{PODS}/{name}")
    return await replaced(world, name, uid)


async def test_on_delete_waits_for_somebody_to_delete(world: World):
    await world.make(SETS, workload(1, updateStrategy={"type": "OnDelete"}))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await pod_uid(world, "nats-0")
    await world.strategic(f"{SETS}/nats", image(NEWER_IMAGE))
    status = (await world.ready())["status"]
    assert status["updateRevision"] != old
    assert "updatedReplicas" not in status
    await asyncio.sleep(1)
    assert await pod_uid(world, "nats-0") == uid
    assert revision(await replaced_after_deletion(world, "nats-0")) == status["updateRevision"]
    status = (await world.ready())["status"]
    assert (status["updatedReplicas"], status["currentRevision"]) == (1, old), (
        "under OnDelete the current revision stays"
    )


async def test_scaling_takes_the_highest_pod_first_and_leaves_the_others(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    uid = await pod_uid(world, "nats-0")
    await world.merge(f"{SETS}/nats/scale", {"spec": {"replicas": 2}})
    await world.ready(replicas=2)
    assert await world.pod("nats-1") is not None
    await world.merge(f"{SETS}/nats/scale", {"spec": {"replicas": 1}})

    async def gone() -> bool:
        return await world.pod("nats-1") is None

    await until("nats-1 gone", gone)
    assert (await world.ready(replicas=1))["status"]["replicas"] == 1
    assert await pod_uid(world, "nats-0") == uid


async def test_a_broken_pod_outlives_the_rollback_until_somebody_deletes_it(world: World):
    await world.make(SETS, workload(2, "OrderedReady"))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await pod_uid(world, "nats-1")
    await world.strategic(f"{SETS}/nats", image(BAD_IMAGE))
    await replaced(world, "nats-1", uid)
    broken = await waiting_for(world, "nats-1", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
    assert broken["status"]["phase"] == "Pending"
    await world.strategic(f"{SETS}/nats", image(container()["image"]))

    async def observed() -> bool:
        raw = await world.read(f"{SETS}/nats")
        return raw["status"]["observedGeneration"] == raw["metadata"]["generation"]

    await until("the rollback seen", observed)
    status = (await world.read(f"{SETS}/nats"))["status"]
    assert status["updateRevision"] == old, "an old template keeps its revision"
    numbers = {raw["metadata"]["name"]: raw["revision"] for raw in (await world.read(REVISIONS))["items"]}
    assert sorted(numbers.values()) == [2, 3]
    assert numbers[old] == 3, "with a new number"
    await asyncio.sleep(1.5)
    assert await pod_uid(world, "nats-1") == broken["metadata"]["uid"], "it is waited for, not replaced"
    assert revision(await replaced_after_deletion(world, "nats-1")) == old
    await world.ready()


async def test_under_parallel_the_rollback_replaces_the_broken_pod_itself(world: World):
    await world.make(SETS, workload(1))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await pod_uid(world, "nats-0")
    await world.strategic(f"{SETS}/nats", image(BAD_IMAGE))
    broken = await replaced(world, "nats-0", uid)
    await waiting_for(world, "nats-0", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
    await world.strategic(f"{SETS}/nats", image(container()["image"]))
    assert revision(await replaced(world, "nats-0", broken["metadata"]["uid"])) == old
    await world.ready()


async def test_an_image_that_may_not_be_pulled(world: World):
    await world.make(SETS, workload(1, pod=container(image=BAD_IMAGE, imagePullPolicy="Never")))
    pod = await waiting_for(world, "nats-0", "ErrImageNeverPull")
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
    uid = await pod_uid(world, "nats-0")

    async def restarted() -> bool:
        return status_of(await world.pod("nats-0")).get("restartCount", 0) >= 1

    await until("a restart", restarted)
    assert await pod_uid(world, "nats-0") == uid
    ended = status_of(await world.pod("nats-0"))["lastState"]["terminated"]
    assert ended.keys() >= {"exitCode", "reason", "startedAt", "finishedAt", "containerID"}
    before = await world.ask("GET", f"{PODS}/nats-0/log", previous="true")
    assert "Server Exiting" in before.text


async def test_a_crash_is_started_again_with_back_off(world: World):
    pod = container(args=["--config", "/no-such-file"])
    await world.make(SETS, workload(1, pod=pod))
    found = await waiting_for(world, "nats-0", "CrashLoopBackOff")
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
    uid = await pod_uid(world, "nats-0")
    answer = await world.ask("DELETE", f"{PODS}/nats-0", {"preconditions": {"uid": OTHER_UID}})
    assert answer.refusal[:2] == (409, "Conflict")
    going = await world.delete(f"{PODS}/nats-0", {"preconditions": {"uid": uid}})
    assert (going["kind"], going["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 3)
    assert going["metadata"]["deletionTimestamp"] > going["metadata"]["creationTimestamp"]
    assert (await world.told("Pod", "nats-0", "Killing"))["message"] == "Stopping container nats"
    await replaced(world, "nats-0", uid)
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


async def test_a_budget_refuses_an_eviction_with_429(world: World):
    await world.make(SETS, workload(2))
    await world.ready()
    chosen = {"matchLabels": {"app": "nats"}}
    await world.make(BUDGETS, {"metadata": {"name": "nats"}, "spec": {"minAvailable": 2, "selector": chosen}})

    async def counted(allowed: int) -> bool:
        raw = await world.read(f"{BUDGETS}/nats")
        status = raw["status"]
        return (
            status.get("observedGeneration") == raw["metadata"]["generation"]
            and status["disruptionsAllowed"] == allowed
            and status["currentHealthy"] == status["expectedPods"] == 2
        )

    await until("the budget counted", lambda: counted(0))
    path, body = f"{PODS}/nats-0/eviction", EVICTION | {"metadata": {"name": "nats-0", "namespace": world.namespace}}
    answer = await world.ask("POST", path, body)
    assert answer.refusal == (429, "TooManyRequests", BUDGET_WORDS)
    (cause,) = answer.body["details"]["causes"]
    assert cause == {
        "reason": "DisruptionBudget",
        "message": "The disruption budget nats needs 2 healthy pods and has 2 currently",
    }
    await world.merge(f"{BUDGETS}/nats", {"spec": {"minAvailable": 1}})
    await until("the budget counted again", lambda: counted(1))
    uid = await pod_uid(world, "nats-0")
    done = await world.ask("POST", path, body)
    assert (done.status, done.body["kind"], done.body["status"]) == (201, "Status", "Success")
    again = EVICTION | {"metadata": {"name": "nats-1", "namespace": world.namespace}}
    answer = await world.ask("POST", f"{PODS}/nats-1/eviction", again)
    assert answer.refusal[:2] == (429, "TooManyRequests"), "one at a time"
    await replaced(world, "nats-0", uid)
    answer = await world.ask("POST", f"{PODS}/nope/eviction", EVICTION | {"metadata": {"name": "nope"}})
    assert answer.refusal == (404, "NotFound", 'pods "nope" not found')


async def test_a_wrong_template_is_stored_and_its_pods_are_refused(world: World):
    await world.make(SETS, workload(1, pod=container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})))
    event = await world.told("StatefulSet", "nats", "FailedCreate")
    why = 'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit'
    assert event["message"] == f'create Pod nats-0 in StatefulSet nats failed error: Pod "nats-0" is invalid: {why}'


async def test_a_deleted_workload_takes_its_pods_along_unless_they_are_orphaned(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    uid = await pod_uid(world, "nats-0")
    answer = await world.ask("DELETE", f"{SETS}/nats", {"preconditions": {"uid": OTHER_UID}})
    assert answer.refusal[:2] == (409, "Conflict")
    assert 'Operation cannot be fulfilled on StatefulSet.apps "nats"' in answer.refusal[2]
    await world.delete(f"{SETS}/nats", {"propagationPolicy": "Orphan"})

    async def orphaned() -> bool:
        pod = await world.pod("nats-0")
        gone = (await world.ask("GET", f"{SETS}/nats")).status == 404
        return gone and pod is not None and "ownerReferences" not in pod["metadata"]

    await until("the orphan", orphaned)
    await world.make(SETS, workload(1))

    async def adopted() -> bool:
        return bool(((await world.pod("nats-0")) or {}).get("metadata", {}).get("ownerReferences"))

    await until("the adoption", adopted)
    assert await pod_uid(world, "nats-0") == uid, "the next workload of that name adopts it"
    gone = await world.delete(f"{SETS}/nats")
    assert (gone["kind"], gone["status"]) == ("Status", "Success")

    async def without_pods() -> bool:
        return not (await world.read(PODS))["items"]

    await until("the pods gone", without_pods)


async def test_our_reader_sees_the_same_cluster(world: World):
    manifest = NatsManifest(
        version="2.11.11",
        namespace=world.namespace,
        replicas=2,
        budget_api="policy/v1beta1",
        grace=3,
        pull_policy=PULL_POLICY,
        helm=True,
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
    assert file is not None
    async with httpx.AsyncClient() as client:
        for pod in found.pods:
            varz = (await client.get(f"http://{pod.ip}:8222/varz")).json()
            assert varz["config_digest"] in file.digests[pod.name], "the server has loaded what the ConfigMap holds"
            assert (varz["server_name"], varz["mem"] > 0) == (pod.name, True)
            routez = (await client.get(f"http://{pod.ip}:8222/routez")).json()
            assert {route["remote_name"] for route in routez["routes"]} == {"nats-0", "nats-1"} - {pod.name}
