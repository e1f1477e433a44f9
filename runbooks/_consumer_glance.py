"""One glance at every consumer, for all checks: most are well, and these are only counted. Pure.

A cluster has thousands of consumers, so what a check asks of each is asked here, in one pass over a round, and only the consumers that the answer names
are looked at closely. A consumer that one server holds, on a stream that one server holds, has no other view to agree with; that is the short way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bot.model import ConsumerKey, ConsumerState, Snapshot, StreamKey, StreamState
from bot.model.assets import consumers_of
from bot.model.groups import declared_replicas, leads_alone, plainly_whole, stream_replicas

Holders = Mapping[str, StreamState]
"""A stream as each server that holds it sees it, by server name."""


@dataclass(slots=True)
class Glance:
    """What one pass over the consumers of a round shows."""

    count: int = 0
    doubtful: set[ConsumerKey] = field(default_factory=set[ConsumerKey])
    """Their group, or that of their stream, is not plainly whole."""
    apart: list[ConsumerKey] = field(default_factory=list[ConsumerKey])
    """Their views stand at different positions, or ahead of the stream."""
    pending: dict[ConsumerKey, int] = field(default_factory=dict[ConsumerKey, int])
    """How many messages wait, as the server says that sees most; of those where any wait."""

    def take(self, key: StreamKey, holders: Holders) -> None:
        """Look at the consumers of one stream."""
        if len(holders) == 1:
            [(server, stream)] = holders.items()
            if _is_plainly_single(stream, server):
                self._take_lone(key, server, stream)
                return
        replicas = _plain_replicas(holders)
        for name, views in consumers_of(holders).items():
            self.count += 1
            first = next(iter(views.values()))
            if replicas is None or not plainly_whole(views, declared_replicas(first, replicas)):
                self.doubtful.add(ConsumerKey(*key, name))
            if not _together(views, holders):
                self.apart.append(ConsumerKey(*key, name))
            if pending := max(view.num_pending for view in views.values()):
                self.pending[ConsumerKey(*key, name)] = pending

    def _take_lone(self, key: StreamKey, server: str, stream: StreamState) -> None:
        last = stream.last_seq
        for view in stream.consumers:
            self.count += 1
            if not leads_alone(server, view.group) or view.declared.num_replicas > 1:
                self.doubtful.add(ConsumerKey(*key, view.name))
            if view.delivered.stream_seq > last or view.floor.stream_seq > last:
                self.apart.append(ConsumerKey(*key, view.name))
            if view.num_pending:
                self.pending[ConsumerKey(*key, view.name)] = view.num_pending


def glance(snapshot: Snapshot, round: int) -> Glance:  # noqa: A002 - the field's word
    """Return the glance over all consumers of a round; it is taken once."""

    def look() -> Glance:
        found = Glance()
        for key, holders in snapshot.streams(round).items():
            found.take(key, holders)
        return found

    return snapshot.once(f"glance {round}", look)


def _is_plainly_single(stream: StreamState, server: str) -> bool:
    """True for a stream of one replica that leads itself here: what `_plain_replicas` says at more length."""
    declared = stream.declared
    return declared.num_replicas <= 1 and not declared.complaint and leads_alone(server, stream.group)


def _plain_replicas(holders: Holders) -> int | None:
    """Return the number of replicas of a stream whose group is plainly whole."""
    if next(iter(holders.values())).declared.complaint:
        return None
    replicas = stream_replicas(holders)
    return replicas if plainly_whole(holders, replicas) else None


def _together(views: Mapping[str, ConsumerState], holders: Holders) -> bool:
    """True for a consumer whose views agree and which is not ahead of its stream."""
    delivered = floor = None
    for server, view in views.items():
        last = holders[server].last_seq
        if view.delivered.stream_seq > last or view.floor.stream_seq > last:
            return False
        if delivered is None or floor is None:
            delivered, floor = view.delivered, view.floor
        elif (
            view.delivered.stream_seq != delivered.stream_seq
            or view.floor.stream_seq != floor.stream_seq
            or view.delivered.consumer_seq != delivered.consumer_seq
        ):
            return False
    return True
