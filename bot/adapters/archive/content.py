"""A snapshot as one JSON document, without its secrets: what the digest covers and what reading an archive must give back."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter

from bot.adapters.archive.redaction import redact
from bot.model import (
    Endpoint,
    JsonObject,
    KubernetesFacts,
    Moment,
    PairDelivery,
    Record,
    Sample,
    ServerIdentity,
    Snapshot,
    SnapshotId,
    Unknown,
    digest,
)
from bot.model.kubernetes import ConfigFile, Listing


class SampleEntry(Record):
    """One sample. Its data is either here, or in the archive's files at `paths` (their `data` objects merged in order)."""

    server: str
    endpoint: Endpoint
    taken_at: Moment
    round: int = 0
    data: JsonObject | None = None
    unknown: Unknown | None = None
    paths: tuple[str, ...] = ()


class KubernetesEntry(Record):
    """The Kubernetes side; a file of its own in the archive."""

    namespace: str
    taken_at: Moment
    version: str
    listings: tuple[Listing, ...]
    config_files: tuple[ConfigFile, ...]


class Content(Record):
    """Everything of a snapshot; `format` grows when older readers can't read it."""

    format: int
    id: str
    cluster: str
    taken_at: Moment
    via: str
    servers: tuple[ServerIdentity, ...]
    expected: tuple[str, ...]
    unknown: tuple[Unknown, ...]
    api: dict[str, JsonObject]
    samples: tuple[SampleEntry, ...]
    deliveries: tuple[PairDelivery, ...] = ()
    """Written to a file of its own, and only where a probe was asked for: a reader that does not know it reads the rest."""
    kubernetes: KubernetesEntry | None = None

    def document(self) -> JsonObject:
        """Return it as JSON. What a cluster does not have is no part of it, so older archives keep their digests."""
        return self.model_dump(mode="json", exclude={n for n in ("deliveries", "kubernetes") if not getattr(self, n)})


FORMAT = 1

_MAPPING = TypeAdapter(dict[str, JsonObject])


def content_of(snapshot: Snapshot) -> Content:
    """Return the snapshot's content with secrets redacted."""
    raw: JsonObject = {
        "format": FORMAT,
        "id": snapshot.id,
        "cluster": snapshot.cluster,
        "taken_at": _text(snapshot.taken_at),
        "via": snapshot.via,
        "servers": [server.model_dump(mode="json") for server in snapshot.servers],
        "expected": sorted(snapshot.expected),
        "unknown": [unknown.model_dump(mode="json") for unknown in snapshot.unknown],
        "api": _MAPPING.dump_python(dict(snapshot.api), mode="json"),
        "samples": [_sample(sample) for sample in snapshot.samples],
        "deliveries": [delivery.model_dump(mode="json") for delivery in snapshot.deliveries],
        "kubernetes": _kubernetes(snapshot.kubernetes) if snapshot.kubernetes else None,
    }
    return Content.model_validate(redact(raw))


def snapshot_of(content: Content) -> Snapshot:
    """Return the snapshot; every sample's data must be in place."""
    return Snapshot(
        id=SnapshotId(content.id),
        cluster=content.cluster,
        taken_at=content.taken_at,
        via=content.via,
        servers=content.servers,
        samples=tuple(_sample_of(entry) for entry in content.samples),
        expected=frozenset(content.expected),
        unknown=content.unknown,
        api=content.api,
        deliveries=content.deliveries,
        kubernetes=_kubernetes_of(content.kubernetes) if content.kubernetes else None,
    )


def content_digest(snapshot: Snapshot) -> str:
    """Return the SHA-256 over the canonical JSON of the redacted content, 64 hex digits."""
    return digest(content_of(snapshot).document())


def _sample_of(entry: SampleEntry) -> Sample:
    if entry.data is None:
        return Sample(entry.server, entry.endpoint, entry.taken_at, None, entry.unknown, entry.round)
    return Sample.of(entry.server, entry.endpoint, entry.taken_at, entry.data, entry.round)


def _sample(sample: Sample) -> JsonObject:
    return {
        "server": sample.server,
        "endpoint": sample.endpoint.value,
        "taken_at": _text(sample.taken_at),
        "round": sample.round,
        "data": sample.answer,
        "unknown": sample.unknown.model_dump(mode="json") if sample.unknown else None,
    }


def _kubernetes(facts: KubernetesFacts) -> JsonObject:
    return {
        "namespace": facts.namespace,
        "taken_at": _text(facts.taken_at),
        "version": facts.version,
        "listings": [listing.model_dump(mode="json") for listing in facts.listings],
        "config_files": [file.model_dump(mode="json") for file in facts.config_files],
    }


def _kubernetes_of(entry: KubernetesEntry) -> KubernetesFacts:
    return KubernetesFacts(entry.namespace, entry.taken_at, entry.listings, entry.config_files, entry.version)


def _text(moment: datetime) -> str:
    return moment.isoformat()
