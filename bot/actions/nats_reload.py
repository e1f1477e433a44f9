"""Makes one server load nats.conf again, and proves that its mesh with the servers before it is complete. Nothing is restarted, no client is disconnected."""

from __future__ import annotations

import asyncio
from functools import partial

from bot.action import ELECTION, Check, Receipt
from bot.actions._loading import Sleep, ask_until_loaded, look_at, receipt_of_load, seen_loaded, told_of_asking
from bot.actions._servers import lists, loaded_the_file, mesh_among, runs_with, workload_of
from bot.errors import Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification
from bot.model.mesh import read_mesh
from bot.ports import Readers, Writers


class ReloadParams(Record):
    """Which server, what it shall run with, and whom it must be connected with then."""

    workload: str
    workload_uid: str
    pod: str
    server: str
    routes: tuple[str, ...]
    with_servers: tuple[str, ...] = ()
    """Servers that run with the list already; in the last stage all."""
    reloader: bool = False
    """Whether a sidecar asks it; then it is only waited for."""


class Reload:
    """Asks until VARZ shows the wanted routes."""

    kind: str = "nats.reload"
    title: str = "Configuration reload"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ReloadParams
    settle: float = 3.0
    """Routes that are dialled anew come and go for about a second (reference/drills.md 2)."""
    patience: float = 45.0
    """An explicit route is dialled every second; a name that was not in DNS is found once its negative answer has expired, after 5 to 30 s."""
    half_way: float = ELECTION

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    async def check(self, readers: Readers, params: ReloadParams) -> Check:
        """The file must list the routes, and the server must answer."""
        snapshot = await look_at(readers, [params.server])
        identity = next((s for s in snapshot.servers if s.name == params.server), None)
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons: list[str] = []
        if not lists(workload, params.routes):
            reasons.append("nats.conf does not list the wanted routes.")
        if identity is None:
            reasons.append(f"Server {params.server} does not answer.")
        member = read_mesh(snapshot).members.get(params.server)
        routes = None if member is None or member.links is None else sum(link.count for link in member.links.values())
        return Check(
            world={"statefulset.uid": workload.uid, "statefulset.image": workload.nats.image.reference},
            refusals=tuple(reasons),
            before={"routes": routes},
        )

    async def preview(self, readers: Readers, params: ReloadParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what moves."""
        return Preview(
            summary=f"{params.server} loads its configuration again",
            blast_radius=f"Routes of {params.server}: missing ones are dialled. No restart, no client is disconnected.",
            effects=(
                told_of_asking(reloader=params.reloader),
                "For about a second servers log *Duplicate Route*; that is harmless.",
                "It loads the whole file: whatever else was changed in it since it loaded it last comes in force too.",
            ),
            way_back="None of its own: with the former file back, it loads that.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ReloadParams, operation: OperationId) -> None:
        """Ask until it shows the routes."""
        del operation
        asking = None if params.reloader else writers
        await ask_until_loaded(readers, asking, params.server, partial(_loaded, params), self._sleep, "the new routes")

    async def receipt(self, readers: Readers, params: ReloadParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """What the server runs with is the receipt: whoever made it load that, it is what was asked for."""
        return receipt_of_load(await seen_loaded(readers, params.server, partial(_loaded, params)))

    async def verify(self, readers: Readers, params: ReloadParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Every pair of servers that run with the list has every connection."""
        together = (*params.with_servers, params.server)
        snapshot = await look_at(readers, together)
        loaded = _loaded(params, snapshot, params.server)
        if loaded is False:
            text = f"{params.server} does not run with the list of {len(params.routes)} routes."
            now = read_mesh(snapshot).members[params.server].routes or ()
            return Verification(outcome=Outcome.FAILED, sentence=text, numbers={"routes": len(now)})
        found = mesh_among(snapshot, together)
        if loaded is None:
            return found
        text = f"{params.server} runs with the list of {len(params.routes)} routes. {found.sentence}"
        return found.model_copy(update={"sentence": text})

    async def rollback(self, readers: Readers, writers: Writers, params: ReloadParams, operation: OperationId) -> str:  # noqa: ARG002
        """The file decides what a server runs with, so it is the stage that edited it which makes servers load the former one."""
        return f"{params.server} keeps its routes until the former file is back and loaded."


def _loaded(params: ReloadParams, snapshot: Snapshot, server: str) -> bool | None:
    """Tell whether the server runs with the wanted routes, and where it reports a digest with the whole file; None where it does not say."""
    shown = runs_with(read_mesh(snapshot), server, params.routes)
    if not shown:
        return shown
    try:
        workload = workload_of(snapshot, params.workload, params.workload_uid)
    except Refused:
        return None
    return loaded_the_file(snapshot, workload, params.pod, server) is not False


ACTION = Reload()
