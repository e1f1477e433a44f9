"""Whether the pods run, whether a rollout gets on, whether the nodes are well. Pure functions of snapshot and thresholds.

Why a pod does not run stands in its status and in the events around it, which the API server keeps for an hour. How far a server that runs has come is the
readiness runbook's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bot.model import Finding, Focus, JsonObject, Layer, Severity, Snapshot, Unknown, parts
from bot.model.kubernetes import ContainerState, ContainerStatus, Event, Node, Pod
from bot.model.probes import ProbeKind, ProbeOutcome
from bot.runbook import Thresholds
from runbooks._audit_views import few
from runbooks._deploy_asked import answer_of
from runbooks._deploy_views import Look, Topic, counted, lasting, said

PODS = Topic("DEPLOY_PODS", Layer.REACHABILITY)
ROLLOUT = Topic("DEPLOY_ROLLOUT", Layer.REACHABILITY)
NODES = Topic("DEPLOY_NODES", Layer.REACHABILITY)

RECENT = "recent"
"""Threshold: seconds for which the end of a container counts."""

STARTING = "starting"
"""Threshold: seconds that a pod may take to become ready."""

STUCK = frozenset(
    {
        *("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError"),
        "ImageInspectError",
    }
)
"""Reasons for which a container waits and which no waiting cures (kubelet: pkg/kubelet/kuberuntime, pkg/kubelet/images)."""


class Trouble(NamedTuple):
    """What is wrong with one pod."""

    severity: Severity
    sentence: str
    evidence: JsonObject


def pods_run(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every pod that the StatefulSet asks for is there, runs, is ready, and has not been killed lately."""

    def judge(look: Look) -> None:
        found = look.known(look.workload.pods)
        if look.workload.replicas == 0:
            evidence = look.seen(look.workload, "spec.replicas", 0, "1 or more")
            look.tell(Severity.CRITICAL, f"StatefulSet {look.name} is scaled to 0: no server runs.", evidence)
        if found is None:
            return
        missing = [name for name in look.members if name not in {pod.name for pod in found}]
        if missing:
            _tell_missing(look, missing, found)
        for pod in found:
            trouble = next(_troubles(look, pod, thresholds), None)
            if trouble is not None:
                look.tell(trouble.severity, trouble.sentence, trouble.evidence, pod)

    return PODS.judge(snapshot, judge, "All pods run and are ready, and none was killed lately.")


