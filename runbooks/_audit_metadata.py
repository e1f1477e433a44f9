"""What the owners of streams and consumers ask to be watched for, in the metadata keys `io.nats.monitor.*` that `nats server check` reads too.

Meaning of the keys: nats-io/jsm.go monitor/stream.go and monitor/consumer.go. A key that is not there is not judged: unlike there, also the number of
peers and, with one of `subjects-warn` and `subjects-critical` alone, the other. Pure functions of snapshot and thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bot.model import (
    ConsumerState,
    Endpoint,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Severity,
    Snapshot,
    StreamState,
    Subject,
    part,
)
from bot.model.groups import groups, replicas_of, standing, stream_replicas
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, few, of_stream, read

STREAM_WATCH = Audit("AUDIT_STREAM_MONITOR", Layer.STREAMS, "JETSTREAM_004")
CONSUMER_WATCH = Audit("AUDIT_CONSUMER_MONITOR", Layer.CONSUMERS, "JETSTREAM_005")

PREFIX = "io.nats.monitor."

_COUNTS = {
    "lag-critical",
    "min-sources",
    "max-sources",
    "peer-expect",
    "peer-lag-critical",
    "msgs-warn",
    "msgs-critical",
    "subjects-warn",
    "subjects-critical",
    "outstanding-ack-critical",
    "waiting-critical",
    "unprocessed-critical",
    "redelivery-critical",
}
_DURATIONS = {"seen-critical", "peer-seen-critical", "last-delivery-critical", "last-ack-critical"}
_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "TRUE", "true", "True"}),
    frozenset({"0", "f", "F", "FALSE", "false", "False"}),
)
"""What Go's strconv.ParseBool takes."""

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0} | {
    **dict.fromkeys("dD", 86_400.0),
    **dict.fromkeys("wW", 604_800.0),
    **dict.fromkeys("yY", 31_536_000.0),
    "M": 2_592_000.0,
}
"""Units of Go's durations, and the days, weeks, months of 30 and years of 365 days that jsm.go adds."""

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h|d|D|w|W|M|y|Y)")
_COUNT = re.compile(r"\d{1,18}")

Problem = tuple[Severity, str]


class _Unreadable(Exception):
    """A key whose value can't be understood."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The keys of one stream or consumer as numbers: counts, seconds, and 1 for true. 0 and a missing key both mean *not asked for*."""

    values: Mapping[str, float]

    def __getitem__(self, key: str) -> float:
        return self.values.get(key, 0.0)


def watch(metadata: JsonObject) -> Watch | None:
    """Return what is asked for, None where nothing is. Raises `_Unreadable`."""
    asked = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
    if not asked or not _number("enabled", asked.get("enabled", "false")):
        return None
    known = _COUNTS | _DURATIONS | {"enabled", "pinned"}
    return Watch({key: _number(key, value) for key, value in asked.items() if key in known})


def _number(key: str, value: object) -> float:
    text = value if isinstance(value, str) else ""
    if key in _COUNTS and _COUNT.fullmatch(text):
        return float(text)
    if key in _DURATIONS and (seconds := duration(text)) is not None:
        return seconds
    if key in {"enabled", "pinned"} and text in _TRUE | _FALSE:
        return float(text in _TRUE)
    raise _Unreadable(f"{PREFIX}{key} is {str(value)[:40]!r}")


def duration(text: str) -> float | None:
    """Return the seconds of a Go duration with jsm.go's longer units, None where it is none."""
    found = list(_DURATION.finditer(text))
    if not found or "".join(m[0] for m in found) != text:
        return 0.0 if text == "0" else None
    return sum(float(m[1]) * _SECONDS[m[2]] for m in found)


