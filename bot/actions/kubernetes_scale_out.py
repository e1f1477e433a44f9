"""Adds one pod to the StatefulSet, once every server lists it: the new server dials all others, and all others dial it."""

from __future__ import annotations

from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._command_line import command
from bot.actions._facts import look
from bot.actions._objects import change_object, object_receipt, read_object, rehearsed
from bot.actions._servers import MESH, lists, mesh_among, pods_of, runs_with, workload_of
from bot.errors import NotYet, Refused
from bot.model import (
    Endpoint,
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Verification,
    part,
)
from bot.model.groups import meta_standing
from bot.model.kubernetes import Kind, Workload, patch, receipt_of
from bot.model.mesh import read_mesh
from bot.ports import Readers, Writers

NEEDS: Final = MESH | {Endpoint.JSZ}
"""The mesh, and the meta group."""

START: Final = 240.0
"""Seconds for an image that must be pulled, a volume that must be made, and a start; the charts' startup probe waits up to 900 (reference/nats.md 4.1)."""


class ScaleOutParams(Record):
    """From how many pods to how many, and which server that makes."""

    workload: str
    workload_uid: str
    replicas: int
    """Before; one more afterwards."""
    servers: tuple[str, ...]
    """Before."""
    server: str
    """The new one, by the names of the others."""
    routes: tuple[str, ...]

    @property
    def pod(self) -> str:
        """The pod that is added."""
        return f"{self.workload}-{self.replicas}"


def tolerated(servers: int) -> int:
    """Return how many of so many servers may be lost while the others keep quorum: a majority must be left."""
    return (servers - 1) // 2


def even_size(servers: int) -> str:
    """Return what is wrong with an even number of servers; empty for an odd one."""
    if servers % 2:
        return ""
    quorum, losses = servers // 2 + 1, tolerated(servers)
    return f"{servers} servers tolerate the loss of {losses}, and so do {servers - 1}: the quorum of {servers} is {quorum}."


