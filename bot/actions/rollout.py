"""Composes rollouts of a StatefulSet of NATS: one edit of its template, then one stage for each pod; and the restart of one pod. Pure.

Each refusal is collected before it is said, so that people see at once what speaks against a rollout now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from bot.action import Composed
from bot.actions._gate import ANY, cannot_spare, hindrances, stuck, unseen_losses
from bot.actions._statefulset import ROLLING, Target, resting, template_of
from bot.actions._template_edit import EditParams, TemplateEdit, rolls
from bot.actions.kubernetes_image import ACTION as IMAGE
from bot.actions.kubernetes_image import ImageParams, parsed
from bot.actions.kubernetes_probe import ACTION as PROBE
from bot.actions.kubernetes_probe import ProbeChange, ProbeParams
from bot.actions.kubernetes_resources import ACTION as RESOURCES
from bot.actions.kubernetes_resources import ResourcesParams
from bot.actions.kubernetes_restart_pod import RestartParams, RestartPod
from bot.actions.kubernetes_roll_pod import RollParams, RollPod
from bot.actions.kubernetes_spread import ACTION as SPREAD
from bot.actions.kubernetes_spread import SpreadParams
from bot.errors import Refused
from bot.model import JsonObject, Snapshot, Unknown
from bot.model.kubernetes import Pod, Workload
from bot.model.probes import ProbeKind

COMPOSES = (PROBE.kind, RESOURCES.kind, IMAGE.kind, SPREAD.kind, RollPod.kind, RestartPod.kind)

P = TypeVar("P", bound=EditParams)


def compose_probe(snapshot: Snapshot, workload: Workload, probe: ProbeKind, change: ProbeChange) -> Composed:
    """Return the stages that change a probe. Raises `Refused` with every reason that speaks against it."""
    return _compose(snapshot, workload, PROBE, ProbeParams(target=target_of(workload), probe=probe, change=change))


def compose_resources(
    snapshot: Snapshot, workload: Workload, amounts: Mapping[str, str], gomemlimit: str | None = None
) -> Composed:
    """Return the stages that set amounts: `cpu_request`, `memory_request`, `cpu_limit`, `memory_limit`, as Kubernetes writes them. Raises `Refused`."""
    raw: dict[str, Any] = {"target": target_of(workload), **amounts, "gomemlimit": gomemlimit}
    return _compose(snapshot, workload, RESOURCES, ResourcesParams.model_validate(raw))


def compose_image(snapshot: Snapshot, workload: Workload, image: str, version: str) -> Composed:
    """Return the stages that bring the servers to a version, each in full health before the next. Raises `Refused`."""
    versions = [found for server in snapshot.servers if (found := parsed(server.version))]
    if not versions:
        raise Refused("No server said which version it runs.")
    running = ".".join(map(str, min(versions)))
    target = target_of(workload)
    params = ImageParams(target=target, image=image, version=version, running=running)
    return _compose(snapshot, workload, IMAGE, params, version=version)


def compose_spread(snapshot: Snapshot, workload: Workload, constraint: Mapping[str, str | bool]) -> Composed:
    """Return the stages that keep pods apart by `means`, `topology` and `required` (`SpreadParams`). Raises `Refused`."""
    params = SpreadParams.model_validate({"target": target_of(workload), **constraint})
    return _compose(snapshot, workload, SPREAD, params)


def compose_restart(snapshot: Snapshot, workload: Workload, pod: Pod) -> Composed:
    """Return the one stage that restarts a pod. Raises `Refused`."""
    target = target_of(workload)
    if pod.ordinal is None or target.pod(pod.ordinal) != pod.name:
        raise Refused(f"{pod.name} is no pod of StatefulSet {workload.name}.")
    if stuck(pod, target.container):
        _refuse(unseen_losses(snapshot, target, pod))
    else:
        _refuse(hindrances(snapshot, target, pod.ordinal, ANY))
    params = RestartParams(target=target, ordinal=pod.ordinal, pod_uid=pod.uid)
    return Composed(((RestartPod.kind, params.model_dump(mode="json")),), ())


def target_of(workload: Workload) -> Target:
    """Return the StatefulSet as it is: what a rollout starts from and goes back to."""
    strategy = workload.spec.get("updateStrategy") or {"type": ROLLING}
    return Target(
        statefulset=workload.name,
        uid=workload.uid,
        former=workload.update_revision,
        strategy=strategy,
        replicas=workload.replicas,
        container=workload.nats.name,
    )


def _compose(snapshot: Snapshot, workload: Workload, action: TemplateEdit[P], params: P, version: str = "") -> Composed:
    target = params.target
    pods = workload.pods
    if isinstance(pods, Unknown):
        raise Refused(f"Its pods could not be read: {pods.detail}")
    reasons = resting(workload.raw, pods, target.replicas)
    reasons += action.refusals(template_of(workload.raw), params)
    _refuse([*reasons, *cannot_spare(snapshot, target)])
    edited = action.edited(template_of(workload.raw), params)
    stages: list[tuple[str, JsonObject]] = [(action.kind, params.model_dump(mode="json"))]
    for ordinal in range(target.first, -1, -1):
        roll = RollParams(target=target, ordinal=ordinal, edited=edited, full=bool(version), version=version)
        stages.append((RollPod.kind, roll.model_dump(mode="json")))
    return Composed(tuple(stages), _cautions(workload))


def _cautions(workload: Workload) -> tuple[str, ...]:
    told = [f"It rolls {rolls(workload)}, and waits before each until every Raft group can spare its server."]
    if workload.replicas == 1:
        told.append("There is one server: everything is away while its pod is replaced.")
    return (*told, *(owner.reverts for owner in workload.owners))


def _refuse(reasons: Iterable[str]) -> None:
    if found := tuple(dict.fromkeys(reasons)):
        raise Refused(*found)
