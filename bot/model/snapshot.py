"""Raw answers of one pass over a cluster, and typed views over them. Gathered once, judged offline.

A snapshot is the evidence: it is stored, attached to the thread, and every past incident is a test case. A fact that could not be read is an
`Unknown` with its reason, never an absent key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from bot.model.base import JsonObject, Record, SnapshotId
from bot.model.sample import Endpoint, Sample, Unknown
from bot.model.states import ConsumerKey, ConsumerState, StreamKey, StreamState
from bot.model.views import read_jsz


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
        """How many rounds were taken; the endpoints of `TRENDS` have a sample in each."""
        return 1 + max((s.round for s in self.samples), default=-1)

    @cached_property
    def _jsz(
        self,
    ) -> tuple[tuple[dict[StreamKey, dict[str, StreamState]], dict[ConsumerKey, dict[str, ConsumerState]]], ...]:
        return tuple(
            read_jsz([s for s in self.samples if s.endpoint is Endpoint.JSZ and s.round == n and s.data is not None])
            for n in range(self.rounds)
        )

    def streams(self, round: int = 0) -> Mapping[StreamKey, Mapping[str, StreamState]]:  # noqa: A002
        """Return each stream's state per server that reports it."""
        return self._jsz[round][0] if 0 <= round < len(self._jsz) else {}

    def consumers(self, round: int = 0) -> Mapping[ConsumerKey, Mapping[str, ConsumerState]]:  # noqa: A002
        """Return each consumer's state per server that reports it."""
        return self._jsz[round][1] if 0 <= round < len(self._jsz) else {}


class Focus(Record):
    """What an alert's labels point at: hints for what to look at first, never facts."""

    account: str | None = None
    stream: str | None = None
    consumer: str | None = None
    server: str | None = None


def names(servers: Sequence[ServerIdentity]) -> frozenset[str]:
    """Return the servers' names."""
    return frozenset(s.name for s in servers)
