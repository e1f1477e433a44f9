"""What every edit of a pod template shares: it is written with a hold, so that nothing rolls by itself, and each pod is then a stage of its own.

One patch carries the template, the hold and the receipt. Under RollingUpdate the hold is `partition = replicas`; under OnDelete nothing rolls anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bot.action import Check, Receipt
from bot.actions._facts import look
from bot.actions._gate import left_alone, losses, server_of
from bot.actions._objects import change_object, object_receipt, rehearsed
from bot.actions._statefulset import (
    Edited,
    Target,
    edited_by,
    fields_of,
    foreign,
    former_template,
    held,
    observed,
    pods_in,
    read_target,
    resting,
    revision_of,
    template_of,
    with_template,
    workload_in,
    world_of,
)
from bot.actions._way_back import put_back
from bot.errors import Refused
from bot.model import JsonObject, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification, part
from bot.model.kubernetes import Kind, Workload, patch
from bot.ports import Readers, Writers

RESTART: Final = 30.0
"""Seconds that a server takes to start and catch up, beside what its probes and its grace period say: 5 to 15 on the testbed, more with much data."""

HALF_WAY: Final = 900.0
"""Seconds for which a paused rollout waits: as long as the startup probe of the official chart (90 × 10 s, reference/nats.md 4.1)."""


class EditParams(Record):
    """What every edit needs: whose template, and as it was."""

    target: Target


P = TypeVar("P", bound=EditParams)


@dataclass(frozen=True)
class TemplateEdit(Generic[P]):
    """An action that edits the pod template in one way. What is special to a kind are pure functions of the template and the parameters."""

    kind: str
    title: str
    params: type[Record]
    edit: Callable[[JsonObject, P], JsonObject]
    """Returns the edited template. Raises `Refused` where the template is not what it must be."""
    touches: Callable[[P], tuple[str, ...]]
    """Returns the fields that the edit may change, each with what lies below it."""
    summary: Callable[[P], str]
    objections: Callable[[JsonObject, P], list[str]] = lambda _template, _params: []
    """Returns reasons against it, from the present template alone."""
    effects: tuple[str, ...] = ()
    """What people must know of every edit of this kind."""
    risk: RiskClass = RiskClass.MEDIUM
    settle: float = 0.0
    patience: float = 60.0
    """The controller sees a change within seconds."""
    half_way: float = HALF_WAY

    def edited(self, template: JsonObject, params: P) -> Edited:
        """Return what the edit of this template touches and leaves there. Raises `Refused`."""
        return edited_by(template, self.edit(template, params), self.touches(params))

    def refusals(self, template: JsonObject, params: P) -> list[str]:
        """Return why this template must not be edited so: the kind's own objections, or nothing to do."""
        try:
            after = self.edit(template, params)
        except Refused as refused:
            return list(refused.reasons)
        if fields_of(after) == fields_of(template):
            return [f"Nothing to do: {params.target.statefulset} already has it ({self.summary(params)})."]
        return self.objections(template, params)

    async def check(self, readers: Readers, params: P) -> Check:
        """The object is the approved one, at rest, and the edit changes something."""
        target = params.target
        try:
            raw = await read_target(readers, target)
            snapshot = await look(readers)
            servers = [server_of(snapshot, target.pod(ordinal)) for ordinal in range(target.replicas)]
            reasons = resting(raw, pods_in(snapshot, target), target.replicas)
            reasons += [said for server in servers for said in losses(snapshot, target, server)]
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        if revision_of(raw) != target.former:
            reasons.append(f"Its pods run {revision_of(raw)}, not {target.former}: the template was edited since.")
        reasons += self.refusals(template_of(raw), params)
        present = fields_of(template_of(raw))
        before: dict[str, str | int | None] = {name: present.get(name) for name in self._changed(raw, params)}
        image: JsonObject = {"revision": target.former, "updateStrategy": target.strategy}
        return Check(world=world_of(raw), refusals=tuple(reasons), before=before, before_image=image)

    async def preview(self, readers: Readers, params: P) -> Preview:
        """Ask the API server what it makes of the edit, and say what rolling it out means."""
        target = params.target
        raw = await read_target(readers, target)
        snapshot = await look(readers)
        diff, notes = await rehearsed(readers, patch(Kind.STATEFUL_SET, raw, self._written(raw, params)))
        workload = workload_in(snapshot, target)
        away = [said for ordinal in range(target.replicas) for said in _away(snapshot, target, ordinal)]
        return Preview(
            summary=self.summary(params),
            diff=diff,
            blast_radius=f"StatefulSet {target.statefulset}: this edit alone replaces no pod; the stages after it roll {rolls(workload)}.",
            effects=(*self.effects, *away, *(owner.reverts for owner in workload.owners), *notes),
            way_back=f"The template of {target.former} is put back, and pods that were made of the new one are replaced again.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> None:
        """Write template and hold in one patch."""
        target = params.target
        former = fields_of(await former_template(readers, target))

        def edit(raw: JsonObject) -> JsonObject:
            if fields_of(template_of(raw)) != former:
                raise Refused(f"The template of {target.statefulset} was edited by somebody else in this moment.")
            return self._written(raw, params)

        await change_object(readers, writers, Kind.STATEFUL_SET, target.statefulset, target.uid, edit, operation)

    async def receipt(self, readers: Readers, params: P, operation: OperationId) -> Receipt:
        """Read the annotation."""
        return await object_receipt(readers, Kind.STATEFUL_SET, params.target.statefulset, params.target.uid, operation)

    async def verify(self, readers: Readers, params: P, operation: OperationId) -> Verification:  # noqa: ARG002
        """The controller has seen the template, and nobody has changed it back."""
        target = params.target
        try:
            former = await former_template(readers, target)
            raw = await read_target(readers, target)
            edited = self.edited(former, params)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=True)
        now = fields_of(template_of(raw))
        seen: dict[str, str | int | None] = {name: now.get(name) for name in edited.wanted}
        if moved := foreign(raw, former, edited):
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(moved), numbers=seen, final=True)
        if not observed(raw):
            said = "The controller has not seen the new template yet."
            return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen)
        sentence = f"The new template stands as revision {revision_of(raw)}; no pod runs it yet."
        return Verification(outcome=Outcome.VERIFIED, sentence=sentence, numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> str:
        """Put the former template back, replace what was made of the new one, and let the former strategy stand again."""
        former = await former_template(readers, params.target)
        await put_back(readers, writers, params.target, self.edited(former, params), operation)
        return f"{params.target.statefulset} has the template of {params.target.former} again, and all its pods run it."

    def _written(self, raw: JsonObject, params: P) -> JsonObject:
        strategy = held(part(part(raw, "spec"), "updateStrategy"), params.target.replicas)
        return with_template(raw, self.edit(template_of(raw), params), strategy)

    def _changed(self, raw: JsonObject, params: P) -> tuple[str, ...]:
        try:
            return tuple(self.edited(template_of(raw), params).wanted)
        except Refused:
            return ()


def rolls(workload: Workload) -> str:
    """Return how many pods roll and about how long that takes."""
    startup, readiness = workload.nats.startup, workload.nats.readiness
    delay = max((probe.initial_delay for probe in (startup, readiness) if probe), default=0)
    minutes = math.ceil(workload.replicas * (workload.grace_seconds + delay + RESTART) / 60)
    return f"{workload.replicas} pods one at a time, about {minutes} minute{'s' if minutes > 1 else ''}"


def _away(snapshot: Snapshot, target: Target, ordinal: int) -> list[str]:
    return left_alone(snapshot, server_of(snapshot, target.pod(ordinal)))
