"""One glance at every stream of the last look, for all checks of the audit: most are well, and these are only counted. Pure.

A cluster has thousands of streams, so what a check asks of each is asked here, in one pass, and only the streams that the answer names are looked at
closely. What is compared with a threshold is kept as a number, because a glance is taken once for all settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bot.model import Snapshot, StreamKey, StreamState
from bot.model.groups import stream_replicas
from runbooks._audit_views import Facts

Views = Mapping[str, StreamState]
"""A stream as each server sees it, by server name."""


@dataclass(slots=True)
class StreamGlance:
    """What one pass over the streams shows, everything in the order of their names."""

    count: int = 0
    most_subjects: int = 0
    """The most subjects that one stream holds on one server."""
    apart: list[tuple[StreamKey, Views]] = field(default_factory=list[tuple[StreamKey, Views]])
    """Their last sequences differ from server to server."""
    limited: list[tuple[StreamKey, Views]] = field(default_factory=list[tuple[StreamKey, Views]])
    """They have limits, or some that can't be read."""
    unreadable: list[tuple[StreamKey, Views]] = field(default_factory=list[tuple[StreamKey, Views]])
    """A server's configuration of them does not say how many replicas there must be."""
    replicas: dict[StreamKey, int] = field(default_factory=dict[StreamKey, int])
    """What those that are in a Raft group have."""

    def take(self, key: StreamKey, views: Views) -> None:
        """Look at one stream."""
        self.count += 1
        lasts: set[int] = set()
        grouped = limited = unreadable = False
        for view in views.values():
            stored = view.stored
            lasts.add(stored.last_seq)
            self.most_subjects = max(self.most_subjects, stored.num_subjects)
            grouped = grouped or view.group is not None
            unreadable = unreadable or bool(view.declared.complaint)
            limited = limited or _has_limits(view)
        if len(lasts) > 1:
            self.apart.append((key, views))
        if limited:
            self.limited.append((key, views))
        if unreadable:
            self.unreadable.append((key, views))
        if grouped:
            self.replicas[key] = stream_replicas({s: v for s, v in views.items() if v.group is not None})


def glance_at_streams(snapshot: Snapshot, facts: Facts) -> StreamGlance:
    """Return the glance over the streams of the servers whose answers `facts` has; it is taken once for these. What their lists lack is a complaint."""
    facts.expect_lists(snapshot)

    def look() -> StreamGlance:
        found = StreamGlance()
        for key, views in facts.listed(snapshot):
            found.take(key, views)
        return found

    return snapshot.once(f"streams of {sorted(facts.answers)}", look)


def _has_limits(view: StreamState) -> bool:
    limits = view.limits
    return limits is None or limits.max_msgs > 0 or limits.max_bytes > 0 or limits.max_consumers > 0
