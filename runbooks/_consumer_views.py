"""What the stuck-consumer runbook sees: groups round by round, what lasts and what passes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bot.model import (
    ConsumerKey,
    ConsumerState,
    Endpoint,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Severity,
    Snapshot,
    StreamKey,
    Subject,
    UnknownReason,
)
from bot.model.groups import (
    Standing,
    declared_replicas,
    groups,
    health_error,
    plainly_whole,
    raft_group_of,
    raft_node,
    replicas_of,
    standing,
    stream_replicas,
)
from bot.model.snapshot import names
from bot.model.versions import version_number
from bot.runbook import Thresholds

T = TypeVar("T")

SETTLE = "settle"
"""The threshold that says how long a group must be seen sick."""

SETTLE_SLACK = 0.9
"""Answers of one round arrive spread over time, so two rounds lie a little closer together than asked for."""

SILENT = frozenset({UnknownReason.TIMED_OUT, UnknownReason.UNREACHABLE})
"""Reasons that speak against the server; the others speak against what natsmedic may ask."""

FIXED_6851 = ((2, 10, 29), (2, 11, 3))
"""First versions of their lines in which a stale R1 leader steps down; every later line has it (reference/nats.md 1.E)."""

ISSUE_6838 = "nats-server #6838, fixed by #6851 in 2.11.3 and 2.10.29"


@dataclass(frozen=True, slots=True)
class Scope:
    """The streams and consumers an alert points at; everything where it points at nothing."""

    streams: tuple[StreamKey, ...]
    consumers: tuple[ConsumerKey, ...]


def scope(snapshot: Snapshot, focus: Focus) -> Scope:
    """Return what to look at, in all rounds. An account label may hold an id where servers report a name, so it only narrows."""
    return snapshot.once(
        f"scope {focus!r}",
        lambda: (
            _scope(snapshot, focus) or _scope(snapshot, focus.model_copy(update={"account": None})) or Scope((), ())
        ),
    )


def _scope(snapshot: Snapshot, focus: Focus) -> Scope | None:
    consumers = dict.fromkeys(k for n in range(snapshot.rounds) for k in snapshot.consumers(n))
    streams = dict.fromkeys(k for n in range(snapshot.rounds) for k in snapshot.streams(n))
    for place, hint in enumerate((focus.account, focus.stream, focus.consumer)):
        if hint is not None:
            consumers = {k: None for k in consumers if k[place] == hint}
            streams = {k: None for k in streams if k[place:] == () or k[place] == hint}
    if focus.consumer is not None:
        streams = dict.fromkeys(k.stream_key for k in consumers) or (streams if focus.stream else {})
    return Scope(tuple(streams), tuple(consumers)) if streams or consumers else None


def doubtful_consumers(snapshot: Snapshot, focus: Focus) -> list[ConsumerKey]:
    """Return the consumers in scope whose group was not plainly whole, on members of their stream, in every round; in order."""

    def find() -> list[ConsumerKey]:
        plain = frozenset[ConsumerKey].intersection(*(_plain_consumers(snapshot, n) for n in range(snapshot.rounds)))
        return sorted(key for key in scope(snapshot, focus).consumers if key not in plain)

    return snapshot.once(f"doubtful consumers {focus!r}", find) if snapshot.rounds else []


def _plain_streams(snapshot: Snapshot, round: int) -> Mapping[StreamKey, int]:  # noqa: A002 - the field's word
    """Return the streams whose group was plainly whole in a round, with their number of replicas."""

    def find() -> dict[StreamKey, int]:
        readable = ((k, views) for k, views in snapshot.streams(round).items() if not _first(views).declared.complaint)
        counted = ((key, views, stream_replicas(views)) for key, views in readable)
        return {key: replicas for key, views, replicas in counted if plainly_whole(views, replicas)}

    return snapshot.once(f"plain streams {round}", find)


def _first(views: Mapping[str, T]) -> T:
    return next(iter(views.values()))


def _plain_consumers(snapshot: Snapshot, round: int) -> frozenset[ConsumerKey]:  # noqa: A002
    """One pass over all consumers of a round; everything else about groups is for those that it leaves out."""

    def find() -> frozenset[ConsumerKey]:
        streams, plain = snapshot.streams(round), _plain_streams(snapshot, round)
        return frozenset(
            key
            for key, views in snapshot.consumers(round).items()
            if (replicas := plain.get(stream := key.stream_key)) is not None
            and views.keys() <= streams[stream].keys()
            and plainly_whole(views, declared_replicas(_first(views), replicas))
        )

    return snapshot.once(f"plain consumers {round}", find)


def subject(snapshot: Snapshot, key: StreamKey | ConsumerKey, server: str | None = None) -> Subject:
    """Return the thing a finding is about."""
    consumer = key.consumer if isinstance(key, ConsumerKey) else None
    return Subject(cluster=snapshot.cluster, server=server, account=key.account, stream=key.stream, consumer=consumer)


def stream_standing(snapshot: Snapshot, key: StreamKey, round: int) -> Standing:  # noqa: A002 - the field's word
    """Return how the stream's group stood in a round."""
    views = snapshot.streams(round).get(key) or {}
    return standing(groups(views), stream_replicas(views))


def consumer_standing(snapshot: Snapshot, key: ConsumerKey, round: int) -> Standing:  # noqa: A002
    """Return how the consumer's group stood in a round."""
    views = snapshot.consumers(round).get(key) or {}
    return standing(groups(views), replicas_of(views, stream_standing(snapshot, key.stream_key, round).replicas))


