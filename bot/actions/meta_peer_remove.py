"""Removes a server that is gone for good from the meta group, so that it no longer counts for its quorum. Never a live one (design/safety.md, Applying 9).

A live server that is removed switches its JetStream off (reference/drills.md 3.6). So everything must speak against its life: the meta leader has not heard
from it for long, it answers nobody, no server has a route to it, no StatefulSet brings it back; and no stream or consumer may still count on it.
"""

from __future__ import annotations

from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._elections import Led, Numbers, meta_led
from bot.actions._facts import look
from bot.actions._gate import some
from bot.actions._peers import PEER_NEEDS, signs_of_life
from bot.errors import ApiRefused, OutcomeUnknown, Refused
from bot.model import (
    Endpoint,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Unknown,
    Verification,
    part,
    parts,
)
from bot.model.absence import META, raft_groups
from bot.model.groups import latest
from bot.ports import Readers, Writers

GONE: Final = 900.0
"""Seconds since the meta leader last heard from the server: the official chart lets a server start for 900 s before it is restarted (reference/nats.md 4.1)."""

LEAST_LEFT: Final = 3
"""Members that must be left: a meta group of two can spare none (reference/nats.md 4.3)."""

NOT_A_MEMBER: Final = 10044
CHANGE_IN_FLIGHT: Final = 10202
"""JetStream's codes for a server that is no member, and for a change of members that is not through yet, which may be ours (reference/nats.md 3.4)."""


class ServerParams(Record):
    """Which server is gone, and the meta group that it counts in."""

    server: str
    peer_id: str
    """Its Raft id: the meta leader forgets the names of servers that were away before it started itself."""
    members: tuple[str, ...]
    at_least: float = GONE
    """Seconds for which it must have been away."""


