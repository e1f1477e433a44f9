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
    groups,
    health_error,
    raft_group_of,
    raft_node,
    replicas_of,
    standing,
    stream_replicas,
)
from bot.model.snapshot import names
from bot.model.versions import version_number
from bot.runbook import Thresholds
from runbooks._consumer_glance import glance

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


def count(snapshot: Snapshot, focus: Focus) -> int:
    """Return how many consumers an alert points at, well or not; all where it points at nothing."""
    if focus == Focus() and snapshot.rounds == 1:
        return glance(snapshot, 0).count
    return len(wanted(snapshot, focus, _everyone(snapshot)))


def wanted(snapshot: Snapshot, focus: Focus, keys: Iterable[ConsumerKey]) -> list[ConsumerKey]:
    """Return those of these consumers that an alert points at, in order. An account label may hold an id where servers report a name, so it only narrows."""
    if focus == Focus():
        return sorted(keys)
    hints = dict(enumerate((focus.account, focus.stream, focus.consumer)))
    if not _knows_account(snapshot, focus):
        del hints[0]
    return sorted(key for key in keys if all(hint in {None, key[place]} for place, hint in hints.items()))


def _knows_account(snapshot: Snapshot, focus: Focus) -> bool:
    """Whether what the alert points at is there in the account that it names."""
    if focus.consumer is not None and focus.stream is None:
        return any((key.account, key.consumer) == (focus.account, focus.consumer) for key in _everyone(snapshot))
    streams = (key for n in range(snapshot.rounds) for key in snapshot.streams(n))
    return any(key.account == focus.account and focus.stream in {None, key.stream} for key in streams)


def _everyone(snapshot: Snapshot) -> frozenset[ConsumerKey]:
    """The consumers of all rounds."""
    return snapshot.once(
        "everyone", lambda: frozenset(k for n in range(snapshot.rounds) for k in snapshot.consumers(n))
    )


def doubtful_consumers(snapshot: Snapshot, focus: Focus) -> list[ConsumerKey]:
    """Return the consumers in focus whose group was not plainly whole, on members of their stream, in every round; in order."""
    return wanted(snapshot, focus, snapshot.once("doubtful consumers", lambda: _doubtful(snapshot)))


def _doubtful(snapshot: Snapshot) -> set[ConsumerKey]:
    rounds = range(snapshot.rounds)
    found = set[ConsumerKey]().union(*(glance(snapshot, n).doubtful for n in rounds))
    if snapshot.rounds > 1:
        found |= _everyone(snapshot).difference(set(_everyone(snapshot)).intersection(*map(snapshot.consumers, rounds)))
    return found


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
