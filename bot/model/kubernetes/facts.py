"""Everything one pass read of the Kubernetes side of a NATS cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from bot.model.base import JsonObject
from bot.model.kubernetes.cluster import ConsumerResource, StreamResource
from bot.model.kubernetes.listing import ConfigFile, Kind, Listing
from bot.model.kubernetes.workload import Workload
from bot.model.sample import Unknown, UnknownReason

ONLY_KUBERNETES: Final = "kubernetes"
"""`Snapshot.via` where no server of NATS answered and Kubernetes did."""


@dataclass(frozen=True)
class KubernetesFacts:
    """Raw objects without their secrets, and typed views over them. What could not be read is `Unknown`, with the verb and the resource that are missing.

    `facts.workload` is where to begin: `facts.workload.nats.readiness.path`, `facts.workload.pods`, `facts.workload.conf.cluster.routes`.
    """

    namespace: str
    taken_at: datetime
    listings: tuple[Listing, ...]
    config_files: tuple[ConfigFile, ...] = ()
    version: str = ""
    """Of the API server, e.g. `v1.29.4`; empty where it is not known."""

    def listing(self, kind: Kind) -> Listing | None:
        """Return the question about a kind with its answer; None where it was not asked."""
        return self._by_kind.get(kind)

    def of(self, kind: Kind) -> tuple[JsonObject, ...] | Unknown:
        """Return all objects of a kind that were read, or why they are not known."""
        found = self.listing(kind)
        if found is None or found.items is None:
            absent = Unknown(reason=UnknownReason.UNREADABLE, detail=f"{kind} of {self.namespace} were not read")
            return found.unknown or absent if found else absent
        return found.items

    @cached_property
    def _by_kind(self) -> Mapping[Kind, Listing]:
        return {listing.kind: listing for listing in self.listings}

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """Everything that could not be read."""
        return tuple(dict.fromkeys(self._unknown()))

    def _unknown(self) -> Iterator[Unknown]:
        for listing in self.listings:
            if listing.unknown is not None:
                yield listing.unknown
        for file in self.config_files:
            if file.unknown is not None:
                yield file.unknown

    @cached_property
    def workloads(self) -> tuple[Workload, ...] | Unknown:
        """The StatefulSets of this NATS cluster; empty where there is none."""
        found = self.of(Kind.STATEFUL_SET)
        return found if isinstance(found, Unknown) else tuple(Workload(raw, self) for raw in found)

    @cached_property
    def workload(self) -> Workload | Unknown:
        """The one StatefulSet of this NATS cluster; unknown where there is none or more than one."""
        found = self.workloads
        if isinstance(found, Unknown):
            return found
        if len(found) == 1:
            return found[0]
        names = ", ".join(workload.name for workload in found) or "none"
        return Unknown(
            reason=UnknownReason.NOT_CONFIGURED,
            detail=f"namespace {self.namespace} must have one StatefulSet of this NATS cluster and has {names}: name it in kubernetes.statefulset",
        )

    @property
    def stream_resources(self) -> tuple[StreamResource, ...] | Unknown:
        """NACK's Streams of all namespaces; empty where NACK is not installed."""
        found = self.of(Kind.STREAM)
        return found if isinstance(found, Unknown) else tuple(map(StreamResource, found))

    @property
    def consumer_resources(self) -> tuple[ConsumerResource, ...] | Unknown:
        """NACK's Consumers of all namespaces; empty where NACK is not installed."""
        found = self.of(Kind.CONSUMER)
        return found if isinstance(found, Unknown) else tuple(map(ConsumerResource, found))
