"""Members that are dead, and servers that could take their place: what stands before a peer is removed (reference/nats.md 3.3, 7).

A server is dead only where nothing speaks for its life: its leader does not hear it, it answers nobody, and no server has a route to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from bot.actions._facts import NEEDS, StreamFacts, limit_reached
from bot.model import Endpoint, Json, JsonObject, Snapshot, part, parts
from bot.model.groups import Standing, latest, meta_standing
from bot.model.snapshot import names

PEER_NEEDS: Final = NEEDS | {Endpoint.VARZ, Endpoint.ROUTEZ}
"""Routes show who runs, VARZ has the tags that placement asks for."""


def signs_of_life(snapshot: Snapshot, server: str, group: Standing, what: str) -> list[str]:
    """Reasons not to take a member for dead; `what` names the group."""
    reasons: list[str] = []
    if server == group.leader:
        reasons.append(f"{server} leads {what}.")
    elif server not in group.lost:
        why = group.lagging.get(server)
        said = f"counts it as {why}, which is not yet *lost*" if why else "counts it as current"
        reasons.append(f"{server} is alive for the leader of {what}, {group.leader}, who {said}.")
    if server in names(snapshot.servers) or latest(snapshot, server, Endpoint.JSZ) is not None:
        reasons.append(f"{server} answers: a live server is never removed.")
    seen: list[str] = []
    unread: list[str] = []
    for other in sorted(names(snapshot.servers) - {server}):
        routez = latest(snapshot, other, Endpoint.ROUTEZ)
        if routez is None:
            unread.append(other)
        elif any(row.get("remote_name") == server for row in parts(routez, "routes")):
            seen.append(other)
    if seen:
        reasons.append(f"{', '.join(seen)} has a route to {server}: it runs.")
    if unread or not names(snapshot.servers):
        reasons.append(f"Whether {', '.join(unread) or 'any server'} has a route to {server} could not be read.")
    return reasons


def spares(snapshot: Snapshot, stream: StreamFacts, gone: str) -> tuple[list[str], dict[str, str]]:
    """Return the servers that could take the place of `gone` in a stream, and why the others can't. As `selectPeerGroup` of nats-server chooses."""
    meta = meta_standing(snapshot)
    fit: list[str] = []
    unfit: dict[str, str] = {}
    for server in sorted((meta.members | names(snapshot.servers)) - stream.standing.members - {gone}):
        if why := _unfit(snapshot, stream, meta, server, gone):
            unfit[server] = why
        else:
            fit.append(server)
    return fit, unfit


def no_spare(snapshot: Snapshot, stream: StreamFacts, gone: str) -> list[str]:
    """Refuse where nobody could take the place of `gone`: before 2.15 the member is gone then although the request is refused (10075)."""
    fit, unfit = spares(snapshot, stream, gone)
    if fit:
        return []
    others = "; ".join(f"{server} {why}" for server, why in unfit.items())
    left = len(stream.standing.members) - 1
    why = others or "every server that is there holds it already"
    short = f"which would be left with {left} of {stream.standing.replicas} members"
    return [f"No spare server could take the place of {gone} in stream {stream.key}, {short}: {why}."]


def _unfit(snapshot: Snapshot, stream: StreamFacts, meta: Standing, server: str, gone: str) -> str:
    jsz = latest(snapshot, server, Endpoint.JSZ)
    if jsz is None:
        return "does not answer"
    if jsz.get("disabled") or server not in meta.members or server in meta.lagging:
        return "is no current member of the meta group"
    groups = 1 + sum(1 for views in stream.consumers.values() if len(views) > 1)
    if limit_reached(snapshot, server, groups):
        return f"has no room for {groups} more Raft groups"
    if why := _misplaced(snapshot, stream, server, gone):
        return why
    memory = stream.state.config.get("storage") == "memory"
    kind, most = ("memory", "max_memory") if memory else ("storage", "max_storage")
    limit = _int(part(jsz, "config").get(most))
    free = limit - max(_int(jsz.get(kind)), _int(jsz.get(f"reserved_{kind}")))
    needed = max(stream.state.stored.bytes, _int(stream.state.config.get("max_bytes")))
    return f"has {free} bytes of {kind} free, {needed} are needed" if limit > 0 and free < needed else ""


def _misplaced(snapshot: Snapshot, stream: StreamFacts, server: str, gone: str) -> str:
    """Why placement or `unique_tag` keep the stream off this server."""
    placement = part(stream.state.config, "placement")
    cluster = str(placement.get("cluster") or "")
    found = next((one.cluster for one in snapshot.servers if one.name == server), "")
    if cluster and found != cluster:
        return f"is in cluster {found or 'nobody knows'}, placement asks for {cluster}"
    own = _tags(snapshot, server)
    wanted = {str(tag).lower() for tag in _list(placement, "tags")}
    if lacking := sorted(wanted - own):
        return f"lacks the tag {', '.join(lacking)} that placement asks for"
    prefix = str(part(latest(snapshot, server, Endpoint.JSZ) or {}, "config").get("unique_tag") or "").lower()
    if prefix:
        values = {tag for tag in own if tag.startswith(prefix)}
        taken = set[str]().union(*(_tags(snapshot, one) for one in stream.standing.members - {gone}))
        if not values or values & taken:
            return f"shares {prefix} with a member, which unique_tag forbids"
    return ""


def _tags(snapshot: Snapshot, server: str) -> set[str]:
    return {str(tag).lower() for tag in _list(latest(snapshot, server, Endpoint.VARZ) or {}, "tags")}


def _list(raw: JsonObject, key: str) -> Sequence[Json]:
    value: Json = raw.get(key)
    return cast("list[Json]", value) if isinstance(value, list) else ()


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
