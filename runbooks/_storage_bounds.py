"""Streams that nothing keeps from filling a server's storage. Pure."""

from __future__ import annotations

from typing import Final

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, StreamState
from bot.runbook import Threshold, Thresholds, Unit
from runbooks._audit_views import Audit, of_stream, read, size

BOUNDS = Audit("STORAGE_BOUNDS", Layer.STORAGE)

UNBOUNDED: Final = Threshold(
    "unbounded",
    0.25,
    Unit.RATIO,
    "Share of a server's JetStream storage from which on a stream without any limit is told.",
)


def streams_are_bounded(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No stream that holds much of a server's storage may grow without end."""
    facts = read(snapshot, Endpoint.JSZ).running()
    rooms = {s: facts.number(s, facts.part(s, jsz, "config"), "max_storage", 0) for s, jsz in facts.answers.items()}
    found: list[Finding] = []
    streams = snapshot.streams(snapshot.rounds - 1)
    for key, views in streams.items():
        shares = {
            server: view.stored.bytes / room
            for server, view in views.items()
            if (room := rooms.get(server)) is not None and room > 0
        }
        server = max(shares, key=lambda name: shares[name], default=None)
        if server is None or shares[server] < thresholds[UNBOUNDED.name]:
            continue
        limited = _limited(views[server])
        if limited is None:
            facts.complain(server, f"the limits of stream {key}")
        elif not limited:
            held, room = views[server].stored.bytes, rooms[server] or 0
            text = (
                f"Stream {key} has no limit of size, number or age and holds {size(held)} on {server}, "
                f"{shares[server]:.0%} of its {size(room)} of JetStream storage: it grows until that is full."
            )
            evidence: JsonObject = {"bytes": held, "max_storage": room, "server": server}
            found.append(BOUNDS.finding(of_stream(snapshot, key), Severity.WARNING, text, evidence))
    share = thresholds[UNBOUNDED.name]
    return BOUNDS.result(
        snapshot, found, [facts], f"None of {len(streams)} streams holds {share:.0%} of a server's storage unlimited."
    )


def _limited(view: StreamState) -> bool | None:
    """Whether a stream in files has any limit; one in memory takes no storage. None where that can't be read."""
    limits, config = view.limits, view.config
    age = config.get("max_age", 0)
    if limits is None or not isinstance(age, int):
        return None
    return config.get("storage") == "memory" or limits.max_bytes > 0 or limits.max_msgs > 0 or age > 0
