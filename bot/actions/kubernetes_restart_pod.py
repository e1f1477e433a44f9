"""Restarts one pod: the very one that was approved is deleted, and the StatefulSet makes it anew of the same template and volume.

A running server goes only if every Raft group keeps quorum without it; a pod in which no server runs takes nothing away (reference/nats.md 7).
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.action import Check, Receipt
from bot.actions._facts import look
from bot.actions._gate import (
    ANY,
    NOTHING,
    hindrances,
    leaderships,
    left_alone,
    returned,
    runs,
    server_of,
    stuck,
    unseen_losses,
)
from bot.actions._statefulset import Target, pod_in, pods_in, read_target, resting, workload_in, world_of
from bot.actions._template_edit import HALF_WAY
from bot.actions._way_back import delete_pod
from bot.errors import Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Verification
from bot.ports import Readers, Writers


class RestartParams(Record):
    """Which pod, by its uid."""

    target: Target
    ordinal: int
    pod_uid: str

    @property
    def pod(self) -> str:
        return self.target.pod(self.ordinal)


@dataclass(frozen=True)
class RestartPod:
    """Deletes a pod."""

    kind: str = "kubernetes.restart_pod"
    title: str = "Restart of one pod"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = RestartParams
    settle: float = 5.0
    """As for a pod that is rolled."""
    patience: float = 1200.0
    """As for a pod that is rolled."""
    half_way: float = HALF_WAY

    async def check(self, readers: Readers, params: RestartParams) -> Check:
        """It is the approved pod, no rollout would replace it by something else, and the cluster can spare its server."""
        target = params.target
        try:
            raw = await read_target(readers, target)
            snapshot = await readers.gather(NOTHING)
            pods = pods_in(snapshot, target)
            pod = pod_in(snapshot, target, params.ordinal)
            if pod is None or pod.uid != params.pod_uid:
                return Check(
                    world={}, refusals=(f"Pod {params.pod} of uid {params.pod_uid} is gone: it was replaced since.",)
                )
            reasons: list[str] = []
            if pod.deleting:
                reasons.append(f"{params.pod} is being deleted already.")
            elif stuck(pod, target.container):
                reasons += unseen_losses(snapshot, target, pod)
            else:
                reasons += resting(raw, pods, target.replicas)
                reasons += hindrances(await look(readers), target, params.ordinal, ANY)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        before = runs(snapshot, target, params.ordinal)
        return Check(world=world_of(raw) | {"pod.uid": pod.uid}, refusals=tuple(reasons), before=before)

    async def preview(self, readers: Readers, params: RestartParams) -> Preview:
        """Say what is away meanwhile."""
        snapshot = await look(readers)
        server = server_of(snapshot, params.pod)
        effects = [f"Server {server} is away until it has started and caught up; its clients connect to the others."]
        if leads := leaderships(snapshot, server):
            effects.append(f"It leads {len(leads)} Raft groups, and hands them over before it stops.")
        effects += left_alone(snapshot, server)
        return Preview(
            summary=f"Pod {params.pod} is deleted and made anew",
            blast_radius=f"Server {server}: one member of each of its Raft groups; all of them keep quorum.",
            effects=tuple(effects),
            way_back="None is needed: template and volume stay the same.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: RestartParams, operation: OperationId) -> None:  # noqa: ARG002 - a deleted object bears no receipt
        """Delete the pod of that uid."""
        pod = pod_in(await readers.gather(NOTHING), params.target, params.ordinal)
        if pod is not None and pod.uid == params.pod_uid and not pod.deleting:
            await delete_pod(writers, pod)

    async def receipt(self, readers: Readers, params: RestartParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """The pod of that uid is gone, or going: nobody needs to delete it again, whoever did."""
        try:
            pod = pod_in(await readers.gather(NOTHING), params.target, params.ordinal)
        except Refused:
            return Receipt.FOREIGN
        there = pod is not None and pod.uid == params.pod_uid and not pod.deleting
        return Receipt.NOT_APPLIED if there else Receipt.APPLIED

    async def verify(self, readers: Readers, params: RestartParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Another pod of that name runs, and its server is whole again."""
        try:
            snapshot = await readers.gather(NOTHING)
            pod = pod_in(snapshot, params.target, params.ordinal)
            if pod is not None and pod.uid == params.pod_uid:
                seen: dict[str, str | int | None] = {params.pod: f"{pod.revision}, {pod.uid}"}
                said = f"{params.pod} is still the former pod."
                return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen)
            workload = workload_in(snapshot, params.target)
            revisions = (workload.current_revision, workload.update_revision)
            return await returned(readers, params.target, params.ordinal, revisions, ANY)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=True)

    async def rollback(self, readers: Readers, writers: Writers, params: RestartParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is nothing to undo."""
        raise Refused("A restart changes no configuration, so there is nothing to undo.")


ACTION = RestartPod()
