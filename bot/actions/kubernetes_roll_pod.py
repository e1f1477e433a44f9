"""Replaces one pod by the edited template, once every Raft group can spare its server. The order is Kubernetes' own: from the highest ordinal to 0.

Under RollingUpdate the partition is lowered to this ordinal, and the controller replaces the pod. It does not where the pod is not ready and the policy
OrderedReady (it waits for it forever, reference/nats.md 4.5), and never under OnDelete: there the very pod that was looked at is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.action import Check, Receipt
from bot.actions._facts import look
from bot.actions._gate import (
    NOTHING,
    Strictness,
    absent,
    hindrances,
    leaderships,
    left_alone,
    returned,
    runs,
    server_of,
    some,
)
from bot.actions._objects import change_object, object_receipt
from bot.actions._statefulset import (
    Edited,
    Target,
    foreign,
    former_template,
    held,
    must_be_observed,
    observed,
    partition_of,
    pod_in,
    read_target,
    resized,
    revision_of,
    strategy_of,
    template_of,
    with_template,
    world_of,
)
from bot.actions._template_edit import HALF_WAY
from bot.actions._way_back import bring_back, delete_pod
from bot.errors import NotYet, ObjectRefused, OutcomeUnknown, Refused
from bot.model import JsonObject, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification, part
from bot.model.kubernetes import Kind, Pod
from bot.ports import Readers, Writers


class RollParams(Record):
    """Which pod, and the edit that it is replaced for."""

    target: Target
    ordinal: int
    edited: Edited
    full: bool
    """Whether every server must be in full health (an upgrade), or only fit to carry on (`bot.actions._gate.Strictness`)."""
    version: str = ""
    """What the server must run afterwards; empty where the edit leaves it."""

    @property
    def pod(self) -> str:
        return self.target.pod(self.ordinal)

    @property
    def strict(self) -> Strictness:
        return Strictness(self.full, self.version)


@dataclass(frozen=True)
class RollPod:
    """Replaces a pod."""

    kind: str = "kubernetes.roll_pod"
    title: str = "Replacement of one pod"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = RollParams
    settle: float = 5.0
    """Longer than a leader's election (4 s at least) can stay unnoticed: a follower without a leader says so within 2 s (reference/nats.md 1.0)."""
    patience: float = 1200.0
    """The official chart's startup probe gives a server 15 minutes (reference/nats.md 4.1); its grace period and the settling come on top."""
    half_way: float = HALF_WAY

    async def check(self, readers: Readers, params: RollParams) -> Check:
        """The edit stands as it was written, and the cluster can spare this server now."""
        target = params.target
        try:
            former = await former_template(readers, target)
            raw = await read_target(readers, target)
            if reasons := _disturbed(raw, former, params):
                return Check(world=world_of(raw), refusals=tuple(reasons), final=True)
            cheap = await readers.gather(NOTHING)
            reasons = _order(raw, cheap, params)
            if missing := absent(cheap, target, params.ordinal):
                return Check(world=world_of(raw), refusals=(*reasons, *missing))
            snapshot = await look(readers)
            reasons += hindrances(snapshot, target, params.ordinal, params.strict)
            before = runs(snapshot, target, params.ordinal)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons, final=True)
        return Check(world=world_of(raw), refusals=tuple(reasons), before=before)

    async def preview(self, readers: Readers, params: RollParams) -> Preview:
        """Say who is away meanwhile, and what it leads."""
        snapshot = await look(readers)
        server = server_of(snapshot, params.pod)
        leads = leaderships(snapshot, server)
        effects = [f"Server {server} is away until it has started and caught up; its clients connect to the others."]
        if leads:
            effects.append(f"It leads {some(leads)}, and hands this over before it stops: seconds of stall in each.")
        effects += left_alone(snapshot, server)
        return Preview(
            summary=f"Pod {params.pod} is replaced",
            blast_radius=f"Server {server}: one member of each of its Raft groups; all of them keep quorum, or this stage waits.",
            effects=tuple(effects),
            way_back=f"The template of {params.target.former} is put back, and the pod is replaced once more.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: RollParams, operation: OperationId) -> None:
        """Let the controller replace the pod, or delete it where the controller would not."""
        target = params.target
        former = await former_template(readers, target)
        pod = pod_in(await readers.gather(NOTHING), target, params.ordinal)

        def release(raw: JsonObject) -> JsonObject:
            if reasons := _disturbed(raw, former, params):
                raise Refused(*reasons)
            return with_template(raw, template_of(raw), held(part(part(raw, "spec"), "updateStrategy"), params.ordinal))

        raw = await change_object(
            readers, writers, Kind.STATEFUL_SET, target.statefulset, target.uid, release, operation
        )
        if pod is not None and _only_by_deletion(pod, raw, params):
            try:
                await delete_pod(writers, pod)
            except ObjectRefused as error:
                # It may be gone, or another one by now, and half of this stage is written: its receipt tells.
                raise OutcomeUnknown(f"Pod {pod.name} was not deleted: {error}") from error

    async def receipt(self, readers: Readers, params: RollParams, operation: OperationId) -> Receipt:
        """Read the annotation; where the pod had to be deleted, too, it must be on its way."""
        target = params.target
        found = await object_receipt(readers, Kind.STATEFUL_SET, target.statefulset, target.uid, operation)
        if found is not Receipt.APPLIED:
            return found
        try:
            raw = await read_target(readers, target)
            pod = pod_in(await readers.gather(NOTHING), target, params.ordinal)
        except Refused:
            return Receipt.FOREIGN
        waits = pod is not None and _only_by_deletion(pod, raw, params)
        return Receipt.NOT_APPLIED if waits else Receipt.APPLIED

    async def verify(self, readers: Readers, params: RollParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The pod runs the edited template, and its server is whole again."""
        target = params.target
        try:
            former = await former_template(readers, target)
            raw = await read_target(readers, target)
            if reasons := _disturbed(raw, former, params):
                return Verification(outcome=Outcome.FAILED, sentence=" ".join(reasons), final=True)
            revision = must_be_observed(raw, target)
            return await returned(readers, target, params.ordinal, (revision,), params.strict)
        except Refused as refused:
            final = not isinstance(refused, NotYet)
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=final)

    async def rollback(self, readers: Readers, writers: Writers, params: RollParams, operation: OperationId) -> str:
        """Put the former template back, and replace this pod by it: at once where it does not run, else once the cluster can spare it."""
        await bring_back(readers, writers, params.target, params.edited, (params.ordinal,), operation)
        return f"{params.pod} runs the template of {params.target.former} again."


def _disturbed(raw: JsonObject, former: JsonObject, params: RollParams) -> list[str]:
    """Reasons why the edit does not stand any more as it was written."""
    reasons = foreign(raw, former, params.edited) + resized(raw, params.target.replicas)
    if (now := strategy_of(raw)) != (params.target.strategy.get("type") or now):
        reasons.append(f"Somebody else changed updateStrategy: it is {now} now.")
    if params.target.rolling and (partition := partition_of(raw)) < params.ordinal:
        reasons.append(
            f"Somebody else lowered the partition: it is {partition}, so pods below {params.pod} roll already."
        )
    return reasons


def _order(raw: JsonObject, snapshot: Snapshot, params: RollParams) -> list[str]:
    """Reasons why it is not this pod's turn: pods above it run the edited template, and the controller has seen it."""
    if not observed(raw):
        return [f"The controller has not seen the last change of {params.target.statefulset} yet."]
    reasons: list[str] = []
    for other in range(params.ordinal + 1, params.target.replicas):
        pod = pod_in(snapshot, params.target, other)
        if pod is not None and pod.revision != revision_of(raw):
            reasons.append(f"Pod {pod.name} must be replaced first: it runs {pod.revision}, not {revision_of(raw)}.")
    return reasons


def _only_by_deletion(pod: Pod, raw: JsonObject, params: RollParams) -> bool:
    """Tell whether a pod of the former template stays one unless it is deleted."""
    if pod.deleting or pod.revision != params.target.former:
        return False
    ordered = part(raw, "spec").get("podManagementPolicy") != "Parallel"
    return not params.target.rolling or (ordered and not pod.ready)


ACTION = RollPod()
