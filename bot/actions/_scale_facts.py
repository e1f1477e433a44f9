"""What speaks for and against a change of a stream's replicas: its group, the servers that could join, versions, and who else works on it. Pure.

The list is that of reference/nats.md 1.E, each reason with the numbers that were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from bot.action import RECEIPT_KEY, Comparing, Paced
from bot.actions._facts import StreamFacts, consumer_in, owner_mark
from bot.actions._owners import stream_kept
from bot.actions._stream_copy import changed_fields, named
from bot.errors import Refused
from bot.model import ConsumerKey, ConsumerState, Endpoint, Json, JsonObject, Snapshot, StreamKey, StreamState, part
from bot.model.groups import Standing, consumer_replicas, ha_assets, health_errors, latest, meta_standing, raft_node
from bot.model.versions import Version, has

YOUNG: Final = 15.0
"""Seconds after a server's start, or before its restart, in which replicas must not change: an empty member may begin a new history (drills.md 3.2)."""

MOST_REPLICAS: Final = 5
"""StreamMaxReplicas of nats-server (err 10052, reference/nats.md 0.1)."""

SAFE_SCALE_DOWN: Final[tuple[Version, ...]] = ((2, 12, 10), (2, 14, 2))
"""First versions of their lines that keep the leader and prefer live peers when they scale down (nats-server #8253)."""

OWN_FIELDS: Final = frozenset({"num_replicas", f"metadata.{RECEIPT_KEY}"})
"""What a stage changes; everything else belongs to others."""


class ScaleParams(Paced, Comparing):
    """One stage. `settle` and `patience` are seconds, as everywhere; numbers of what is stored are those of the proposal."""

    account: str
    stream: str
    stream_created: str
    config: JsonObject
    """The complete raw configuration that the proposal was made for."""
    start: int
    """Replicas before this stage."""
    to: int
    target: int
    """Replicas after the last stage of this stream."""
    messages: int = 0
    bytes: int = 0
    consumers: int = 0
    young: float = YOUNG
    beside: str = ""
    """The resource of NACK that keeps the stream and is left as it is, `Stream NAMESPACE/NAME`; empty where none is known, and then one that turns up refuses."""

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.account, self.stream)

    @property
    def up(self) -> bool:
        return self.to > self.start


