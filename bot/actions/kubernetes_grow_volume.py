"""Asks for a larger volume behind one claim, where its storage class can grow volumes. There is no way back: no volume can be made smaller."""

from __future__ import annotations

from bot.action import ELECTION, Check, Receipt
from bot.actions._facts import look
from bot.actions._objects import change_object, object_receipt, read_object, rehearsed
from bot.actions._servers import facts_of
from bot.errors import Refused
from bot.model import (
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Unknown,
    Verification,
    part,
)
from bot.model.kubernetes import Claim, Kind, StorageClass, patch, quantity
from bot.ports import Readers, Writers

FILE_SYSTEM_PENDING = "FileSystemResizePending"
"""Condition of a claim whose volume has grown and whose file system has not (core/v1 PersistentVolumeClaimFileSystemResizePending)."""


class GrowParams(Record):
    """Which claim, from what to what."""

    claim: str
    uid: str
    storage_class: str
    former: str
    """Its request, as written."""
    size: str
    """What it shall request, e.g. `20Gi`."""


class GrowVolume:
    """Raises `spec.resources.requests.storage` of one claim."""

    kind: str = "kubernetes.grow_volume"
    title: str = "Larger volume"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = GrowParams
    settle: float = 0.0
    """A capacity that is there stays."""
    patience: float = 600.0
    """A cloud disk grows within minutes; where it has grown the kubelet grows the file system at its next look, once a minute."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: GrowParams) -> Check:
        """The claim must be bound and unchanged, and its class must be able to grow volumes."""
        snapshot = await look(readers, frozenset())
        try:
            claim = Claim(await read_object(readers, Kind.CLAIM, params.claim, params.uid))
            reasons = cannot_grow(snapshot, claim, params.size)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        requested = _request(claim.raw)
        if requested != params.former:
            reasons.append(f"Claim {claim.name} requests {requested}, not {params.former}.")
        return Check(
            world={
                f"{claim.name}.uid": claim.uid,
                f"{claim.name}.request": requested,
                f"{claim.name}.class": claim.storage_class,
            },
            refusals=tuple(reasons),
            before_image={"spec": {"resources": part(claim.spec, "resources")}},
            before={"capacity": claim.capacity},
        )

    async def preview(self, readers: Readers, params: GrowParams) -> Preview:
        """Say what stays as it is: the template, the server's limit, and that there is no way back."""
        try:
            raw = await read_object(readers, Kind.CLAIM, params.claim, params.uid)
            diff, notes = await rehearsed(readers, patch(Kind.CLAIM, raw, _with_request(raw, params.size)))
        except Refused as refused:
            diff, notes = "", tuple(f"Not possible now: {reason}" for reason in refused.reasons)
        return Preview(
            summary=f"Claim {params.claim} requests {params.size} instead of {params.former}",
            diff=diff,
            blast_radius="The volume of one server. With most drivers it grows while it is in use.",
            effects=(
                "A driver that can't do that while it is mounted leaves the file system as it is until the pod is started anew.",
                "The StatefulSet's volumeClaimTemplates can't be changed: a pod that is added later gets a volume of the old size.",
                "JetStream uses the room only after max_file_store is raised and loaded; raising it is a reload.",
                *notes,
            ),
            way_back="None: no volume can be made smaller.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: GrowParams, operation: OperationId) -> None:
        """Write the request."""

        def edit(raw: JsonObject) -> JsonObject:
            if (seen := _request(raw)) != params.former:
                raise Refused(f"Claim {params.claim} requests {seen}, not {params.former}.")
            return _with_request(raw, params.size)

        await change_object(readers, writers, Kind.CLAIM, params.claim, params.uid, edit, operation)

    async def receipt(self, readers: Readers, params: GrowParams, operation: OperationId) -> Receipt:
        """Read the annotation."""
        return await object_receipt(readers, Kind.CLAIM, params.claim, params.uid, operation)

    async def verify(self, readers: Readers, params: GrowParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The claim's capacity, which counts the file system, is what was asked for."""
        try:
            claim = Claim(await read_object(readers, Kind.CLAIM, params.claim, params.uid))
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=True)
        wanted = quantity(params.size) or 0
        numbers: dict[str, str | int | None] = {"capacity": claim.capacity, "requested": claim.requested}
        if claim.capacity is not None and claim.capacity >= wanted:
            text = f"Claim {params.claim} has {claim.capacity} bytes."
            return Verification(outcome=Outcome.VERIFIED, sentence=text, numbers=numbers)
        pending = claim.conditions.get(FILE_SYSTEM_PENDING)
        if pending is not None and pending.holds:
            text = f"The volume of {params.claim} has grown; its file system grows when the pod that uses it is started anew."
        else:
            told = "; ".join(
                f"{name}: {one.message or one.reason}" for name, one in claim.conditions.items() if one.holds
            )
            text = f"Claim {params.claim} has {claim.capacity} bytes{f' ({told})' if told else ''}."
        return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)

    async def rollback(self, readers: Readers, writers: Writers, params: GrowParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is no way back."""
        raise Refused(
            f"The request of claim {params.claim} stays at {params.size}: no volume can be made smaller. What holds it up stands in its conditions: "
            f"a pending file system needs its pod started anew, an exhausted quota more of it."
        )


def cannot_grow(snapshot: Snapshot, claim: Claim, size: str) -> list[str]:
    """Return why this claim can't get this size. Raises `Refused` where its storage class is not known."""
    reasons: list[str] = []
    wanted = quantity(size)
    if wanted is None:
        reasons.append(f"{size!r} is no size such as 20Gi.")
    elif claim.requested is None or wanted <= claim.requested:
        reasons.append(f"Claim {claim.name} requests {_request(claim.raw)} already; a volume can't be made smaller.")
    if claim.phase != "Bound":
        reasons.append(f"Claim {claim.name} is {claim.phase or 'new'}, not bound to a volume.")
    storage = class_of(snapshot, claim)
    if not storage.expandable:
        reasons.append(f"StorageClass {storage.name} does not allow volumes to grow (allowVolumeExpansion).")
    return reasons


def class_of(snapshot: Snapshot, claim: Claim) -> StorageClass:
    """Return the storage class of a claim. Raises `Refused` where it is not known."""
    found = facts_of(snapshot).of(Kind.STORAGE_CLASS)
    if isinstance(found, Unknown):
        raise Refused(f"Whether the volume of {claim.name} can grow is not known: {found.detail}")
    storage = next((one for raw in found if (one := StorageClass(raw)).name == claim.storage_class), None)
    if storage is None:
        raise Refused(f"Claim {claim.name} has no storage class that could make its volume grow.")
    return storage


def request_of(claim: Claim) -> str:
    """Return what a claim requests, as written."""
    return _request(claim.raw)


def _request(raw: JsonObject) -> str:
    return str(part(part(part(raw, "spec"), "resources"), "requests").get("storage") or "")


def _with_request(raw: JsonObject, size: str) -> JsonObject:
    spec = part(raw, "spec")
    resources = part(spec, "resources")
    grown = resources | {"requests": part(resources, "requests") | {"storage": size}}
    return raw | {"spec": spec | {"resources": grown}}


ACTION = GrowVolume()
