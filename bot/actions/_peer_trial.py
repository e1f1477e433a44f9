"""The trial stream that shows, before a stream is scaled, whether the servers that may hold it can make a replicated group at all. Pure.

A server whose disk takes no new directory goes on with what it has, and no health check says a word (reference/drills.md 3.5). Only a group made there tells:
it needs a directory of its Raft log, a block file of that log on every member, and a stream directory. So the trial needs no message and no consumer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bot.action import RECEIPT_KEY
from bot.actions._facts import StreamFacts, stream_facts
from bot.actions._scale_facts import MOST_REPLICAS, ScaleParams, candidates
from bot.errors import Refused
from bot.model import TRIAL_STREAM, Endpoint, Json, JsonObject, OperationId, Record, Snapshot, StreamKey, part, parts
from bot.model.groups import health_errors, latest, raft_node
from bot.model.states import StreamState
from bot.model.subjects import overlap

MARK: Final = "natsmedic.trial"
"""Metadata key of a trial stream; its value ties it to one proposal's facts."""

TRIAL_BYTES: Final = 65_536
"""`max_bytes` of the trial stream. Nobody publishes to it; it is what a server may reserve for it."""

DISK_WORDS: Final = ("write error", "could not create", "storage directory", "no space", "read-only", "permission")
"""What HEALTHZ says of a disk that fails: `node write error`, `JetStream meta layer write error` (2.14.0), a `stream assignment error` with the text of the
operating system (2.12.9, 2.14.1; seen on 2.15.1). Reference/nats.md 1.0."""


class TrialParams(Record):
    """Where the trial is made, and for what."""

    account: str
    mark: str
    """Of this very trial: the stage that takes it away deletes no other."""
    placement: JsonObject
    storage: str
    servers: tuple[str, ...]
    """All that may hold the stream after the change."""
    replicas: int
    scale: ScaleParams
    """The first change of replicas that follows; whatever speaks against it speaks against the trial."""

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.account, TRIAL_STREAM)


class TrialEndParams(Record):
    """The trial that is taken away."""

    account: str
    mark: str

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.account, TRIAL_STREAM)


def holders(snapshot: Snapshot, stream: StreamFacts) -> tuple[str, ...]:
    """Return the servers that have the stream or may get it."""
    return tuple(sorted({*candidates(snapshot, stream), *stream.standing.members}))


def replicas_for(snapshot: Snapshot, servers: Sequence[str]) -> int:
    """Return how many of the servers one group can be on: five at most, and one for each value of `unique_tag` where servers have that setting."""
    zones: set[str] = set()
    for server in servers:
        prefix = part(latest(snapshot, server, Endpoint.JSZ) or {}, "config").get("unique_tag")
        tags: list[Json] = (latest(snapshot, server, Endpoint.VARZ) or {}).get("tags") or []
        own = [str(tag) for tag in tags if isinstance(prefix, str) and prefix and str(tag).startswith(prefix.lower())]
        zones.add(own[0] if own else server)
    return min(len(zones), MOST_REPLICAS)


def placement_of(snapshot: Snapshot, stream: StreamFacts) -> JsonObject:
    """Return the stream's own placement, with the cluster named: without a name the trial would go to the cluster that is asked."""
    own = part(stream.state.config, "placement")
    home = next((s.cluster for s in snapshot.servers if s.name == stream.standing.leader), "")
    cluster: JsonObject = {"cluster": home} if home and not own.get("cluster") else {}
    return {k: own[k] for k in ("cluster", "tags") if own.get(k)} | cluster


def occupied(snapshot: Snapshot, account: str) -> str:
    """Say which stream of the account takes the trial's subject already, so that no trial can be made (10065); empty where none does."""
    for key, views in sorted(snapshot.streams(snapshot.rounds - 1).items()):
        if key.account != account or key.stream == TRIAL_STREAM:
            continue
        subjects = next(iter(views.values())).subjects
        if taken := [one for one in subjects if overlap(one, TRIAL_STREAM)]:
            return f"stream {key.stream} takes {', '.join(taken)}"
    return ""


def config_of(params: TrialParams, operation: OperationId, replicas: int) -> JsonObject:
    """Return the complete configuration of the trial stream but for its name. Nothing can be stored in it that would last."""
    return {
        "description": "natsmedic: a trial before a change of replicas; it is deleted at once",
        "subjects": [TRIAL_STREAM],
        "retention": "limits",
        "discard": "old",
        "storage": params.storage,
        "num_replicas": replicas,
        "max_msgs": 1,
        "max_bytes": TRIAL_BYTES,
        "placement": params.placement,
        "metadata": {MARK: params.mark, RECEIPT_KEY: operation},
    }


def mark_of(config: JsonObject) -> str:
    """Return the mark of a trial stream; empty where somebody else made the stream."""
    return str(part(config, "metadata").get(MARK) or "")


def passive_signs(snapshot: Snapshot, servers: Sequence[str]) -> list[str]:
    """Say what the servers themselves already tell of a disk that fails, or of JetStream that is off. It costs nothing, so it comes first."""
    told: list[str] = []
    for server in servers:
        jsz = latest(snapshot, server, Endpoint.JSZ)
        if jsz is None or jsz.get("disabled") or not part(jsz, "config").get("store_dir"):
            told.append(f"JetStream of {server} is off, or does not tell where it stores.")
        healthz = latest(snapshot, server, Endpoint.HEALTHZ) or {}
        errors = [str(error.get("error") or "") for error in parts(healthz, "errors")] + [
            str(healthz.get("error") or "")
        ]
        sick = [error for error in errors if any(word in error.lower() for word in DISK_WORDS)]
        told += [f"The disk of {server} fails: {error}." for error in sick[:1]]
    return told


def trial_problems(snapshot: Snapshot, params: TrialParams) -> list[str]:
    """Say which server did not make its part of the trial stream, and what it says itself; empty where all did and follow."""
    views = snapshot.streams(snapshot.rounds - 1).get(params.key) or {}
    wanted = expected(views, params)
    if problems := [said for server in wanted if (said := _problem(snapshot, params, server))]:
        return problems
    try:
        found = stream_facts(snapshot, params.key).standing
    except Refused as refused:
        return list(refused.reasons)
    if found.replicas != params.replicas or not found.whole:
        return [f"The trial stream is not whole: {found.counted}; {params.replicas} members were asked for."]
    return []


def expected(views: Mapping[str, StreamState], params: TrialParams) -> list[str]:
    """Return the servers that must have the trial stream: all of them, or where it has fewer members those that the members name."""
    if len(params.servers) == params.replicas:
        return list(params.servers)
    named = {name for view in views.values() if view.group for name in view.group.members}
    return sorted(named | set(views))


def _problem(snapshot: Snapshot, params: TrialParams, server: str) -> str:
    views = snapshot.streams(snapshot.rounds - 1).get(params.key) or {}
    said = health_errors(snapshot, server).get(params.key, "")
    says = f" It says: {said}." if said else ""
    view = views.get(server)
    if view is None:
        return f"{server} could not make the trial stream: it does not report it.{says}"
    if params.replicas > 1 and raft_node(snapshot, server, params.account, view.raft_group) is False:
        return f"{server} could not make the Raft group of the trial stream.{says}"
    return ""
