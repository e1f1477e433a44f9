"""Pods, rollouts and nodes: what is away now is critical, what passes or might come is a warning."""

import pytest

from bot.model import Endpoint, Severity
from bot.model.kubernetes import Kind
from tests.unit.runbooks.deploy_support import DENIED, Raw, World, before, found, healthy, only, says

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


def waiting(reason: str, **more: Raw | str) -> Raw:
    return {"waiting": {"reason": reason, "message": f"{reason} it is", **more}}


def ended(seconds: float, reason: str = "Error", code: int = 1) -> Raw:
    return {"terminated": {"reason": reason, "exitCode": code, "finishedAt": before(seconds)}}


def no_node(world: World) -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    world.pods[0]["spec"].pop("nodeName")
    world.pods[0]["status"] = {"phase": "Pending", "conditions": [unscheduled]}


@pytest.mark.parametrize(
    "reason", ["CrashLoopBackOff", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError"]
)
def test_a_container_that_no_waiting_cures_is_critical_with_its_reason(reason: str):
    world = healthy()
    world.unready()
    world.status().update(state=waiting(reason), ready=False, restartCount=7, lastState=ended(5, "Error", 2))
    assert says(world, "DEPLOY_PODS", "nats-0", reason, "7 restarts", "exit code 2", f"{reason} it is") is CRITICAL
    assert only(world, "DEPLOY_PODS").evidence["last exit code"] == 2


def test_a_sidecar_that_does_not_start_is_a_warning_since_the_server_runs():
    world = healthy()
    world.unready()
    world.pods[0]["status"]["containerStatuses"][1]["state"] = waiting("CrashLoopBackOff")
    assert says(world, "DEPLOY_PODS", "Container reloader of pod nats-0") is WARNING


def test_an_init_container_that_crashes_keeps_the_server_away():
    world = healthy()
    world.unready()
    crashing = {"name": "prepare", "restartCount": 3, "state": waiting("CrashLoopBackOff")}
    world.pods[0]["status"]["initContainerStatuses"] = [crashing]
    assert says(world, "DEPLOY_PODS", "Container prepare of pod nats-0") is CRITICAL


def test_a_pod_without_a_node_says_what_the_scheduler_says():
    world = healthy()
    no_node(world)
    assert says(world, "DEPLOY_PODS", "Pod nats-0 finds no node: 0/3 nodes.") is CRITICAL
    world.event("Pod", "nats-0", "FailedScheduling", "0/3 nodes are available: 3 Insufficient memory.")
    assert says(world, "DEPLOY_PODS", "3 Insufficient memory.") is CRITICAL


def test_an_evicted_pod_says_why():
    world = healthy()
    world.pods[1]["status"] = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
    assert says(world, "DEPLOY_PODS", "nats-1 is Failed (Evicted): The node was low on memory.") is CRITICAL


def test_a_pod_that_is_not_there_is_named_with_the_controllers_reason():
    world = healthy()
    del world.pods[2]
    world.event("StatefulSet", "nats", "FailedCreate", "pods nats-2 is forbidden: exceeded quota")
    assert says(world, "DEPLOY_PODS", "1 pod of 3 does not exist: nats-2.", "exceeded quota") is CRITICAL


def test_an_ordered_start_that_waits_for_an_earlier_pod_says_for_which():
    world = healthy()
    world.spec["podManagementPolicy"] = "OrderedReady"
    del world.pods[1:]
    world.unready(0)
    missing = next(f for f in found(world, "DEPLOY_PODS") if "do not exist" in f.sentence)
    assert "OrderedReady makes it wait until nats-0 is ready" in missing.sentence


def test_pods_that_start_together_wait_for_no_other():
    world = healthy()
    del world.pods[1:]
    world.unready(0)
    assert not any("OrderedReady" in f.sentence for f in found(world, "DEPLOY_PODS"))


def test_pods_may_be_counted_from_another_number():
    world = healthy()
    world.spec.update(replicas=2, ordinals={"start": 1})
    del world.pods[0]
    assert says(world, "DEPLOY_PODS") is OK


def test_a_stateful_set_of_no_pods_is_critical():
    world = healthy()
    world.spec["replicas"] = 0
    world.pods.clear()
    assert says(world, "DEPLOY_PODS", "scaled to 0") is CRITICAL


@pytest.mark.parametrize(("seconds", "severity"), [(299, WARNING), (300, WARNING), (301, CRITICAL)])
def test_containers_that_do_not_come_up_are_critical_after_five_minutes(seconds: float, severity: Severity):
    world = healthy()
    world.unready()
    world.pods[0]["status"]["startTime"] = before(seconds)
    world.status().update(state={"waiting": {"reason": "ContainerCreating"}}, started=False)
    world.event("Pod", "nats-0", "FailedAttachVolume", "Multi-Attach error for volume pv-1")
    assert says(world, "DEPLOY_PODS", "its containers are not up", "Multi-Attach error") is severity


def test_a_server_whose_startup_probe_has_not_succeeded_is_starting_however_long():
    world = healthy()
    world.unready()
    world.status().update(started=False, ready=False, state={"running": {"startedAt": before(600)}})
    assert says(world, "DEPLOY_PODS", "starts for 10 min: its startup probe has not succeeded") is WARNING


@pytest.mark.parametrize(("seconds", "severity"), [(86_399, WARNING), (86_400, WARNING), (86_401, OK)])
def test_an_out_of_memory_kill_counts_for_a_day(seconds: float, severity: Severity):
    world = healthy()
    world.status().update(restartCount=1, lastState=ended(seconds, "OOMKilled", 137))
    words = () if severity is OK else ("killed for using more memory than its limit", "exit code 137")
    assert says(world, "DEPLOY_PODS", *words) is severity


def test_a_running_pod_that_is_not_ready_says_since_when_and_what_its_probe_says():
    world = healthy()
    world.unready(1, seconds=240)
    world.event("Pod", "nats-1", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    finding = only(world, "DEPLOY_PODS")
    assert (finding.severity, finding.subject.server) == (WARNING, "nats-1")
    assert "not ready for 4 min" in finding.sentence
    assert "statuscode: 503" in finding.sentence


def test_a_pod_that_is_not_ready_is_tied_to_what_its_server_says():
    world = healthy()
    world.version = "2.10.29"
    world.unready(1)
    behind = {"status": "unavailable", "error": "JetStream is not current with the meta leader"}
    world.answers["nats-1"][Endpoint.HEALTHZ] = behind
    words = ("/healthz?js-server-only=true fails", "JetStream is not current with the meta leader.")
    assert says(world, "DEPLOY_PODS", *words) is WARNING
    world.answers["nats-1"][Endpoint.HEALTHZ] = {"status": "ok"}
    assert says(world, "DEPLOY_PODS", "would pass now") is WARNING


def test_without_events_pods_are_judged_all_the_same():
    world = healthy()
    world.unready(1)
    world.denied[Kind.EVENT] = DENIED
    assert says(world, "DEPLOY_PODS", "Pod nats-1 is Running and not ready") is WARNING


def test_a_message_of_a_thousand_characters_is_cut():
    world = healthy()
    world.unready()
    world.pods[0]["status"]["conditions"][0]["message"] = "a\n" * 1_000
    assert len(only(world, "DEPLOY_PODS").sentence) < 400


# Rollouts.


def rolling(world: World, *old: int) -> World:
    for number in old:
        world.pods[number]["metadata"]["labels"]["controller-revision-hash"] = "nats-old"
    return world


def test_a_complete_rollout_is_told_by_the_pods_and_not_by_the_status():
    world = healthy()
    world.stateful_set["status"]["currentRevision"] = "nats-old"
    assert says(world, "DEPLOY_ROLLOUT") is OK


def test_a_rollout_under_way_is_a_warning():
    assert says(rolling(healthy(), 0, 1), "DEPLOY_ROLLOUT", "2 pods of 3 still have", "under way") is WARNING


@pytest.mark.parametrize(("seconds", "words"), [(300, "waits for nats-2"), (301, "held up by nats-2")])
def test_a_rollout_that_waits_for_a_pod_is_held_up_after_five_minutes(seconds: float, words: str):
    world = rolling(healthy(), 0, 1)
    world.unready(2, seconds)
    world.pods[2]["metadata"]["creationTimestamp"] = before(seconds)
    assert says(world, "DEPLOY_ROLLOUT", words) is WARNING


def test_a_rollout_is_stuck_at_once_where_its_pod_can_never_run_and_the_way_back_is_told():
    world = rolling(healthy(), 0, 1)
    world.unready(2)
    world.pods[2]["metadata"]["creationTimestamp"] = before(30)
    world.status(2).update(state=waiting("ImagePullBackOff"), ready=False)
    finding = only(world, "DEPLOY_ROLLOUT")
    assert (finding.severity, finding.subject.server) == (CRITICAL, "nats-2")
    assert "the pod must be deleted as well" in finding.sentence
    assert finding.evidence["held up by"] == "nats-2"


def test_a_partition_and_on_delete_keep_pods_back():
    world = rolling(healthy(), 0, 1)
    world.spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    assert says(world, "DEPLOY_ROLLOUT", "partition 2 keeps them back") is WARNING
    world.spec["updateStrategy"] = {"type": "OnDelete"}
    assert says(world, "DEPLOY_ROLLOUT", "with OnDelete") is WARNING


def test_a_generation_that_the_controller_has_not_seen_is_a_warning():
    world = healthy()
    world.stateful_set["metadata"]["generation"] = 2
    assert says(world, "DEPLOY_ROLLOUT", "not acted on generation 2", "seen 1") is WARNING


# Nodes.


def test_a_node_that_is_not_ready_is_critical():
    world = healthy()
    world.nodes[0]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped."}]
    assert says(world, "DEPLOY_NODES", "Node node-0 of nats-0 is not ready: Kubelet stopped.") is CRITICAL


def test_a_node_that_is_gone_is_critical():
    world = healthy()
    del world.nodes[1]
    assert says(world, "DEPLOY_NODES", "Node node-1 of nats-1 does not exist any more") is CRITICAL


def test_pressure_and_a_cordon_are_warnings():
    world = healthy()
    world.nodes[0]["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    world.nodes[2]["spec"] = {"unschedulable": True}
    sentences = [f.sentence for f in found(world, "DEPLOY_NODES") if f.severity is WARNING]
    assert len(sentences) == 2
    assert "DiskPressure" in sentences[0]
    assert "cordoned" in sentences[1]