def streams_as_asked(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every stream with monitoring keys is as they ask."""
    facts, found, watched = read(snapshot, Endpoint.JSZ).running(), list[Finding](), 0
    complete = not facts.complaints
    for key, states in facts.streams(snapshot) if snapshot.mentions(PREFIX) else ():
        views = {server: state for server, state in states.items() if _has_keys(facts, str(key), state)}
        if not views:
            continue
        group = standing(groups(views), stream_replicas(views))
        leader = views.get(group.leader or "")
        asked = _asked(facts, str(key), leader or next(iter(views.values())))
        if asked is None:
            continue
        watched += 1
        problems = (
            _stream_problems(asked, leader)
            if leader is not None
            else _leaderless(facts, f"stream {key}", group.problem, complete=complete)
        )
        found += _findings(STREAM_WATCH, of_stream(snapshot, key), f"Stream {key}", problems)
    return STREAM_WATCH.result(snapshot, found, [facts], f"{watched} streams with monitoring keys are as these ask.")


def consumers_as_asked(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Every consumer with monitoring keys is as they ask."""
    facts, found, watched = read(snapshot, Endpoint.JSZ).running(), list[Finding](), 0
    complete = not facts.complaints
    last = snapshot.rounds - 1
    for key, states in snapshot.consumers(last).items() if snapshot.mentions(PREFIX) else ():
        views = {s: state for s, state in states.items() if s in facts.answers and _has_keys(facts, str(key), state)}
        if not views:
            continue
        replicas = stream_replicas(snapshot.streams(last).get(key.stream_key) or {})
        group = standing(groups(views), replicas_of(views, replicas))
        leader = group.leader if group.leader in views else None
        asked = _asked(facts, str(key), views[leader] if leader else next(iter(views.values())))
        if asked is None:
            continue
        watched += 1
        problems = (
            list(_consumer_problems(asked, facts, leader, views[leader], snapshot))
            if leader
            else _leaderless(facts, f"consumer {key}", group.problem, complete=complete)
        )
        where = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream, consumer=key.consumer)
        found += _findings(CONSUMER_WATCH, where, f"Consumer {key}", problems)
    return CONSUMER_WATCH.result(
        snapshot, found, [facts], f"{watched} consumers with monitoring keys are as these ask."
    )


def _has_keys(facts: Facts, name: str, state: StreamState | ConsumerState) -> bool:
    """Whether the metadata has keys of ours; a complaint where the configuration or its metadata is not what it must be."""
    config = state.config
    if (complaint := state.declared.complaint) or not isinstance(config.get("metadata", {}), dict):
        facts.complain(state.server, f"{complaint or 'no object metadata'} of {name}")
    return any(key.startswith(PREFIX) for key in part(config, "metadata"))


def _asked(facts: Facts, name: str, state: StreamState | ConsumerState) -> Watch | None:
    try:
        return watch(part(state.config, "metadata"))
    except _Unreadable as bad:
        facts.complaints.append(f"metadata of {name}: {bad}")
        return None


def _findings(audit: Audit, where: Subject, name: str, problems: list[Problem]) -> list[Finding]:
    """One finding for all that is wrong with one thing."""
    if not problems:
        return []
    worst = max((level for level, _ in problems), key=lambda level: level.rank)
    texts = [text for _, text in problems]
    return [
        audit.finding(where, worst, f"{name} is not as its metadata asks: {few(texts, most=10)}.", {"problems": texts})
    ]


def _leaderless(facts: Facts, name: str, problem: str, *, complete: bool) -> list[Problem]:
    """No leader is a problem where all servers told what they know; else the leader may be the one that could not be read."""
    if complete:
        return [(Severity.CRITICAL, f"no leader: {problem}")]
    facts.complaints.append(f"the leader of {name}: {problem}")
    return []


def _stream_problems(asked: Watch, state: StreamState) -> list[Problem]:
    return [*_peers(asked, state), *_messages(asked, state), *_subjects(asked, state), *_sources(asked, state)]


def _peers(asked: Watch, state: StreamState) -> Iterator[Problem]:
    replicas = state.group.peers if state.group else ()
    if asked["peer-expect"] and len(replicas) + 1 != asked["peer-expect"]:
        yield Severity.CRITICAL, f"{len(replicas) + 1} peers instead of {asked['peer-expect']:g}"
        return
    offline = [r.name or "unnamed" for r in replicas if r.offline]
    if offline:
        yield (
            Severity.CRITICAL,
            f"{len(offline)} replicas offline ({few(offline)}; where a server is being restarted, wait until it is back)",
        )
    lag, seen = asked["peer-lag-critical"], asked["peer-seen-critical"]
    lagged, inactive = sum(r.lag > lag for r in replicas), sum(r.active > seen * 1e9 for r in replicas)
    if lag and lagged:
        yield Severity.CRITICAL, f"{lagged} replicas more than {lag:g} operations behind"
    if seen and inactive:
        yield Severity.CRITICAL, f"{inactive} replicas not seen for {seen:g} s"


