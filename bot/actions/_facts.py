"""What consumer actions read: the stream and the consumer as their majority leaders report them, and what stands in the way of a change.

`Refused` says that the facts are there and forbid the change; its reasons become the refusals of a check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bot.errors import Refused, Unreachable
from bot.model import (
    Again,
    ConsumerKey,
    ConsumerState,
    Endpoint,
    Json,
    JsonObject,
    Snapshot,
    StreamKey,
    StreamState,
    World,
)
from bot.model.assets import consumers_of
from bot.model.groups import (
    Standing,
    config_digest,
    consumer_replicas,
    groups,
    ha_assets,
    latest,
    meta_standing,
    raft_group_of,
    raft_node,
    standing,
    stream_replicas,
)
from bot.model.kubernetes import ONLY_KUBERNETES
from bot.model.subjects import overlap
from bot.ports import Readers

NEEDS: Final = frozenset({Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})
"""What an action looks at: every member's own view, the servers' own complaints, and which Raft nodes exist."""

OWNER_MARKS: Final = ("jetstream.nats.io/", "app.kubernetes.io/managed-by", "meta.helm.sh/", "argocd.argoproj.io/")
"""Metadata keys of controllers that enforce their own configuration (reference/nats.md 4.5)."""

_NACK: Final = re.compile(r"\bNACK\b")
"""The JetStream controller's name, as people write it into a description."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream as the leader named by its members reports it."""

    key: StreamKey
    state: StreamState
    standing: Standing
    consumers: Mapping[str, Mapping[str, ConsumerState]]
    """Each consumer's views, by name."""

    @property
    def retention(self) -> str:
        return str(self.state.config.get("retention") or "limits")


@dataclass(frozen=True, slots=True)
class ConsumerFacts:
    """A consumer as the leader named by its members reports it."""

    key: ConsumerKey
    state: ConsumerState
    standing: Standing
    stream: StreamFacts

    @property
    def config(self) -> JsonObject:
        return self.state.config


async def look(
    readers: Readers,
    needs: frozenset[Endpoint] = NEEDS,
    again: Callable[[Snapshot], Again | None] | None = None,
) -> Snapshot:
    """Read every server once, or as often as `again` asks for. Raises `Unreachable`."""
    snapshot = await readers.gather(needs, again=again)
    if snapshot.via == ONLY_KUBERNETES:
        raise Unreachable(next((unknown.detail for unknown in snapshot.unknown), "no server answered"))
    return snapshot


def stream_facts(snapshot: Snapshot, key: StreamKey, at: int | None = None) -> StreamFacts:
    """Return the stream's facts of the last round, or of round `at`. Raises `Refused` where its members do not agree on them."""
    last = snapshot.rounds - 1 if at is None else at
    views = snapshot.streams(last).get(key) or {}
    if not views:
        raise Refused(f"No server that answered reports stream {key}.")
    found = standing(groups(views), stream_replicas(views))
    if found.leader is None:
        raise Refused(f"Stream {key} has {found.problem}.")
    return StreamFacts(key, views[found.leader], found, consumers_of(views))


def consumer_facts(snapshot: Snapshot, key: ConsumerKey) -> ConsumerFacts:
    """Return the consumer's facts of the last round. Raises `Refused` where its members do not agree on them."""
    stream = stream_facts(snapshot, key.stream_key)
    found = consumer_in(stream, key.consumer)
    if found is None:
        raise Refused(f"No server that answered reports consumer {key}.")
    if found.leader is None:
        raise Refused(f"Consumer {key} has {found.problem}.")
    return ConsumerFacts(key, stream.consumers[key.consumer][found.leader], found, stream)


def consumer_in(stream: StreamFacts, name: str) -> Standing | None:
    """Return how a consumer's group stands; None where no server reports the consumer."""
    views = stream.consumers.get(name)
    if not views:
        return None
    config = next(iter(views.values())).config
    return standing(groups(views), consumer_replicas(config, stream.standing.replicas))


def stream_world(stream: StreamFacts) -> World:
    """Facts of the stream whose drift voids an approval. What grows by itself (last_seq) is not among them."""
    return {
        "stream.created": stream.state.created,
        "stream.config": config_digest(stream.state.config),
        "stream.retention": stream.retention,
        "stream.leader": stream.standing.leader,
    }


def consumer_world(facts: ConsumerFacts) -> World:
    """Facts of stream and consumer whose drift voids an approval."""
    world = stream_world(facts.stream) | {
        "consumer.created": facts.state.created,
        "consumer.config": config_digest(facts.config),
        "consumer.leader": facts.standing.leader,
        "consumer.members": ", ".join(sorted(facts.standing.members)),
        "consumer.ack_floor": facts.state.floor_stream_seq,
        "consumer.delivered": facts.state.delivered_stream_seq,
        "consumer.ack_pending": facts.state.num_ack_pending,
    }
    if facts.stream.retention == "limits":
        # Old messages may go at any time; only the loss of one that is still to be delivered changes what was approved.
        world["stream.first_unprocessed_seq"] = max(facts.stream.state.first_seq, facts.state.floor_stream_seq + 1)
    return world


