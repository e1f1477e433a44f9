"""The audit of streams: replicas that lag, subjects and limits. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, StreamKey, StreamState
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, config_of, of_stream, read
from runbooks._consumer_views import stream_standing
from runbooks._stream_glance import glance_at_streams

LAG = Audit("AUDIT_REPLICA_LAG", Layer.STREAMS, "JETSTREAM_001")
SUBJECTS = Audit("AUDIT_SUBJECTS", Layer.STREAMS, "JETSTREAM_002")
STREAM_LIMITS = Audit("AUDIT_STREAM_LIMITS", Layer.STREAMS, "JETSTREAM_003")

LIMITS = (
    ("messages", "messages", "max_msgs", "stream_messages"),
    ("bytes", "bytes", "max_bytes", "stream_bytes"),
    ("consumers", "consumer_count", "max_consumers", "stream_consumers"),
)
"""What it is called, the field of the stream's state, the field of its configuration, our threshold."""


def replicas_keep_up(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No replica's last sequence is far behind the highest. Behind and catching up is a warning that says wait."""
    facts, share = read(snapshot, Endpoint.JSZ).running(), thresholds["replica_lag"]
    found: list[Finding] = []
    streams = glance_at_streams(snapshot, facts)
    for key, states in streams.apart:
        views = {server: state.last_seq for server, state in states.items()}
        top = max(views, key=lambda s: (views[s], s))
        for server, at in sorted(views.items()):
            if at < _floor(views[top], share):
                found.append(_lag(snapshot, key, server, at, views[top], top, share))
    return LAG.result(
        snapshot, found, [facts], f"The replicas of {streams.count} streams are within {share:.0%} of each other."
    )


def _floor(highest: int, share: float) -> int:
    """The lowest last sequence that is not too far behind, as `nats audit` computes it."""
    return max(highest - int(highest * share), 0)


def _lag(snapshot: Snapshot, key: StreamKey, server: str, at: int, highest: int, top: str, share: float) -> Finding:
    earlier = snapshot.streams(0).get(key) or {} if snapshot.rounds > 1 else {}
    text = f"Stream {key} stands at {at} on {server} and at {highest} on {top}"
    evidence: JsonObject = {"last_seq": at, "highest": highest, "earlier": {s: v.last_seq for s, v in earlier.items()}}
    where = of_stream(snapshot, key, server)
    before = max((view.last_seq for view in earlier.values()), default=0)
    own = earlier.get(server)
    if snapshot.rounds < 2:
        return LAG.finding(where, Severity.CRITICAL, text + ".", evidence)
    # A replica that has what the others had one reading ago keeps up with the load; one whose gap shrinks catches up.
    if own is not None and (at >= _floor(before, share) or highest - at < before - own.last_seq):
        text += f"; the gap was {before - own.last_seq} in the reading before and it moves: it catches up, wait."
    elif own is None or any(stream_standing(snapshot, key, n).leader is None for n in range(snapshot.rounds)):
        text += (
            "; it is new, or the stream had no leader to catch up with (a scale-up or an election takes seconds): wait."
        )
    else:
        return LAG.finding(where, Severity.CRITICAL, text + ".", evidence)
    return LAG.finding(where, Severity.WARNING, text, evidence)


def subjects_are_bounded(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No stream holds more subjects than a server can keep in memory well."""
    facts, limit = read(snapshot, Endpoint.JSZ).running(), thresholds["subjects"]
    found: list[Finding] = []
    streams = glance_at_streams(snapshot, facts)
    for key, states in facts.listed(snapshot) if streams.most_subjects > limit else ():
        count = max([state.stored.num_subjects for state in states.values()])
        if count > limit:
            text = f"Stream {key} holds {count} subjects, more than {limit:,.0f}."
            found.append(SUBJECTS.finding(of_stream(snapshot, key), Severity.WARNING, text, {"num_subjects": count}))
    return SUBJECTS.result(
        snapshot, found, [facts], f"None of {streams.count} streams holds more than {limit:,.0f} subjects."
    )


def streams_below_limits(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No stream comes near its own limits. A stream that discards old messages stands at its limit on purpose."""
    facts = read(snapshot, Endpoint.JSZ).running()
    worst: dict[tuple[StreamKey, str], tuple[float, float, str]] = {}
    streams = glance_at_streams(snapshot, facts)
    for key, states in streams.limited:
        for server, state in states.items():
            if _far_below(state, thresholds):
                continue
            config = config_of(facts, server, key, state)
            for what, used_key, limit_key, threshold in LIMITS:
                used, limit = getattr(state.stored, used_key), facts.number(server, config, limit_key, 0)
                if limit is None or limit <= 0 or used <= int(limit * thresholds[threshold]):
                    continue
                discards = config.get("discard") != "new" and what != "consumers"
                how = "; it discards the oldest messages" if discards else "; then it refuses further ones"
                worst[key, what] = max((used, limit, how), worst.get((key, what), (0.0, 0.0, "")))
    found = [
        STREAM_LIMITS.finding(
            of_stream(snapshot, key),
            Severity.WARNING,
            f"Stream {key} has {used} of {limit} {what} ({used * 100 / limit:.1f} %){how}.",
            {"used": used, "limit": limit},
        )
        for (key, what), (used, limit, how) in sorted(worst.items())
    ]
    return STREAM_LIMITS.result(snapshot, found, [facts], f"None of {streams.count} streams comes near its limits.")


def _far_below(state: StreamState, thresholds: Thresholds) -> bool:
    """A cheap test for the many streams that are far below their limits, so that the costly look is for the few that are not. False proves nothing."""
    limits = state.limits
    if limits is None:
        return False
    return max(limits.max_msgs, limits.max_bytes, limits.max_consumers) <= 0 or not any(
        (limit := getattr(limits, limit_key)) > 0
        and getattr(state.stored, used_key) > int(limit * thresholds[threshold])
        for _, used_key, limit_key, threshold in LIMITS
    )
