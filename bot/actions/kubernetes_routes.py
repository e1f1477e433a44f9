"""Writes the explicit list of routes into nats.conf, in its ConfigMap. Servers run on with what they have loaded: the reloads are stages of their own.

The routes that stood there are kept in an annotation of the same ConfigMap, which held them anyway, so that no password enters a proposal.
"""

from __future__ import annotations

import asyncio
import difflib
from typing import Final

from bot.action import Check, Receipt
from bot.actions._loading import PROPAGATION, Sleep, load_everywhere
from bot.actions._objects import change_object, object_receipt, read_object, rehearsed
from bot.actions._routes import addresses_of, fingerprint, parsed, redacted, restored, text_of, with_addresses
from bot.errors import NotYet, Refused
from bot.model import JsonObject, OperationId, Outcome, Preview, Record, RiskClass, Verification, World, part
from bot.model.kubernetes import Kind, patch, receipt_of
from bot.ports import Readers, Writers

FORMER: Final = "former.natsmedic.io/routes"
"""Annotation with the routes that stood there before, as they were written. Its name begins with none of those whose values are shown, so it is redacted in all evidence."""

WAY_BACK: Final = PROPAGATION + 30.0
"""Seconds on the way back: until the pods have the former file, and every server has loaded it."""


class RoutesParams(Record):
    """Which file, as it was seen, and which addresses it shall list. No login stands in it."""

    workload: str
    workload_uid: str
    config_map: str
    config_map_uid: str
    key: str
    file: str
    """Digest of the file without its secrets."""
    former: tuple[str, ...]
    """Addresses it lists now."""
    routes: tuple[str, ...]
    servers: tuple[str, ...]
    """Those that load it afterwards; on the way back they load the former one."""
    reloader: bool = False
    """Whether a sidecar makes servers load a changed file by itself."""


class RouteList:
    """Edits `cluster.routes`."""

    kind: str = "kubernetes.routes"
    title: str = "Explicit list of routes"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = RoutesParams
    settle: float = 0.0
    """The object is as it was written; what servers make of it is the next stages' condition."""
    patience: float = 10.0
    half_way: float = WAY_BACK

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    async def check(self, readers: Readers, params: RoutesParams) -> Check:
        """The file must be the very one that was looked at, and the StatefulSet must have the pods that the list names."""
        try:
            raw = await read_object(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid)
            owner = await read_object(readers, Kind.STATEFUL_SET, params.workload, params.workload_uid)
            text = text_of(raw, params.key)
            world = _world(params, text, owner)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = [f"ConfigMap {params.config_map} is immutable."] if raw.get("immutable") is True else []
        try:
            _edit(params, raw)
        except Refused as refused:
            reasons += refused.reasons
        image: JsonObject = {"data": {params.key: redacted(text)}}
        return Check(world=world, refusals=tuple(reasons), before_image=image, before={"addresses": len(params.former)})

    async def preview(self, readers: Readers, params: RoutesParams) -> Preview:
        """Show the file before and after, without secrets."""
        try:
            raw = await read_object(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid)
            after = _edit(params, raw)
            _, notes = await rehearsed(readers, patch(Kind.CONFIG_MAP, raw, after))
        except Refused as refused:
            return _preview(params, "", tuple(f"Not possible now: {reason}" for reason in refused.reasons))
        before, shown = (redacted(text_of(side, params.key)).splitlines() for side in (raw, after))
        diff = "\n".join(difflib.unified_diff(before, shown, params.key, params.key, lineterm=""))
        return _preview(params, diff, notes)

    async def apply(self, readers: Readers, writers: Writers, params: RoutesParams, operation: OperationId) -> None:
        """Edit the live file at the one place; the login of the routes is copied there."""

        def edit(raw: JsonObject) -> JsonObject:
            return _edit(params, raw)

        await change_object(
            readers, writers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid, edit, operation
        )

    async def receipt(self, readers: Readers, params: RoutesParams, operation: OperationId) -> Receipt:
        """Read the annotation."""
        return await object_receipt(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid, operation)

    async def verify(self, readers: Readers, params: RoutesParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The file lists every pod."""
        try:
            raw = await read_object(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid)
            found = addresses_of(parsed(text_of(raw, params.key)))
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=True)
        good = found == params.routes
        text = f"{params.key} lists {len(found or ())} addresses" + (", one for each pod." if good else ".")
        return Verification(
            outcome=Outcome.VERIFIED if good else Outcome.FAILED, sentence=text, numbers={"addresses": len(found or ())}
        )

    async def rollback(self, readers: Readers, writers: Writers, params: RoutesParams, operation: OperationId) -> str:
        """Write the former routes and make every server load them; waits until all have."""
        undone = OperationId(f"{operation}.undone")

        def back(raw: JsonObject) -> JsonObject:
            return _undo(params, raw, operation)

        await change_object(readers, writers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid, back, undone)
        asking = None if params.reloader else writers
        if late := await load_everywhere(readers, asking, params.servers, params.former, self._sleep):
            raise NotYet(
                f"{params.key} lists its former routes again, and {', '.join(late)} did not load them yet: the kubelet brings the file within 1 to 2 minutes."
            )
        return f"{params.key} lists its former routes again, and {', '.join(params.servers)} run with them."


def _edit(params: RoutesParams, raw: JsonObject) -> JsonObject:
    text = text_of(raw, params.key)
    if fingerprint(text) != params.file:
        raise Refused(f"{params.key} in ConfigMap {params.config_map} was edited since.")
    edited, former = with_addresses(text, params.routes)
    meta = part(raw, "metadata")
    noted = part(meta, "annotations") | {FORMER: former}
    return raw | {"data": part(raw, "data") | {params.key: edited}, "metadata": meta | {"annotations": noted}}


def _undo(params: RoutesParams, raw: JsonObject, operation: OperationId) -> JsonObject:
    meta = part(raw, "metadata")
    notes = part(meta, "annotations")
    if receipt_of(raw) != operation or not isinstance(former := notes.get(FORMER), str):
        raise Refused(
            f"ConfigMap {params.config_map} was changed by natsmedic again since, so its routes stay as they are."
        )
    text = restored(text_of(raw, params.key), params.routes, former)
    kept = {key: value for key, value in notes.items() if key != FORMER}
    return raw | {"data": part(raw, "data") | {params.key: text}, "metadata": meta | {"annotations": kept}}


def _world(params: RoutesParams, text: str, owner: JsonObject) -> World:
    spec = part(owner, "spec")
    return {
        "configmap.uid": params.config_map_uid,
        f"configmap.{params.key}": fingerprint(text),
        "statefulset.uid": params.workload_uid,
        "statefulset.replicas": spec.get("replicas", 1),
        "statefulset.serviceName": str(spec.get("serviceName") or ""),
    }


def _preview(params: RoutesParams, diff: str, notes: tuple[str, ...]) -> Preview:
    return Preview(
        summary=f"{params.key} in ConfigMap {params.config_map} lists {len(params.routes)} routes, one for each pod",
        diff=diff,
        blast_radius="No pod is restarted. Running servers notice nothing before they load the file; a pod that starts meanwhile starts with it.",
        effects=(
            "Everything else in the file stays byte for byte the same. The login of the routes is copied and shown nowhere.",
            f"The former routes are kept in the annotation {FORMER}.",
            *notes,
        ),
        way_back="The former routes are written back, and every server that runs with the new ones loads them.",
    )


ACTION = RouteList()