class MetaPeerRemove:
    """Removes one server."""

    kind: str = "meta.peer_remove"
    title: str = "Remove a gone server"
    risk: RiskClass = RiskClass.DESTRUCTIVE
    params: type[Record] = ServerParams
    settle: float = 5.0
    """A removal is one entry of the meta log, applied by all members within a heartbeat or two (1 s, reference/nats.md 1.0)."""
    patience: float = 60.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: ServerParams) -> Check:
        """Nothing may speak for its life, nothing may count on it, and the rest must be whole."""
        snapshot = await look(readers, PEER_NEEDS)
        try:
            led = meta_led(snapshot)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = hindrances(snapshot, led, params.server, params.at_least)
        if not reasons:
            reasons += await _only_there(readers, snapshot, params.server)
        members = sorted(led.standing.members)
        return Check(
            world={"meta.members": ", ".join(members)},
            refusals=tuple(reasons),
            before_image={"members": members, "leader": led.leader, "peer": params.peer_id},
            before=_numbers(led),
        )

    async def preview(self, readers: Readers, params: ServerParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say who is left and what that means."""
        rest = [name for name in params.members if name != params.server]
        even = " An even number spares no more members than one fewer would." if len(rest) % 2 == 0 else ""
        return Preview(
            summary=f"Remove server {params.server} from the meta group",
            diff=f"- members: {', '.join(params.members)}\n+ members: {', '.join(rest)}",
            blast_radius="The meta group only; no stream or consumer has this server as a member.",
            effects=(
                f"{len(rest)} servers are left, {len(rest) // 2 + 1} of them are a majority.{even}",
                "Should it come back, it is not taken in again for 5 minutes, and what it stores is thrown away.",
            ),
            way_back="None: the server becomes a member again by itself once it runs, 5 minutes later at the earliest.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ServerParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the meta leader. *No member* and *a change is in flight* may both be an earlier request of ours."""
        try:
            await writers.remove_server(params.server, params.peer_id)
        except ApiRefused as refused:
            if refused.err_code in {NOT_A_MEMBER, CHANGE_IN_FLIGHT}:
                raise OutcomeUnknown(f"{refused}. The server may be removed all the same.") from refused
            raise

    async def receipt(self, readers: Readers, params: ServerParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """Who belongs to the meta group is the receipt: a server that is away leaves it by nobody's will but this."""
        try:
            led = meta_led(await look(readers))
        except Refused:
            return Receipt.UNREADABLE
        return Receipt.NOT_APPLIED if params.server in led.standing.members else Receipt.APPLIED

    async def verify(self, readers: Readers, params: ServerParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The rest is the whole group: one leader, everybody current, one fewer than before."""
        try:
            led = meta_led(await look(readers))
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        seen = _numbers(led)
        here = led.standing.members
        if params.server in here:
            return Verification(outcome=Outcome.FAILED, sentence=f"{params.server} is still a member.", numbers=seen)
        lost = sorted(set(params.members) - here - {params.server})
        if lost or not led.agreed:
            said = f"The meta group: {led.standing.counted}" + (f", without {', '.join(lost)}" if lost else "")
            return Verification(outcome=Outcome.FAILED, sentence=f"{said}.", numbers=seen)
        said = f"{len(here)} servers are the meta group, {led.leader} leads, all are current."
        return Verification(outcome=Outcome.VERIFIED, sentence=said, numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: ServerParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is no way back."""
        raise Refused(
            f"{params.server} becomes a member again by itself when it runs, 5 minutes later at the earliest."
        )


def hindrances(snapshot: Snapshot, led: Led, server: str, at_least: float) -> list[str]:
    """Reasons why this server must not be removed from the meta group."""
    found = led.standing
    if server not in found.members:
        return [f"{server} is no member of the meta group."]
    reasons = signs_of_life(snapshot, server, found, META) + _comes_back(snapshot, server)
    reasons += _too_early(snapshot, led, server, at_least)
    if others := sorted(set(found.lagging) - {server}):
        reasons.append(f"{', '.join(others)} is not current in the meta group either: {found.counted}.")
    left = len(found.members) - 1
    if left < LEAST_LEFT:
        reasons.append(f"{left} servers would be left, of which none can be spared: bring a new server in first.")
    counting = [group.name for group in raft_groups(snapshot) if group.name != META and server in group.servers]
    if counting:
        reasons.append(f"{server} is still a member of {some(counting)}: replace it there first.")
    return reasons


def remove_stage(snapshot: Snapshot, server: str, at_least: float = GONE) -> ServerParams:
    """Return the parameters for removing this server. Raises `Refused` where the meta group has no leader."""
    led = meta_led(snapshot)
    meta = part(latest(snapshot, led.leader, Endpoint.JSZ) or {}, "meta_cluster")
    peer = next((str(row.get("peer") or "") for row in parts(meta, "replicas") if row.get("name") == server), "")
    return ServerParams(server=server, peer_id=peer, members=tuple(sorted(led.standing.members)), at_least=at_least)


def _comes_back(snapshot: Snapshot, server: str) -> list[str]:
    """Refuse where a StatefulSet asks for the server's pod."""
    if snapshot.kubernetes is None:
        return []
    found = snapshot.kubernetes.workloads
    if isinstance(found, Unknown):
        return [f"Whether a StatefulSet brings {server} back is not known: {found.detail}"]
    for workload in found:
        for pod in (f"{workload.name}-{ordinal}" for ordinal in range(workload.replicas)):
            if server == pod or server.endswith(f"-{pod}"):
                return [
                    f"StatefulSet {workload.name} asks for {workload.replicas} pods, {pod} among them: {server} comes back."
                ]
    return []


def _too_early(snapshot: Snapshot, led: Led, server: str, at_least: float) -> list[str]:
    """Refuse a server that was heard not long ago. A leader that never heard it can't tell, and then only a StatefulSet without it can."""
    meta = part(latest(snapshot, led.leader, Endpoint.JSZ) or {}, "meta_cluster")
    active = next((row.get("active") for row in parts(meta, "replicas") if row.get("name") == server), None)
    away = active / 1e9 if isinstance(active, int) else 0.0
    if away >= at_least:
        return []
    if away > 0:
        return [
            f"{led.leader} heard from {server} {away:.0f} s ago; only after {at_least:.0f} s is a server taken for gone."
        ]
    facts = snapshot.kubernetes
    if facts is not None and not isinstance(facts.workloads, Unknown) and facts.workloads:
        return []
    return [
        f"Since when {server} is away is not known: {led.leader} has not heard from it since it leads the meta group."
    ]


async def _only_there(readers: Readers, snapshot: Snapshot, server: str) -> list[str]:
    """Refuse where a stream does not answer: one that lives on the gone server alone is named by no other. Raises `Unreadable`."""
    views = (sample.assets for sample in snapshot.samples if sample.assets is not None)
    accounts = {account.name or account.id for assets in views for account in assets.accounts}
    silent = [f"{account} > {name}" for account in sorted(accounts) for name in sorted(await readers.missing(account))]
    return [f"Stream {name} does not answer: its only copy may be on {server}." for name in silent]


def _numbers(led: Led) -> Numbers:
    found = led.standing
    return {"leader": led.leader, "members": len(found.members), "current": found.current}


ACTION = MetaPeerRemove()