def rollout_ends(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """All pods are made of the present template. The status of a StatefulSet with OnDelete or a partition never says so, hence by the pods' own labels."""

    def judge(look: Look) -> None:
        workload = look.workload
        if not workload.observed:
            seen = f"{workload.status.get('observedGeneration', 0)}"
            evidence = look.seen(workload, "status.observedGeneration", seen, workload.generation)
            look.warn(
                f"The controller has not acted on generation {workload.generation} of StatefulSet {look.name} (it has seen {seen}).",
                evidence,
            )
            return
        old = [pod for pod in look.pods() if pod.revision != workload.update_revision]
        if old and workload.update_revision:
            _tell_rollout(look, old, thresholds)

    return ROLLOUT.judge(snapshot, judge, "All pods are made of the StatefulSet's present template.")


def nodes_are_well(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The nodes of the pods are ready, have memory, disk and process numbers left, and take pods."""

    def judge(look: Look) -> None:
        by_node: dict[str, list[Pod]] = {}
        for pod in look.pods():
            if pod.node_name:
                by_node.setdefault(pod.node_name, []).append(pod)
        for name, there in sorted(by_node.items()):
            node = look.known(look.workload.node_of(there[0]))
            if not isinstance(look.workload.node_of(there[0]), Unknown):
                _judge_node(look, name, node, there)

    return NODES.judge(snapshot, judge, "The nodes of all pods are ready, without pressure, and take pods.")


# Pods.


def _tell_missing(look: Look, missing: list[str], there: tuple[Pod, ...]) -> None:
    event = _last_event(look, "StatefulSet", look.name)
    waits = next((pod for pod in there if not pod.ready), None)
    why = f" The controller says: {said(event.message)}." if event else ""
    if look.workload.pod_management_policy == "OrderedReady" and waits is not None:
        why += f" OrderedReady makes it wait until {waits.name} is ready."
    evidence = look.seen(look.workload, "status.replicas", len(there), look.workload.replicas)
    evidence |= {"missing": missing, "event": event.message if event else None}
    verb = "does" if len(missing) == 1 else "do"
    look.tell(
        Severity.CRITICAL,
        f"{counted(len(missing), 'pod').capitalize()} of {look.workload.replicas} {verb} not exist: {few(missing)}.{why}",
        evidence,
    )


def _troubles(look: Look, pod: Pod, thresholds: Thresholds) -> Iterator[Trouble]:
    """What is wrong with a pod, what explains most first."""
    yield from _not_running(look, pod)
    for status in _statuses(pod):
        yield from _waits(look, pod, status)
    yield from _starts(look, pod, thresholds[STARTING])
    yield from _ended(look, pod, thresholds[RECENT])
    yield from _unready(look, pod)


def _statuses(pod: Pod) -> list[ContainerStatus]:
    return [ContainerStatus(raw) for raw in parts(pod.status, "initContainerStatuses")] + list(pod.statuses.values())


def _not_running(look: Look, pod: Pod) -> Iterator[Trouble]:
    scheduled = pod.conditions.get("PodScheduled")
    if pod.phase == "Pending" and scheduled is not None and scheduled.holds is False:
        event = _last_event(look, "Pod", pod.name, "FailedScheduling")
        why = said(event.message if event else scheduled.message) or scheduled.reason
        evidence = look.seen(pod, "status.conditions[type=PodScheduled].status", "False", "True")
        yield Trouble(Severity.CRITICAL, f"Pod {pod.name} finds no node: {why}.", evidence | {"message": why})
    if pod.phase in {"Failed", "Unknown"} or pod.reason == "Evicted":
        message = str(pod.status.get("message") or "")
        sentence = f"Pod {pod.name} is {pod.phase or 'gone'} ({pod.reason or 'no reason given'}): {said(message) or 'no message'}."
        yield Trouble(Severity.CRITICAL, sentence, look.seen(pod, "status.reason", pod.reason) | {"message": message})
    if pod.deleting:
        yield Trouble(
            Severity.WARNING,
            f"Pod {pod.name} is being deleted: its server is leaving, and a new pod follows once it is gone.",
            look.seen(pod, "metadata.deletionTimestamp", str(pod.metadata.get("deletionTimestamp"))),
        )


def _waits(look: Look, pod: Pod, status: ContainerStatus) -> Iterator[Trouble]:
    """A container that can't run as things are."""
    reason = status.waiting_reason
    if reason not in STUCK:
        return
    last = status.last_termination
    ended = f"; it ended with {last.reason or 'no reason'}, exit code {last.exit_code}" if last else ""
    message = said(status.waiting_message)
    sentence = f"Container {status.name} of pod {pod.name} waits in {reason} after {status.restarts} restarts{ended}: {message or 'no message'}."
    # Without a sidecar the server runs all the same, though the pod is not ready.
    severity = Severity.WARNING if _beside(look, pod, status) else Severity.CRITICAL
    evidence = look.seen(pod, f"status.containerStatuses[name={status.name}].state.waiting.reason", reason)
    evidence |= {"restarts": status.restarts, "message": status.waiting_message}
    evidence |= {"last exit code": last.exit_code if last else None, "last reason": last.reason if last else None}
    yield Trouble(severity, sentence, evidence)


def _beside(look: Look, pod: Pod, status: ContainerStatus) -> bool:
    return status.name != look.nats.name and status.name in {c.name for c in pod.pod_spec.containers}


def _starts(look: Look, pod: Pod, patience: float) -> Iterator[Trouble]:
    """A pod whose containers are not up yet."""
    status = pod.statuses.get(look.nats.name)
    up = status is not None and status.state is ContainerState.RUNNING
    if pod.ready or pod.deleting or (status is not None and up and status.started):
        return
    age = look.age(status.running_since if status and up else pod.started_at or pod.created_at)
    if age is None:
        return
    event = _last_event(look, "Pod", pod.name)
    why = f" {event.reason}: {said(event.message)}." if event else ""
    what = "its startup probe has not succeeded" if up else "its containers are not up"
    evidence = look.seen(pod, f"status.containerStatuses[name={look.nats.name}].started", value=False, expected=True)
    evidence |= {"seconds": age, "event": event.message if event else None}
    late = age > patience
    sentence = f"Pod {pod.name} starts for {lasting(age)}: {what}.{why}"
    yield Trouble(Severity.CRITICAL if late and not up else Severity.WARNING, sentence, evidence)


def _ended(look: Look, pod: Pod, recent: float) -> Iterator[Trouble]:
    """A container that was killed or died and is back."""
    for status in pod.statuses.values():
        last = status.termination or status.last_termination
        age = look.age(last.finished_at) if last else None
        if last is None or age is None or age > recent:
            continue
        evidence = look.seen(pod, f"status.containerStatuses[name={status.name}].lastState.terminated", last.reason)
        evidence |= {"exit code": last.exit_code, "restarts": status.restarts, "seconds ago": age}
        how = f"{last.reason or 'no reason'}, exit code {last.exit_code}"
        ended = "was killed for using more memory than its limit" if last.oom_killed else "ended"
        sentence = f"Container {status.name} of pod {pod.name} {ended} {lasting(age)} ago ({how}); restarts so far: {status.restarts}."
        yield Trouble(Severity.WARNING, sentence, evidence)


def _unready(look: Look, pod: Pod) -> Iterator[Trouble]:
    condition = pod.conditions.get("Ready")
    if pod.ready or condition is None:
        return
    age = look.age(condition.since)
    since = f" for {lasting(age)}" if age is not None else ""
    event = _last_event(look, "Pod", pod.name, "Unhealthy")
    probe, outcome, server_says = answer_of(look, pod, ProbeKind.READINESS)
    evidence = look.seen(pod, "status.conditions[type=Ready].status", "False", "True")
    evidence |= {"message": condition.message, "event": event.message if event else None}
    evidence |= {"probe": probe.words if probe else None, "answers now": outcome.value, "said": server_says}
    sentence = (
        f"Pod {pod.name} is {pod.phase or 'there'} and not ready{since}, so it gets no clients through its Service"
    )
    if probe and outcome is ProbeOutcome.FAILS:
        sentence += f": its readiness probe {probe.words} fails, since the server says: {server_says}."
    else:
        sentence += f": {said(event.message if event else condition.message) or condition.reason}."
        sentence += (
            f" Its readiness probe {probe.words} would pass now." if probe and outcome is ProbeOutcome.PASSES else ""
        )
    yield Trouble(Severity.WARNING, sentence, evidence)


def _last_event(look: Look, kind: str, name: str, *reasons: str) -> Event | None:
    """The newest warning about an object; None where there is none, or events could not be read, which the evidence of a finding can do without."""
    events = look.workload.events
    if isinstance(events, Unknown):
        return None
    about = (e for e in events if (e.object_kind, e.object_name, e.type) == (kind, name, "Warning"))
    return next(reversed([e for e in about if not reasons or e.reason in reasons]), None)


# Rollout.


def _tell_rollout(look: Look, old: list[Pod], thresholds: Thresholds) -> None:
    workload = look.workload
    names = [pod.name for pod in old]
    evidence = look.seen(workload, "status.updateRevision", workload.update_revision)
    evidence |= {"old pods": names, "partition": workload.partition, "strategy": workload.update_strategy}
    have = "has" if len(old) == 1 else "have"
    begin = (
        f"{counted(len(old), 'pod').capitalize()} of {workload.replicas} still {have} an older template ({few(names)})"
    )
    if workload.update_strategy == "OnDelete":
        look.warn(f"{begin}: with OnDelete each gets the new one when it is deleted.", evidence)
        return
    held = [pod for pod in old if (pod.ordinal or 0) < workload.partition]
    if len(held) == len(old):
        look.warn(f"{begin}: partition {workload.partition} keeps them back.", evidence)
        return
    waits = _holds_up(look)
    if waits is None:
        look.warn(f"{begin}: a rollout is under way.", evidence)
        return
    trouble = next(_troubles(look, waits, thresholds), None)
    since = look.age(waits.created_at) or 0.0
    stuck = trouble is not None and trouble.severity is Severity.CRITICAL
    evidence |= {"held up by": waits.name, "why": trouble.sentence if trouble else None}
    if not stuck and since <= thresholds[STARTING]:
        look.warn(f"{begin}: a rollout is under way and waits for {waits.name}.", evidence, waits)
        return
    severity = Severity.CRITICAL if stuck else Severity.WARNING
    sentence = f"{begin}: the rollout is held up by {waits.name}, which is not ready after {lasting(since)}. "
    sentence += "Going back to the old template alone does not free it: the pod must be deleted as well."
    look.tell(severity, sentence, evidence, waits, issue="Kubernetes: StatefulSets, forced rollback")


def _holds_up(look: Look) -> Pod | None:
    """The pod that the controller waits for: of those that are not ready the one with the highest ordinal, which is updated first."""
    return next((pod for pod in reversed(look.pods()) if not pod.ready), None)


# Nodes.


def _judge_node(look: Look, name: str, node: Node | None, there: list[Pod]) -> None:
    carried = few([pod.name for pod in there])
    if node is None:
        evidence = look.seen(there[0], "spec.nodeName", name)
        look.tell(Severity.CRITICAL, f"Node {name} of {carried} does not exist any more.", evidence, there[0])
        return
    ready = node.conditions.get("Ready")
    if not node.ready:
        why = said(ready.message) if ready else "it has never said so"
        evidence = look.seen(node, "status.conditions[type=Ready].status", ready.reason if ready else None, "True")
        look.tell(
            Severity.CRITICAL, f"Node {name} of {carried} is not ready: {why or 'no message'}.", evidence, there[0]
        )
        return
    if node.pressures:
        evidence = look.seen(node, "status.conditions", list(node.pressures), "none")
        look.warn(f"Node {name} of {carried} has {few(node.pressures)} and may evict them.", evidence, there[0])
    if not node.schedulable:
        evidence = look.seen(node, "spec.unschedulable", value=True, expected=False)
        look.warn(
            f"Node {name} of {carried} takes no new pods (cordoned): a pod that is restarted must go elsewhere, "
            "which a volume of that node does not allow.",
            evidence,
            there[0],
        )