def hindrances(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> list[str]:
    """Reasons why this stage must not run now; none where it may."""
    reasons = [
        *moved(stream.state.config, stream.state.created, params),
        *_counts(params),
        *cluster_hindrances(snapshot, params.young),
    ]
    if owner := owner_mark(stream.state.config):
        reasons.append(
            f"Stream {stream.key} is owned by a controller ({owner}): change it there, or the controller changes it back."
        )
    reasons += stream_kept(snapshot, stream.key, params.beside)
    reasons += group_problems(snapshot, stream) + consumer_problems(snapshot, stream)
    reasons += _new_consumers(snapshot, stream, params)
    reasons += _joining(snapshot, stream, params) if params.up else []
    return list(dict.fromkeys(reasons))


def cluster_hindrances(snapshot: Snapshot, young: float) -> list[str]:
    """Reasons that hold for every stream of the cluster. `young` are the seconds that every server must have been up."""
    return [*_versions(snapshot), *_meta(snapshot), *_young(snapshot, young)]


def moved(config: JsonObject, created: str, params: ScaleParams) -> list[str]:
    """Say what somebody else changed of the stream since the proposal; the receipt and the server's own metadata do not count."""
    if created != params.stream_created:
        return [f"Stream {params.key} was created {created}, not {params.stream_created}: it is another stream."]
    reasons: list[str] = []
    if fields := changed_fields(params.config, config, OWN_FIELDS):
        reasons.append(f"Stream {params.key} was edited since by somebody else: {', '.join(fields)}.")
    if (replicas := replicas_in(config)) != params.start:
        reasons.append(f"Stream {params.key} has {replicas} replicas, this stage begins at {params.start}.")
    return reasons


def replicas_in(config: JsonObject) -> int:
    """Return what a configuration asks for; a missing number is one replica."""
    value: Json = config.get("num_replicas")
    return value if isinstance(value, int) and value > 0 else 1


def group_problems(snapshot: Snapshot, stream: StreamFacts) -> list[str]:
    """Say what the stream's group lacks: members, one leader, everything the leader has, their Raft nodes."""
    views = snapshot.streams(snapshot.rounds - 1).get(stream.key) or {}
    if stream.state.group is None:
        # A server that has just got a cluster deletes such a stream 30 s after its start (reference/nats.md 0, fact 7).
        return [f"Stream {stream.key} is outside of the cluster on {stream.state.server}."]
    problems = _whole(f"Stream {stream.key}", stream.standing, set(views))
    problems += _behind(snapshot, stream)
    if stream.standing.replicas > 1:
        lacking = [
            server
            for server in sorted(stream.standing.members)
            if raft_node(snapshot, server, stream.key.account, stream.state.raft_group) is False
        ]
        problems += [f"{server} has no Raft node for stream {stream.key}." for server in lacking]
    return problems


def consumer_problems(snapshot: Snapshot, stream: StreamFacts) -> list[str]:
    """Say the same of its consumers: one whose members do not agree has no position that could be kept."""
    problems: list[str] = []
    for name, views in sorted(stream.consumers.items()):
        key = ConsumerKey(stream.key.account, stream.key.stream, name)
        found = consumer_in(stream, name)
        if found is None or found.leader is None:
            problems.append(f"Consumer {key} has {found.problem if found else 'no view'}.")
            continue
        problems += _whole(f"Consumer {key}", found, set(views))
        problems += _consumer_behind(snapshot, key, views, found)
    return problems


def no_way_down(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> list[str]:
    """Reasons why the former number of replicas could cost the copy that counts: no majority, or a server that may keep a member that is away."""
    if not stream.standing.quorum:
        counted = stream.standing.counted
        return [f"Stream {stream.key} has no quorum ({counted}), so which copy would be kept is not certain."]
    away = sorted(stream.standing.lagging)
    if not params.up or not away or all(has(server.version, SAFE_SCALE_DOWN) for server in snapshot.servers):
        return []
    why = "before 2.12.10 and 2.14.2 a server may keep such a member and drop a good one when it scales down (nats-server #8253)"
    return [f"{', '.join(away)} is not current for stream {stream.key}, and {why}."]


def candidates(snapshot: Snapshot, stream: StreamFacts) -> list[str]:
    """Return the servers that the meta leader may choose as new members: of the stream's cluster, with the tags it asks for."""
    placement = part(stream.state.config, "placement")
    wanted: list[Json] = placement.get("tags") or []
    home = next((s.cluster for s in snapshot.servers if s.name == stream.standing.leader), "")
    home = str(placement.get("cluster") or home)
    found: list[str] = []
    for server in snapshot.servers:
        tags: list[Json] = (latest(snapshot, server.name, Endpoint.VARZ) or {}).get("tags") or []
        fits = {str(tag).lower() for tag in wanted} <= {str(tag).lower() for tag in tags}
        if (
            server.cluster == home
            and server.name not in stream.standing.members
            and fits
            and _has_jetstream(snapshot, server.name)
        ):
            found.append(server.name)
    return sorted(found)


def _joining(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> list[str]:
    """The meta leader chooses by numbers that are seconds old and does not count consumers (drills.md 3.3), so every server it may choose must be fit."""
    spare, more = candidates(snapshot, stream), params.to - len(stream.standing.members)
    reasons: list[str] = []
    if len(spare) < more:
        tags: list[Json] = part(stream.state.config, "placement").get("tags") or []
        asked = f" with the tags {', '.join(map(str, tags))}" if tags else ""
        reasons.append(
            f"{params.to} replicas need {more} more servers{asked}; there are {len(spare)}{': ' if spare else ''}{', '.join(spare)}."
        )
    groups = 1 + sum(
        consumer_replicas(next(iter(views.values())).config, params.to) > 1 for views in stream.consumers.values()
    )
    for server in [*spare, *(sorted(stream.standing.members) if params.start == 1 else ())]:
        assets = ha_assets(snapshot, server)
        if assets.refuses(groups):
            reasons.append(
                f"Server {server} runs {assets.count} Raft groups and its max_ha_assets is {assets.limit}: it has no room for the "
                f"{groups} that stream and consumers need."
            )
    for server in spare:
        reasons += _no_room(snapshot, server, stream.state)
        reasons += [
            f"Server {server} is not well: {error}." for error in list(health_errors(snapshot, server).values())[:1]
        ]
    return reasons


def _no_room(snapshot: Snapshot, server: str, state: StreamState) -> list[str]:
    """Refuse where the server's store could not take the stream: what it holds, or what it reserves."""
    jsz = latest(snapshot, server, Endpoint.JSZ) or {}
    kind = "memory" if state.config.get("storage") == "memory" else "storage"
    limit, used = part(jsz, "config").get(f"max_{kind}"), jsz.get(kind, 0)
    reserved = jsz.get(f"reserved_{kind}", 0)
    if not isinstance(limit, int) or not isinstance(used, int) or not isinstance(reserved, int):
        return [f"How much {kind} server {server} has left is not known."]
    needed = max(state.stored.bytes, state.limits.max_bytes if state.limits else 0)
    free = limit - max(used, reserved)
    return (
        [f"Server {server} has {max(free, 0)} bytes of {kind} left, the stream needs {needed}."]
        if free < needed
        else []
    )


def _has_jetstream(snapshot: Snapshot, server: str) -> bool:
    jsz = latest(snapshot, server, Endpoint.JSZ)
    return jsz is not None and not jsz.get("disabled") and bool(part(jsz, "config"))


def _counts(params: ScaleParams) -> Iterable[str]:
    if not 1 <= params.to <= MOST_REPLICAS:
        yield f"A stream has 1 to {MOST_REPLICAS} replicas, not {params.to}."
    if params.target % 2 == 0:
        yield f"{params.target} replicas survive no more lost servers than {params.target - 1}."
    if params.to == params.start:
        yield f"Stream {params.key} has {params.to} replicas already."


def _versions(snapshot: Snapshot) -> Iterable[str]:
    """One version. Which one it is decides on the stages: what servers before 2.11.4 do while the holder is away (nats-server #6856) is refused anyway."""
    if len(found := sorted({server.version for server in snapshot.servers})) > 1:
        yield f"The servers run {', '.join(found)}: finish the upgrade first."


def _meta(snapshot: Snapshot) -> Iterable[str]:
    meta = meta_standing(snapshot)
    if meta.leader is None:
        yield f"The meta group has {meta.problem}."
    elif not meta.whole:
        yield f"The meta group is not whole: {meta.counted}."
    silent = sorted(name for name in meta.members if latest(snapshot, name, Endpoint.JSZ) is None)
    if silent:
        yield f"{', '.join(silent)} did not answer."


def _young(snapshot: Snapshot, young: float) -> list[str]:
    """Every server must have been up for a while, and say so."""
    reasons: list[str] = []
    for server in snapshot.servers:
        varz = latest(snapshot, server.name, Endpoint.VARZ) or {}
        if (age := _seconds(varz.get("start"), varz.get("now"))) is None:
            reasons.append(f"When server {server.name} started is not known.")
            continue
        if age < young:
            reasons.append(
                f"Server {server.name} started {age:.0f} s ago, and replicas must not change within {young:.0f} s of a restart."
            )
    return reasons


def _new_consumers(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> list[str]:
    """A member that can't make a Raft group answers with an error, and the meta leader deletes a consumer that it takes for just being created: one of up
    to 2 s on 2.10.26 and 2.11.2 (tests/integration/test_stream_scaling.py). An older one survives.
    """
    now = (latest(snapshot, stream.standing.leader or "", Endpoint.JSZ) or {}).get("now")
    shared = {
        name: next(iter(views.values()))
        for name, views in sorted(stream.consumers.items())
        if consumer_replicas(next(iter(views.values())).config, params.to) > 1
    }
    ages = {name: _seconds(state.created, now) for name, state in shared.items()}
    fresh = [name for name, age in ages.items() if age is None or age < params.young]
    if not fresh:
        return []
    return [
        f"When {named(fresh)} of stream {stream.key} was created is less than {params.young:.0f} s ago, or not known: it must settle first."
    ]


def _whole(what: str, found: Standing, seen: set[str]) -> list[str]:
    """Members of one opinion, as many as asked for, each of which reports it. Those that lag are judged by what they hold."""
    problems: list[str] = []
    if len(found.members) != found.replicas:
        problems.append(f"{what} has {len(found.members)} members, its configuration asks for {found.replicas}.")
    if found.ghosts:
        problems.append(f"{what} has more than one leader: {', '.join(sorted(found.claimants))}.")
    if absent := sorted(found.members - seen):
        problems.append(f"{', '.join(absent)} does not report {what[0].lower()}{what[1:]}.")
    if others := sorted((seen & found.members) - found.voters):
        problems.append(f"{', '.join(others)} does not name {found.leader} as leader of {what[0].lower()}{what[1:]}.")
    return problems


def _behind(snapshot: Snapshot, stream: StreamFacts) -> list[str]:
    """A busy group's members lag at any moment: one that has by now what the leader had a look ago keeps up."""
    last = snapshot.rounds - 1
    earlier = (snapshot.streams(last - 1).get(stream.key) or {}).get(stream.standing.leader or "")
    now = snapshot.streams(last).get(stream.key) or {}
    keeps_up = {server for server, view in now.items() if earlier is not None and view.last_seq >= earlier.last_seq}
    return _late(f"stream {stream.key}", stream.state, stream.standing, keeps_up)


def _consumer_behind(
    snapshot: Snapshot, key: ConsumerKey, views: Mapping[str, ConsumerState], found: Standing
) -> list[str]:
    last = snapshot.rounds - 1
    earlier = (snapshot.consumers(last - 1).get(key) or {}).get(found.leader or "")
    keeps_up = {server for server, view in views.items() if earlier is not None and _place(view) >= _place(earlier)}
    return _late(f"consumer {key}", views[found.leader or ""], found, keeps_up)


def _late(what: str, state: StreamState | ConsumerState, found: Standing, keeps_up: set[str]) -> list[str]:
    late = {
        peer.name: found.lagging.get(peer.name) or f"{peer.lag} operations behind"
        for peer in (state.group.peers if state.group else ())
        if (peer.lag or peer.name in found.lagging) and (peer.name in found.lost or peer.name not in keeps_up)
    }
    if not late:
        return []
    told = ", ".join(f"{name} {why}" for name, why in sorted(late.items()))
    return [f"{len(found.members) - len(late)} of {found.replicas} members of {what} are current ({told})."]


def _place(state: ConsumerState) -> tuple[int, int]:
    return state.delivered_stream_seq, state.floor_stream_seq


def _seconds(start: Json, end: Json) -> float | None:
    """Return the seconds between two moments as servers write them; None where one is none."""
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None


def desired(info: JsonObject) -> str:
    """Return the server's own words on a change of members that it has under way (2.15); empty where there is none."""
    wanted = part(part(info, "cluster"), "desired")
    if not wanted:
        return ""
    status = part(wanted, "status")
    return str(status.get("err") or status.get("description") or "it has just begun")


def leads(stream: StreamFacts, info: JsonObject | None) -> list[str]:
    """The leader that the members name must be the one that answers for the stream: alive, and able to take an update."""
    if info is None:
        raise Refused(f"There is no stream {stream.key}.")
    answered = str(part(info, "cluster").get("leader") or "nobody")
    if answered != stream.standing.leader:
        return [f"{answered} answers as leader of stream {stream.key}, its members name {stream.standing.leader}."]
    return []