def settled_world(facts: ConsumerFacts) -> World:
    """`consumer_world` without the position: a change that keeps it stays right while the consumer works."""
    moving = {"consumer.ack_floor", "consumer.delivered", "consumer.ack_pending", "stream.first_unprocessed_seq"}
    return {k: v for k, v in consumer_world(facts).items() if k not in moving}


def guard(stream: StreamFacts, created: str, digest: str) -> list[str]:
    """Refuse another stream of the same name, and one whose configuration was edited."""
    if stream.state.created != created:
        return [f"Stream {stream.key} was created {stream.state.created}, not {created}: it is another stream."]
    if config_digest(stream.state.config) != digest:
        return [f"The configuration of stream {stream.key} was edited since."]
    return []


def cannot_write(snapshot: Snapshot, stream: StreamFacts) -> list[str]:
    """Reasons why no consumer of the stream can be created or deleted now: meta group and stream group."""
    meta = meta_standing(snapshot)
    reasons: list[str] = []
    if meta.leader is None:
        reasons.append(f"The meta group has {meta.problem}.")
    elif not meta.quorum:
        reasons.append(f"The meta group has no quorum: {meta.counted}.")
    if not stream.standing.quorum:
        reasons.append(f"Stream {stream.key} has no quorum: {stream.standing.counted}.")
    return reasons


def would_break_again(snapshot: Snapshot, facts: ConsumerFacts, extra: int) -> list[str]:
    """Reasons why a recreated consumer would come up broken: silent or unfit members, Raft groups at their limit.

    `extra` is how many further groups exist beside it for a while (a holder or a probe).
    """
    reasons: list[str] = []
    stream = facts.stream
    for server in sorted(stream.standing.members):
        if latest(snapshot, server, Endpoint.JSZ) is None:
            reasons.append(f"Server {server}, a member of stream {stream.key}, does not answer.")
        elif server in stream.standing.lost:
            reasons.append(
                f"Server {server} is not current for stream {stream.key}: {stream.standing.lagging[server]}."
            )
        elif (
            raft_node(snapshot, server, stream.key.account, stream.state.raft_group) is False
            and stream.standing.replicas > 1
        ):
            reasons.append(f"Server {server} has no Raft node for stream {stream.key} itself.")
    if stream.standing.ghosts:
        reasons.append(f"Stream {stream.key} has more than one leader: {', '.join(sorted(stream.standing.claimants))}.")
    if facts.standing.replicas > 1:
        views = stream.consumers[facts.key.consumer]
        for server in sorted(stream.standing.members):
            freed = raft_node(snapshot, server, facts.key.account, raft_group_of(views)) is True
            reasons += limit_reached(snapshot, server, 1 + extra - freed)
    return reasons


def limit_reached(snapshot: Snapshot, server: str, more: int) -> list[str]:
    """Refuse where the server's limit on Raft groups leaves no room for `more`."""
    assets = ha_assets(snapshot, server)
    if more < 1 or not assets.refuses(more):
        return []
    return [
        f"Server {server} runs {assets.count} Raft groups and its max_ha_assets is {assets.limit}: it refuses another one."
    ]


def untouchable(facts: ConsumerFacts) -> list[str]:
    """Reasons why natsmedic never deletes this consumer: what it is, and who has marked it as its own."""
    return irreplaceable(facts) + marked(facts.config)


def irreplaceable(facts: ConsumerFacts) -> list[str]:
    """Reasons why nobody should delete this consumer (reference/nats.md 1.E.1)."""
    config = facts.config
    reasons: list[str] = []
    if not config.get("durable_name"):
        reasons.append("It is ephemeral or ordered: its client makes a new one by itself.")
    if facts.key.stream.startswith("$MQTT_"):
        reasons.append("It belongs to an MQTT session, which breaks without it.")
    if config.get("direct") or config.get("sourcing") or config.get("ack_policy") == "flow_control":
        reasons.append("It feeds a mirror or a sourcing stream, which owns it.")
    return reasons


def marked(config: JsonObject) -> list[str]:
    """Refuse what a controller has marked as its own (reference/nats.md 4.5)."""
    if owner := owner_mark(config):
        return [f"It is owned by a controller ({owner}): change it there, or the controller works against the repair."]
    return []


def owner_mark(config: JsonObject) -> str:
    """Return the mark of a controller in metadata or description, empty where there is none."""
    metadata: JsonObject = config.get("metadata") or {}
    marked = next((key for key in metadata if key.lower().startswith(OWNER_MARKS)), "")
    return marked or ("NACK" if _NACK.search(str(config.get("description") or "")) else "")


def filters_of(config: JsonObject) -> tuple[str, ...]:
    """Return the subjects a consumer takes; everything where it has no filter."""
    many: list[Json] = config.get("filter_subjects") or []
    one = config.get("filter_subject")
    return tuple(str(s) for s in many) or ((str(one),) if one else (">",))


def rivals(stream: StreamFacts, consumer: str, config: JsonObject) -> list[str]:
    """Refuse on a work queue what the server refuses: a consumer whose subjects another one takes (10099, 10100)."""
    if stream.retention != "workqueue":
        return []
    own = filters_of(config)
    others = {name: next(iter(views.values())).config for name, views in stream.consumers.items() if name != consumer}
    found = sorted(name for name, other in others.items() if any(overlap(a, b) for a in own for b in filters_of(other)))
    return [f"Consumer {', '.join(found)} takes the same subjects of the work queue."] if found else []
