"""Raw answers of one pass over a cluster, and typed views over them. Gathered once, judged offline.

A snapshot is the evidence: it is stored, attached to the thread, and every past incident is a test case. A fact that could not be read is an
`Unknown` with its reason, never an absent key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TypeVar, cast

from bot.model.assets import Consumers, Streams, all_consumers, streams_of
from bot.model.base import JsonObject, Record, SnapshotId
from bot.model.delivery import PairDelivery
from bot.model.kubernetes import KubernetesFacts
from bot.model.sample import Endpoint, Sample, Unknown
from bot.model.states import ConsumerKey, ConsumerState, StreamKey, StreamState

T = TypeVar("T")


class ServerIdentity(Record):
    """Who answered: server name, id, version, cluster name and host, from the `server` header of a `$SYS` reply or from VARZ."""

    name: str
    id: str
    version: str
    cluster: str = ""
    host: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything one pass read. `expected` names the servers known to exist (meta members, routes), answered or not."""

    id: SnapshotId
    cluster: str
    taken_at: datetime
    via: str
    """`system account`, `monitoring` or `archive`."""
    servers: tuple[ServerIdentity, ...]
    samples: tuple[Sample, ...]
    expected: frozenset[str] = frozenset()
    unknown: tuple[Unknown, ...] = ()
    """What could not be read about the whole cluster."""
    api: Mapping[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    """Answers of account-level API requests by subject, e.g. `APP:$JS.API.CONSUMER.LIST.ORDERS`."""
    deliveries: tuple[PairDelivery, ...] = ()
    """What a delivery probe saw; empty where none was asked for."""
    kubernetes: KubernetesFacts | None = None
    """The Kubernetes side; None where the cluster has no `kubernetes` settings."""

    def sample(self, server: str, endpoint: Endpoint, round: int = 0) -> Sample | None:  # noqa: A002 - the field's word
        """Return that server's answer, or None where it was not asked."""
        return self._by_key.get((server, endpoint, round))

    def data(self, server: str, endpoint: Endpoint, round: int = 0) -> JsonObject | None:  # noqa: A002
        """Return the raw answer, or None where it is unknown or was not asked."""
        found = self.sample(server, endpoint, round)
        return found.data if found else None

    @cached_property
    def _by_key(self) -> dict[tuple[str, Endpoint, int], Sample]:
        return {(s.server, s.endpoint, s.round): s for s in self.samples}

    @cached_property
    def rounds(self) -> int:
        """How many rounds of JSZ there are: how often streams, consumers and the meta group were looked at."""
        return self.readings(Endpoint.JSZ)

    def readings(self, endpoint: Endpoint) -> int:
        """Return how often an endpoint was read; 1 where nothing called for a second look, 0 where it was not asked for at all."""
        return 1 + max((s.round for s in self.samples if s.endpoint is endpoint), default=-1)

    def complaints(self, round: int = 0) -> Sequence[tuple[str, str]]:  # noqa: A002
        """Return the fields of streams and consumers that are not what they must be, each with its server."""
        answers = (s for s in self.samples if s.endpoint is Endpoint.JSZ and s.round == round and s.assets is not None)
        return [(s.server, complaint) for s in answers if s.assets for complaint in s.assets.complaints]

    def mentions(self, text: str) -> bool:
        """Tell whether this text stands anywhere in what the last look says about streams and consumers: much cheaper than looking at each."""
        last = self.rounds - 1
        return self.once(
            f"mentions {text}",
            lambda: any(s.assets is not None and s.assets.mentions(text) for s in self.samples if s.round == last),
        )

    @cached_property
    def _streams(self) -> tuple[Streams, ...]:
        answers = [s for s in self.samples if s.endpoint is Endpoint.JSZ and s.assets is not None]
        return tuple(
            streams_of((s.server, s.assets) for s in answers if s.round == n and s.assets) for n in range(self.rounds)
        )

    @cached_property
    def _consumers(self) -> tuple[Consumers, ...]:
        return tuple(all_consumers(streams) for streams in self._streams)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` returns, made at its first call only: a view that many checks share. `name` says what it is a view of, arguments included."""
        if name not in self._made:
            self._made[name] = make()
        return cast("T", self._made[name])

    @cached_property
    def _made(self) -> dict[str, object]:
        return {}

    def streams(self, round: int = 0) -> Mapping[StreamKey, Mapping[str, StreamState]]:  # noqa: A002
        """Return each stream's state per server that reports it."""
        return self._streams[round] if 0 <= round < self.rounds else {}

    def consumers(self, round: int = 0) -> Mapping[ConsumerKey, Mapping[str, ConsumerState]]:  # noqa: A002
        """Return each consumer's state per server that reports it."""
        return self._consumers[round] if 0 <= round < self.rounds else {}


class Focus(Record):
    """What an alert's labels point at: hints for what to look at first, never facts."""

    account: str | None = None
    stream: str | None = None
    consumer: str | None = None
    server: str | None = None
    subject: str | None = None
    """A pattern of NATS subjects."""


def names(servers: Sequence[ServerIdentity]) -> frozenset[str]:
    """Return the servers' names."""
    return frozenset(s.name for s in servers)
