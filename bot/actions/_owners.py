"""Reasons why natsmedic leaves a stream or a consumer to NACK, whose resources are the only ones to say what it keeps (reference/nats.md 4.5).

An owner that could not be looked for is no free hand: it refuses, and says which right is missing. A cluster without `kubernetes` settings has marks alone.
"""

from __future__ import annotations

from bot.model import ConsumerKey, Snapshot, StreamKey, Unknown
from bot.model.kubernetes import ConsumerResource, StreamResource
from bot.model.kubernetes.nack import consumer_keepers, stream_keepers


def stream_kept(snapshot: Snapshot, key: StreamKey, beside: str = "") -> list[str]:
    """Refuse a stream that NACK keeps, or may keep. `beside` is the one resource, as `resource_name` tells it, that approvers saw is left as it is."""
    found = stream_keepers(snapshot.kubernetes, key)
    others = found if isinstance(found, Unknown) else tuple(r for r in found if resource_name(r) != beside)
    return _kept(f"stream {key}", others)


def consumer_kept(snapshot: Snapshot, key: ConsumerKey) -> list[str]:
    """Refuse a consumer that NACK keeps, or may keep."""
    return _kept(f"consumer {key}", consumer_keepers(snapshot.kubernetes, key))


def resource_name(resource: StreamResource | ConsumerResource) -> str:
    """KIND NAMESPACE/NAME."""
    return f"{resource.kind} {resource.namespace}/{resource.name}"


def _kept(what: str, found: tuple[StreamResource | ConsumerResource, ...] | Unknown) -> list[str]:
    if isinstance(found, Unknown):
        return [f"Whether NACK keeps {what} is not known: {found.detail}"]
    return [
        f"NACK keeps {what} as its resource {resource_name(r)} says: change it there, or NACK works against the repair."
        for r in found
    ]