def _messages(asked: Watch, state: StreamState) -> Iterator[Problem]:
    """Too few messages: the bounds are lower ones."""
    count = state.messages
    for key, level in (("msgs-critical", Severity.CRITICAL), ("msgs-warn", Severity.WARNING)):
        if asked[key] and count <= asked[key]:
            yield level, f"{count} messages, {key} is {asked[key]:g}"
            return


def _subjects(asked: Watch, state: StreamState) -> Iterator[Problem]:
    """Too many subjects where the warning bound is the smaller one, else too few."""
    count, upper = state.stored.num_subjects, asked["subjects-warn"] < asked["subjects-critical"]
    for key, level in (("subjects-critical", Severity.CRITICAL), ("subjects-warn", Severity.WARNING)):
        if asked[key] and (count >= asked[key] if upper else count <= asked[key]):
            yield level, f"{count} subjects, {key} is {asked[key]:g}"
            return


def _sources(asked: Watch, state: StreamState) -> Iterator[Problem]:
    sources, mirror = state.sources, state.mirror
    if asked["min-sources"] and len(sources) < asked["min-sources"]:
        yield Severity.CRITICAL, f"{len(sources)} sources, min-sources is {asked['min-sources']:g}"
    if asked["max-sources"] and len(sources) > asked["max-sources"]:
        yield Severity.CRITICAL, f"{len(sources)} sources, max-sources is {asked['max-sources']:g}"
    lag, seen = asked["lag-critical"], asked["seen-critical"]
    if (lag or seen) and state.config.get("mirror") and not mirror:
        yield Severity.CRITICAL, "it is a mirror and tells nothing about its origin"
    origins = [*sources, *([mirror] if mirror else [])]
    lagged = sum(origin.lag >= lag for origin in origins)
    inactive = sum(origin.active < 0 or origin.active >= seen * 1e9 for origin in origins)
    if lag and lagged:
        yield Severity.CRITICAL, f"{lagged} sources or mirrors {lag:g} operations behind or more"
    if seen and inactive:
        yield Severity.CRITICAL, f"{inactive} sources or mirrors not seen for {seen:g} s"


def _consumer_problems(
    asked: Watch, facts: Facts, server: str, state: ConsumerState, snapshot: Snapshot
) -> Iterator[Problem]:
    for key, number, what in (
        ("outstanding-ack-critical", state.num_ack_pending, "messages wait for an acknowledgement"),
        ("waiting-critical", state.num_waiting, "pull requests wait"),
        ("unprocessed-critical", state.num_pending, "messages are not delivered yet"),
        ("redelivery-critical", state.num_redelivered, "messages are delivered again"),
    ):
        if asked[key] and number >= asked[key]:
            yield Severity.CRITICAL, f"{number} {what}, {key} is {asked[key]:g}"
    now = facts.moment(server, facts.answers[server], "now") or snapshot.taken_at
    for key, position, what in (
        ("last-delivery-critical", state.delivered, "delivery"),
        ("last-ack-critical", state.floor, "acknowledgement"),
    ):
        if not asked[key]:
            continue
        at = facts.moment(server, {"last_active": position.last_active}, "last_active")
        if at is None:
            yield Severity.CRITICAL, f"no {what} yet"
        elif (now - at).total_seconds() >= asked[key]:
            yield (
                Severity.CRITICAL,
                f"the last {what} was {(now - at).total_seconds():.0f} s ago, {key} is {asked[key]:g} s",
            )
    if asked["pinned"]:
        yield from _pinned(state)


def _pinned(state: ConsumerState) -> Iterator[Problem]:
    config, states = state.config, state.priority_states or ()
    wanted: object = config.get("priority_groups")
    count = len(wanted) if isinstance(wanted, list) else 0  # pyright: ignore[reportUnknownArgumentType]
    pinned = sum(bool(group.pinned_client_id) for group in states)
    if not states or not count or config.get("priority_policy") != "pinned_client":
        yield Severity.CRITICAL, "its priority policy is not pinned_client"
    elif pinned != count:
        yield Severity.CRITICAL, f"{pinned} of {count} priority groups have a pinned client"
