"""Makes a snapshot of the samples that a collector took, with an unknown for every fact that an expected server owes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bot.adapters.nats.facts import named_in_jsz, named_in_routez
from bot.model import TRENDS, Again, Endpoint, Sample, ServerIdentity, Snapshot, SnapshotId, Unknown, new_id

Judge = Callable[[Snapshot], Again | None]
"""Says after the first look what must be looked at again; `None` asks for nothing."""

_PLACE: Final = {endpoint: place for place, endpoint in enumerate(Endpoint)}

ONCE = Again(frozenset(), 1, 0.0)


@dataclass
class Taken:
    """What one pass has taken so far. `missing` explains a server that gave no sign of life."""

    cluster: str
    via: str
    at: datetime
    needs: frozenset[Endpoint]
    again: Again = ONCE
    """What the rounds after the first one read."""
    identities: dict[str, ServerIdentity] = field(default_factory=dict[str, ServerIdentity])
    samples: dict[tuple[str, Endpoint, int], Sample] = field(default_factory=dict[tuple[str, Endpoint, int], Sample])
    named: set[str] = field(default_factory=set[str])
    unknown: list[Unknown] = field(default_factory=list[Unknown])

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep samples; a later one of the same server, endpoint and round replaces an earlier one."""
        for sample in samples:
            self.samples[(sample.server, sample.endpoint, sample.round)] = sample

    def rounds_of(self, endpoint: Endpoint) -> range:
        """Return the rounds in which this endpoint is read."""
        return range(self.again.rounds if endpoint in self.again.endpoints else 1)

    async def look_again(self, judge: Judge | None, first: Snapshot) -> range:
        """Let `judge` decide on the first look, on a thread because that may take long, and return the rounds that follow."""
        wanted = None if judge is None else await asyncio.to_thread(judge, first)
        if wanted is not None and wanted.endpoints & self.needs & TRENDS:
            self.again = wanted._replace(endpoints=wanted.endpoints & self.needs & TRENDS)
        return range(1, self.again.rounds)

    def expected(self) -> frozenset[str]:
        """Return the servers known to exist: those that answered, those that a route leads to, and those that the meta group or the group of a
        stream or consumer names as leader or replica.
        """
        names = set(self.identities) | self.named
        for sample in self.samples.values():
            if sample.data is not None and sample.endpoint is Endpoint.JSZ:
                names |= named_in_jsz(sample.data, sample.assets)
            elif sample.data is not None and sample.endpoint is Endpoint.ROUTEZ:
                names |= named_in_routez(sample.data)
        return frozenset(names)

    def snapshot(self, missing: Unknown) -> Snapshot:
        """Return the snapshot; every needed sample that an expected server owes is there, as `missing` where nothing else is known."""
        expected = self.expected()
        for server in expected:
            for endpoint in self.needs:
                for round_ in self.rounds_of(endpoint):
                    key = (server, endpoint, round_)
                    self.samples.setdefault(key, Sample(server, endpoint, self.at, unknown=missing, round=round_))
        return Snapshot(
            id=SnapshotId(new_id("snap")),
            cluster=self.cluster,
            taken_at=self.at,
            via=self.via,
            servers=tuple(self.identities[name] for name in sorted(self.identities)),
            samples=tuple(self._ordered()),
            expected=expected,
            unknown=tuple(self.unknown),
        )

    def _ordered(self) -> Sequence[Sample]:
        return sorted(self.samples.values(), key=lambda s: (s.round, s.server, _PLACE[s.endpoint]))
