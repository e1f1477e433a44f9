"""Which custom resources of NACK keep a stream or a consumer (reference/nats.md 4.5). Pure.

NACK leaves no mark in JetStream: only its resources say what it keeps. They name the stream and the consumer, and an account by a resource of their own and
never by its name in NATS, so in a cluster with several accounts a resource of that name counts for each of them.
"""

from __future__ import annotations

from bot.model.assets import ConsumerKey, StreamKey
from bot.model.kubernetes.cluster import ConsumerResource, StreamResource
from bot.model.kubernetes.facts import KubernetesFacts
from bot.model.sample import Unknown


def stream_keepers(facts: KubernetesFacts | None, key: StreamKey) -> tuple[StreamResource, ...] | Unknown:
    """Return the resources that name the stream; unknown where they could not be listed, none where there is no Kubernetes or no NACK."""
    found = facts.stream_resources if facts else ()
    return found if isinstance(found, Unknown) else tuple(r for r in found if r.stream == key.stream)


def kept_streams(facts: KubernetesFacts | None) -> frozenset[str]:
    """Return the names of all streams that resources name; none where they could not be listed: `stream_keepers` tells which."""
    found = facts.stream_resources if facts else ()
    return frozenset() if isinstance(found, Unknown) else frozenset(r.stream for r in found)


def consumer_keepers(facts: KubernetesFacts | None, key: ConsumerKey) -> tuple[ConsumerResource, ...] | Unknown:
    """Return the resources that name the consumer; unknown where they could not be listed, none where there is no Kubernetes or no NACK."""
    found = facts.consumer_resources if facts else ()
    if isinstance(found, Unknown):
        return found
    return tuple(r for r in found if (r.stream, r.consumer) == (key.stream, key.consumer))