class ScaleOut:
    """Raises `spec.replicas` by one."""

    kind: str = "kubernetes.scale_out"
    title: str = "One more server"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ScaleOutParams
    settle: float = 5.0
    """Twice the time in which a follower must hear from its leader to count as current (reference/nats.md 1.0)."""
    patience: float = START
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: ScaleOutParams) -> Check:
        """Every server lists the new pod, and the cluster is healthy: pods ready, meta group current, mesh complete."""
        snapshot = await look(readers, NEEDS)
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
            reasons = not_now(snapshot, workload, params.servers)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        if workload.replicas != params.replicas:
            reasons.append(f"StatefulSet {workload.name} asks for {workload.replicas} pods, not for {params.replicas}.")
        if not lists(workload, params.routes):
            reasons.append("nats.conf does not list the wanted routes.")
        mesh = read_mesh(snapshot)
        late = [name for name in params.servers if not runs_with(mesh, name, params.routes)]
        if late:
            reasons.append(f"{', '.join(late)} did not load the list that names {params.pod}.")
        return Check(
            world={
                "statefulset.uid": workload.uid,
                "statefulset.replicas": workload.replicas,
                "statefulset.serviceName": workload.service_name,
            },
            refusals=tuple(reasons),
            before_image={"spec": {"replicas": workload.replicas}},
            before={"pods": workload.replicas, "meta peers": len(meta_standing(snapshot).members)},
        )

    async def preview(self, readers: Readers, params: ScaleOutParams) -> Preview:
        """Say what more servers help, and what not."""
        size = params.replicas + 1
        try:
            raw = await read_object(readers, Kind.STATEFUL_SET, params.workload, params.workload_uid)
            diff, notes = await rehearsed(readers, patch(Kind.STATEFUL_SET, raw, _with_replicas(raw, size)))
        except Refused as refused:
            diff, notes = "", tuple(f"Not possible now: {reason}" for reason in refused.reasons)
        gain = even_size(size) or f"{size} servers tolerate the loss of {tolerated(size)}."
        return Preview(
            summary=f"StatefulSet {params.workload} gets a pod more: {params.pod}, the {size}th server",
            diff=diff,
            blast_radius="No running pod is touched. Kubernetes makes one pod, and its volume where it has one.",
            effects=(
                gain,
                "Streams and consumers stay where they are: only new ones, and those that are moved, use the new server.",
                *notes,
            ),
            way_back=f"As long as {params.server} did not join the meta group: {params.replicas} pods again. Afterwards it counts for quorum until it is removed, "
            "and scaling in is work for people: evacuate it, scale down, remove the peer.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ScaleOutParams, operation: OperationId) -> None:
        """Ask for one pod more."""

        def edit(raw: JsonObject) -> JsonObject:
            if (seen := _replicas(raw)) != params.replicas:
                raise Refused(f"StatefulSet {params.workload} asks for {seen} pods, not for {params.replicas}.")
            return _with_replicas(raw, params.replicas + 1)

        await change_object(readers, writers, Kind.STATEFUL_SET, params.workload, params.workload_uid, edit, operation)

    async def receipt(self, readers: Readers, params: ScaleOutParams, operation: OperationId) -> Receipt:
        """Read the annotation."""
        return await object_receipt(readers, Kind.STATEFUL_SET, params.workload, params.workload_uid, operation)

    async def verify(self, readers: Readers, params: ScaleOutParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The new server is ready, the meta group counts it as current, and every pair has every connection."""
        snapshot = await look(readers, NEEDS)
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
            pods = pods_of(workload)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        numbers: dict[str, str | int | None] = {"pods": len(pods)}
        pod = next((pod for pod in pods if pod.name == params.pod), None)
        if pod is None or not pod.ready:
            waits = next((s.waiting_reason for s in pod.statuses.values() if s.waiting_reason), "") if pod else ""
            state = f"is {pod.phase} and not ready{f': {waits}' if waits else ''}" if pod else "is not there"
            return Verification(outcome=Outcome.FAILED, sentence=f"Pod {params.pod} {state}.", numbers=numbers)
        meta = meta_standing(snapshot)
        numbers["meta peers"] = len(meta.members)
        if params.server not in meta.members or not meta.whole:
            said = meta.problem or meta.counted
            text = f"The meta group does not count {params.server} as current: {said}."
            return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)
        found = mesh_among(snapshot, (*params.servers, params.server))
        text = f"{params.server} has joined, the meta group counts {len(meta.members)} peers. {found.sentence}"
        return found.model_copy(update={"sentence": text, "numbers": numbers | found.numbers})

    async def rollback(self, readers: Readers, writers: Writers, params: ScaleOutParams, operation: OperationId) -> str:
        """Take the pod away again, as long as the meta group does not count its server."""
        snapshot = await look(readers, NEEDS)
        meta = meta_standing(snapshot)
        if meta.leader is None:
            raise NotYet(f"Whether {params.server} has joined the meta group can't be told: it has {meta.problem}.")
        if params.server in meta.members:
            raise Refused(
                f"{params.server} has joined the meta group and counts for its quorum, so its pod is not taken away. By hand: move what it holds, "
                f"scale {params.workload} to {params.replicas}, and only when the pod is gone: {command('nats', 'server', 'cluster', 'peer-remove', of=[params.server])}"
            )

        def back(raw: JsonObject) -> JsonObject:
            if receipt_of(raw) != operation or _replicas(raw) != params.replicas + 1:
                raise Refused(f"StatefulSet {params.workload} was changed again since, so its number of pods stays.")
            return _with_replicas(raw, params.replicas)

        undone = OperationId(f"{operation}.undone")
        await change_object(readers, writers, Kind.STATEFUL_SET, params.workload, params.workload_uid, back, undone)
        if any(pod.name == params.pod for pod in pods_of(workload_of(snapshot, params.workload, params.workload_uid))):
            raise NotYet(f"Pod {params.pod} is still there.")
        return f"StatefulSet {params.workload} has {params.replicas} pods again. A volume that was made for {params.pod} stays."


def not_now(snapshot: Snapshot, workload: Workload, servers: tuple[str, ...]) -> list[str]:
    """Return why the cluster is not healthy enough to grow. Raises `Refused` where its pods are not known."""
    reasons: list[str] = []
    if not workload.observed or workload.current_revision != workload.update_revision:
        reasons.append(f"A rollout of StatefulSet {workload.name} is under way.")
    unready = [pod.name for pod in pods_of(workload) if not pod.ready]
    if unready:
        reasons.append(f"{', '.join(unready)} is not ready.")
    meta = meta_standing(snapshot)
    if not meta.whole:
        reasons.append(f"The meta group is not complete: {meta.problem or meta.counted}.")
    mesh = mesh_among(snapshot, servers)
    if mesh.outcome is not Outcome.VERIFIED:
        reasons.append(mesh.sentence)
    return reasons


def _replicas(raw: JsonObject) -> int:
    value = part(raw, "spec").get("replicas")
    return value if isinstance(value, int) else 1


def _with_replicas(raw: JsonObject, replicas: int) -> JsonObject:
    return raw | {"spec": part(raw, "spec") | {"replicas": replicas}}


ACTION = ScaleOut()
