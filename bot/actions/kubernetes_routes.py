"""Writes the explicit list of routes into nats.conf, in its ConfigMap. Servers run on with what they have loaded: the reloads are stages of their own.

The routes that stood there are kept in an annotation of the same ConfigMap, which held them anyway, so that no password enters a proposal.
"""

from __future__ import annotations

import asyncio
from typing import Final

from bot.action import Check, Receipt
from bot.actions._conf_text import parsed, text_of
from bot.actions._config_edit import ConfigTarget, apply_edit, check_edit, preview_edit, undo_edit
from bot.actions._loading import PROPAGATION, Sleep, load_everywhere
from bot.actions._objects import object_receipt, read_object
from bot.actions._routes import addresses_of, restored, with_addresses
from bot.actions._servers import runs_with
from bot.errors import NotYet, Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification
from bot.model.kubernetes import Kind
from bot.model.mesh import read_mesh
from bot.ports import Readers, Writers

FORMER: Final = "former.natsmedic.io/routes"
"""Annotation with the routes that stood there before, as they were written. Its name begins with none of those whose values are shown, so it is redacted in all evidence."""

WAY_BACK: Final = PROPAGATION + 30.0
"""Seconds on the way back: until the pods have the former file, and every server has loaded it."""


class RoutesParams(ConfigTarget):
    """Which file, as it was seen, and which addresses it shall list. No login stands in it."""

    former: tuple[str, ...]
    """Addresses it lists now."""
    routes: tuple[str, ...]
    servers: tuple[str, ...]
    """Those that load it afterwards; on the way back they load the former one."""
    reloader: bool = False
    """Whether a sidecar makes servers load a changed file by itself."""

    def edit(self, text: str) -> tuple[str, str]:
        """Return the file with the wanted routes, and those that stood there."""
        return with_addresses(text, self.routes)

    def restore(self, text: str, former: str) -> str:
        """Return the file with its former routes."""
        return restored(text, self.routes, former)


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
        return await check_edit(readers, params, params.edit, {"addresses": len(params.former)})

    async def preview(self, readers: Readers, params: RoutesParams) -> Preview:
        """Show the file before and after, without secrets."""
        return _preview(params, *await preview_edit(readers, params, params.edit, FORMER))

    async def apply(self, readers: Readers, writers: Writers, params: RoutesParams, operation: OperationId) -> None:
        """Edit the live file at the one place; the login of the routes is copied there."""
        await apply_edit(readers, writers, params, params.edit, FORMER, operation)

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
        await undo_edit(readers, writers, params, params.restore, FORMER, operation)
        asking = None if params.reloader else writers

        def loaded(snapshot: Snapshot, server: str) -> bool | None:
            return runs_with(read_mesh(snapshot), server, params.former)

        if late := await load_everywhere(readers, asking, params.servers, loaded, self._sleep):
            raise NotYet(
                f"{params.key} lists its former routes again, and {', '.join(late)} did not load them yet: the kubelet brings the file within 1 to 2 minutes."
            )
        return f"{params.key} lists its former routes again, and {', '.join(params.servers)} run with them."


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