def leader_state(snapshot: Snapshot, key: ConsumerKey, round: int) -> ConsumerState | None:  # noqa: A002
    """Return the consumer as the majority's leader reported it in a round."""
    leader = consumer_standing(snapshot, key, round).leader
    return snapshot.consumers(round)[key][leader] if leader else None


def seen_for(snapshot: Snapshot) -> float:
    """Seconds between the end of the first and the start of the last round."""
    taken = [(s.round, s.taken_at) for s in snapshot.samples if s.endpoint is Endpoint.JSZ and s.data is not None]
    first = max((at for n, at in taken if n == 0), default=snapshot.taken_at)
    last = min((at for n, at in taken if n == snapshot.rounds - 1), default=snapshot.taken_at)
    return max(0.0, (last - first).total_seconds())


def lasts(snapshot: Snapshot, thresholds: Thresholds) -> bool:
    """True where there are two rounds far enough apart: groups are sick for seconds after every scale-up and restart."""
    return snapshot.rounds > 1 and seen_for(snapshot) >= thresholds[SETTLE] * SETTLE_SLACK


def persistent(snapshot: Snapshot, look: Callable[[int], T | None]) -> tuple[T | None, bool]:
    """Return what the last round shows, and whether every round showed something."""
    seen = [look(n) for n in range(snapshot.rounds)]
    return (seen[-1], all(s is not None for s in seen)) if seen else (None, False)


def how_long(snapshot: Snapshot, *, always: bool) -> str:
    """One clause that says for how long it was seen."""
    if snapshot.rounds < 2:
        return "seen in one reading"
    return f"seen for {seen_for(snapshot):.1f} s" if always else "seen in the last reading only"


def severity(snapshot: Snapshot, thresholds: Thresholds, *, always: bool) -> Severity:
    """Critical where it lasts; a warning where it may pass by itself."""
    return Severity.CRITICAL if always and lasts(snapshot, thresholds) else Severity.WARNING


def silent_servers(snapshot: Snapshot) -> dict[str, str]:
    """Return the servers that did not answer JSZ in the last round, and why."""
    found: dict[str, str] = {}
    for server in sorted(snapshot.expected | names(snapshot.servers)):
        sample = snapshot.sample(server, Endpoint.JSZ, snapshot.rounds - 1)
        if sample is None or sample.data is None:
            unknown = sample.unknown if sample else None
            found[server] = f"{unknown.reason.value}: {unknown.detail}" if unknown else "it was not asked"
    return found


def speaks_against(snapshot: Snapshot, server: str) -> bool:
    """True where the server itself is silent, False where natsmedic may not or can't ask it."""
    sample = snapshot.sample(server, Endpoint.JSZ, snapshot.rounds - 1)
    return sample is not None and sample.unknown is not None and sample.unknown.reason in SILENT


@dataclass(frozen=True, slots=True)
class Missing:
    """A member without a Raft node for a consumer."""

    server: str
    ghost: bool
    """It serves the consumer alone, as its leader."""
    evidence: JsonObject


def missing_nodes(snapshot: Snapshot, key: ConsumerKey, round: int) -> dict[str, Missing]:  # noqa: A002
    """Return the members that lack the consumer's Raft node, by the members' own views; RAFTZ and HEALTHZ say why, where they can be read."""
    found = consumer_standing(snapshot, key, round)
    views: Mapping[str, ConsumerState] = snapshot.consumers(round).get(key) or {}
    if found.leader is None or found.replicas == 1:
        return {}
    group = raft_group_of(views)
    members = found.members | stream_standing(snapshot, key.stream_key, round).members
    return {
        s: m for s in sorted(members - {found.leader}) if (m := _missing(snapshot, key, s, group, found, views.get(s)))
    }


def _missing(
    snapshot: Snapshot, key: ConsumerKey, server: str, group: str, found: Standing, view: ConsumerState | None
) -> Missing | None:
    node = raft_node(snapshot, server, key.account, group)
    said = health_error(snapshot, server, key)
    ghost = server in found.ghosts and (view is None or view.group is None or not view.group.peers)
    sick = ghost or server in found.lost or (view is None and server not in silent_servers(snapshot))
    if not sick or node is True or not (node is False or ghost or "node missing" in said):
        return None
    leader = view.group.leader if view and view.group else None
    evidence: JsonObject = {
        "raftz lists the group": node,
        "healthz": said,
        "raft group": group,
        "names as leader": leader,
    }
    return Missing(server, ghost, evidence)


def lacks_6851(text: str) -> bool:
    """True for versions without the fix of #6838; False where the version can't be read."""
    number = version_number(text)
    if number == (0, 0, 0):
        return False
    line = next((fix for fix in FIXED_6851 if fix[:2] == number[:2]), None)
    return number < line if line else number < FIXED_6851[0]


def or_ok(snapshot: Snapshot, check: str, layer: Layer, found: Sequence[Finding], sentence: str) -> list[Finding]:
    """Return the findings, or one that says what was seen to be right."""
    ok = Finding(
        check=check, layer=layer, subject=Subject(cluster=snapshot.cluster), severity=Severity.OK, sentence=sentence
    )
    return list(found) or [ok]


def listed(items: Iterable[str]) -> str:
    """Return `a, b and c`."""
    words = sorted(items)
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
