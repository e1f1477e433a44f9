"""The stand-in's StatefulSets roll, scale and go as those of a real cluster: every test runs against both, and the real cluster is right."""

import asyncio

import pytest

from tests.integration.kubernetes_conformance import (
    BAD_IMAGE,
    BUDGETS,
    OTHER_UID,
    PODS,
    REVISIONS,
    SETS,
    World,
    container,
    image,
    revision,
    until,
    workload,
)
from tests.integration.kubernetes_support import NEWER_IMAGE

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

EVICTION = {"apiVersion": "policy/v1beta1", "kind": "Eviction"}
BUDGET_WORDS = "Cannot evict pod as it would violate the pod's disruption budget."


async def test_a_partition_holds_back_the_lower_pods(world: World):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    await world.make(SETS, workload(2, updateStrategy=strategy))
    old = (await world.ready())["status"]["currentRevision"]
    kept, uid = await world.uid("nats-0"), await world.uid("nats-1")
    await world.strategic(f"{SETS}/nats", image(NEWER_IMAGE))
    assert revision(await world.replaced("nats-1", uid)) != old
    status = (await world.ready())["status"]
    assert (status["currentRevision"], status["currentReplicas"], status["updatedReplicas"]) == (old, 1, 1)
    assert await world.uid("nats-0") == kept
    held = await world.replaced_after_deletion("nats-0")
    assert revision(held) == old, "a pod below the partition comes back as it was"
    await world.ready()
    await world.strategic(f"{SETS}/nats", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
    await world.replaced("nats-0", held["metadata"]["uid"])

    async def complete() -> bool:
        status = (await world.ready())["status"]
        return status["currentRevision"] == status["updateRevision"] != old

    await until("the rest", complete)


async def test_on_delete_waits_for_somebody_to_delete(world: World):
    await world.make(SETS, workload(1, updateStrategy={"type": "OnDelete"}))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await world.uid("nats-0")
    await world.strategic(f"{SETS}/nats", image(NEWER_IMAGE))
    status = (await world.ready())["status"]
    assert status["updateRevision"] != old
    assert "updatedReplicas" not in status
    await asyncio.sleep(1)
    assert await world.uid("nats-0") == uid
    assert revision(await world.replaced_after_deletion("nats-0")) == status["updateRevision"]
    status = (await world.ready())["status"]
    assert (status["updatedReplicas"], status["currentRevision"]) == (1, old), (
        "under OnDelete the current revision stays"
    )


async def test_scaling_takes_the_highest_pod_first_and_leaves_the_others(world: World):
    await world.make(SETS, workload(1))
    await world.ready()
    uid = await world.uid("nats-0")
    await world.merge(f"{SETS}/nats/scale", {"spec": {"replicas": 2}})
    await world.ready(replicas=2)
    assert await world.pod("nats-1") is not None
    await world.merge(f"{SETS}/nats/scale", {"spec": {"replicas": 1}})

    async def gone() -> bool:
        return await world.pod("nats-1") is None

    await until("nats-1 gone", gone)
    assert (await world.ready(replicas=1))["status"]["replicas"] == 1
    assert await world.uid("nats-0") == uid


async def test_a_broken_pod_outlives_the_rollback_until_somebody_deletes_it(world: World):
    await world.make(SETS, workload(2, "OrderedReady"))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await world.uid("nats-1")
    await world.strategic(f"{SETS}/nats", image(BAD_IMAGE))
    await world.replaced("nats-1", uid)
    broken = await world.waiting_for("nats-1", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
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
    assert await world.uid("nats-1") == broken["metadata"]["uid"], "it is waited for, not replaced"
    assert revision(await world.replaced_after_deletion("nats-1")) == old
    await world.ready()


async def test_under_parallel_the_rollback_replaces_the_broken_pod_itself(world: World):
    await world.make(SETS, workload(1))
    old = (await world.ready())["status"]["currentRevision"]
    uid = await world.uid("nats-0")
    await world.strategic(f"{SETS}/nats", image(BAD_IMAGE))
    broken = await world.replaced("nats-0", uid)
    await world.waiting_for("nats-0", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
    await world.strategic(f"{SETS}/nats", image(container()["image"]))
    assert revision(await world.replaced("nats-0", broken["metadata"]["uid"])) == old
    await world.ready()


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
    uid = await world.uid("nats-0")
    done = await world.ask("POST", path, body)
    assert (done.status, done.body["kind"], done.body["status"]) == (201, "Status", "Success")
    again = EVICTION | {"metadata": {"name": "nats-1", "namespace": world.namespace}}
    answer = await world.ask("POST", f"{PODS}/nats-1/eviction", again)
    assert answer.refusal[:2] == (429, "TooManyRequests"), "one at a time"
    await world.replaced("nats-0", uid)
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
    uid = await world.uid("nats-0")
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
    assert await world.uid("nats-0") == uid, "the next workload of that name adopts it"
    gone = await world.delete(f"{SETS}/nats")
    assert (gone["kind"], gone["status"]) == ("Status", "Success")

    async def without_pods() -> bool:
        return not (await world.read(PODS))["items"]

    await until("the pods gone", without_pods)
