"""What the checks of the cluster audit share: facts with the reasons why some are missing, and one way to make findings. Pure.

Servers leave zero values out of their answers (Go's `omitempty`), so a missing field is zero only where a check says so; a field of another type, or
one that must be there and is not, is a complaint, and complaints become one UNKNOWN finding that names the fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from bot.model import (
    Endpoint,
    Finding,
    JsonObject,
    Layer,
    Severity,
    Snapshot,
    StreamKey,
    StreamState,
    Subject,
    UnknownReason,
    part,
    parts,
)
from bot.model.assets import DETAILS
from bot.model.groups import latest
from bot.model.snapshot import names
from bot.runbook import Check, Examine

MOST_FINDINGS = 50
"""Findings of one check that are told one by one; a snapshot of 20,000 consumers must not make as many sentences."""

MOST_NAMED = 5
"""Things that one sentence names, as many as `nats audit analyze` gives examples for."""

UNDERFLOW, TOO_LARGE = 2**63, 2**64
"""A counter in between is an unsigned one that went below zero (`inflight` of 2.10.25, reference/nats.md 1.D): it counts as 0."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One check: its code, its layer, and the check of `nats audit analyze` that says the same."""

    code: str
    layer: Layer
    counterpart: str | None = None

    def check(
        self,
        healthy: str,
        needs: frozenset[Endpoint],
        examine: Examine,
        trend: frozenset[Endpoint] = frozenset(),
    ) -> Check:
        """Return the record for the runbook."""
        return Check(self.code, self.layer, healthy, needs, examine, trend, self.counterpart)

    def finding(
        self,
        where: Subject,
        severity: Severity,
        sentence: str,
        evidence: JsonObject | None = None,
        *,
        cause: bool = False,
        issue: str | None = None,
    ) -> Finding:
        """Return a finding of this check."""
        return Finding(
            check=self.code,
            layer=self.layer,
            subject=where,
            severity=severity,
            sentence=sentence,
            evidence=evidence or {},
            cause=cause,
            counterpart=self.counterpart,
            issue=issue,
        )

    def result(
        self, snapshot: Snapshot, found: Sequence[Finding], facts: Sequence[Facts], healthy: str
    ) -> list[Finding]:
        """Return the worst findings, one UNKNOWN for what could not be read, or one that says what was seen to be right."""
        return self.told(snapshot, found, [c for f in facts for c in f.complaints], healthy)

    def told(self, snapshot: Snapshot, found: Sequence[Finding], missing: Sequence[str], healthy: str) -> list[Finding]:
        """Return the same where `missing` names each fact that could not be read."""
        cluster = Subject(cluster=snapshot.cluster)
        told = sorted(found, key=lambda f: -f.severity.rank)
        rest = told[MOST_FINDINGS:]
        told = told[:MOST_FINDINGS]
        if rest:
            told.append(self.finding(cluster, rest[0].severity, f"{len(rest)} further findings of this check."))
        complaints = list(dict.fromkeys(missing))
        if complaints:
            evidence = {"unreadable": complaints[:MOST_FINDINGS], "count": len(complaints)}
            told.append(self.finding(cluster, Severity.UNKNOWN, f"Could not be read: {few(complaints)}.", evidence))
        return told or [self.finding(cluster, Severity.OK, healthy)]


@dataclass(slots=True)
class Facts:
    """The answers to one endpoint by server name, and what is wrong with those that can't be used."""

    endpoint: Endpoint
    answers: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    complaints: list[str] = field(default_factory=list[str])

    def number(self, server: str, raw: JsonObject, key: str, absent: float | None = None) -> float | None:
        """Return a finite number, an underflow as 0; None, and a complaint, where there is none. `absent` stands for a missing field."""
        value: object = raw.get(key, absent)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(_bounded(value)):
            return 0 if UNDERFLOW <= value < TOO_LARGE else value
        self.complain(server, f"no number {key}")
        return None

    def text(self, server: str, raw: JsonObject, key: str, absent: str | None = None) -> str | None:
        """Return a string; None, and a complaint, where there is none."""
        value: object = raw.get(key, absent)
        if isinstance(value, str):
            return value
        self.complain(server, f"no text {key}")
        return None

    def flag(self, server: str, raw: JsonObject, key: str) -> bool | None:
        """Return a boolean, False where the field is missing; None, and a complaint, where it is something else."""
        value: object = raw.get(key, False)
        if isinstance(value, bool):
            return value
        self.complain(server, f"no yes or no {key}")
        return None

    def part(self, server: str, raw: JsonObject, key: str) -> JsonObject:
        """Return the object below `key`; empty, and a complaint, where there is something else. A missing one is empty."""
        if key in raw and not isinstance(raw[key], dict):
            self.complain(server, f"no object {key}")
        return part(raw, key)

    def rows(self, server: str, raw: JsonObject, key: str) -> list[JsonObject]:
        """Return the objects of a list; a complaint where it is no list, or some are no objects. A missing or null one is empty."""
        value: object = raw.get(key)
        found = parts(raw, key)
        if value is not None and (not isinstance(value, list) or len(value) != len(found)):  # pyright: ignore[reportUnknownArgumentType]
            self.complain(server, f"no list of objects {key}")
        return found

    def moment(self, server: str, raw: JsonObject, key: str) -> datetime | None:
        """Return an aware time; None where the field is missing or the zero time, with a complaint where it is no time."""
        if raw.get(key) is None:
            return None
        try:
            at = datetime.fromisoformat(str(raw[key]))
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            self.complain(server, f"no time {key}")
            return None
        return at if at.year > 1 else None

    def complain(self, server: str, what: str) -> None:
        """Note that a fact can't be used."""
        self.complaints.append(f"{self.endpoint} of {server}: {what}")

    def running(self) -> Facts:
        """Return the same without the servers that say their JetStream is off; complaints are shared."""
        on = {s: raw for s, raw in self.answers.items() if self.flag(s, raw, "disabled") is not True}
        return replace(self, answers=on)

    def streams(self, snapshot: Snapshot) -> Iterator[tuple[StreamKey, Mapping[str, StreamState]]]:
        """Return the same as `listed`. Streams that an answer counts and does not show are a complaint."""
        self.expect_lists(snapshot)
        yield from self.listed(snapshot)

    def expect_lists(self, snapshot: Snapshot) -> None:
        """Complain of each answer that counts streams and does not show them."""
        for server, jsz in self.answers.items():
            sample = snapshot.sample(server, Endpoint.JSZ, snapshot.rounds - 1)
            if (sample is None or sample.assets is None) and self.number(server, jsz, "streams", 0) != 0:
                self.complain(server, f"no list {DETAILS}")

    def listed(self, snapshot: Snapshot) -> Iterator[tuple[StreamKey, Mapping[str, StreamState]]]:
        """Return every stream of the last look with its views by the servers whose answers these are, in order."""
        for key, views in sorted(snapshot.streams(snapshot.rounds - 1).items()):
            if views.keys() <= self.answers.keys():
                yield key, views
            elif mine := {server: view for server, view in views.items() if server in self.answers}:
                yield key, mine


def config_of(facts: Facts, server: str, key: StreamKey, state: StreamState) -> JsonObject:
    """Return the stream's configuration; a complaint where JSZ came without it."""
    config = state.config
    if not config:
        facts.complain(server, f"no config of stream {key}")
    return config


def read(snapshot: Snapshot, endpoint: Endpoint, wanted: frozenset[str] | None = None) -> Facts:
    """Return what the servers (or the `wanted` ones) last answered; every one that did not is a complaint."""
    facts = Facts(endpoint)
    for server in sorted(known(snapshot) if wanted is None else wanted):
        answer = latest(snapshot, server, endpoint)
        if answer is not None:
            facts.answers[server] = answer
        else:
            facts.complain(server, why_not(snapshot, server, endpoint)[1])
    if endpoint is Endpoint.JSZ:
        for server, complaint in snapshot.complaints(snapshot.rounds - 1):
            facts.complain(server, complaint)
    if not known(snapshot):
        facts.complaints.append(f"{endpoint}: no server is known")
    return facts


def known(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of all servers that answered or should have."""
    return snapshot.expected | names(snapshot.servers)


def why_not(snapshot: Snapshot, server: str, endpoint: Endpoint) -> tuple[UnknownReason | None, str]:
    """Return why a server's last answer is not there."""
    taken = [s for s in snapshot.samples if s.server == server and s.endpoint is endpoint]
    unknown = max(taken, key=lambda s: s.round).unknown if taken else None
    return (unknown.reason, f"{unknown.reason.value}: {unknown.detail}") if unknown else (None, "it was not asked")


def first(snapshot: Snapshot, server: str, endpoint: Endpoint) -> JsonObject | None:
    """Return the answer of the first round, where there was a later one to compare it with."""
    later = any(
        s.round > 0 and s.data is not None for s in snapshot.samples if (s.server, s.endpoint) == (server, endpoint)
    )
    return snapshot.data(server, endpoint, 0) if later else None


def seconds_between(snapshot: Snapshot, server: str, endpoint: Endpoint) -> float:
    """Return the time between a server's first and last answer."""
    taken = [
        s.taken_at for s in snapshot.samples if s.server == server and s.endpoint is endpoint and s.data is not None
    ]
    return (max(taken) - min(taken)).total_seconds() if taken else 0.0


def on(snapshot: Snapshot, server: str) -> Subject:
    """Return a server as a finding's subject."""
    return Subject(cluster=snapshot.cluster, server=server)


def of_stream(snapshot: Snapshot, key: StreamKey, server: str | None = None) -> Subject:
    """Return a stream as a finding's subject."""
    return Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream, server=server)


def clusters(facts: Facts) -> dict[str, list[str]]:
    """Return the servers by the name of the cluster that VARZ says they are in; a super-cluster has several."""
    found: dict[str, list[str]] = {}
    for server, varz in facts.answers.items():
        name = facts.text(server, facts.part(server, varz, "cluster"), "name", "")
        if name is not None:
            found.setdefault(name, []).append(server)
    return found


def whitespace(text: str) -> bool:
    """True where a name holds a blank, which breaks subjects and the `nats` command."""
    return any(character.isspace() for character in text)


def few(items: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first items and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def size(value: float) -> str:
    """Return bytes in the unit that people read them in."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(value, 1024)), len(units) - 1) if value >= 1 else 0
    return f"{value / 1024**power:.{1 if power else 0}f} {units[power]}"


def by_servers(values: Mapping[str, str]) -> str:
    """Return `x (n0, n1), y (n2)` from values by server."""
    groups: dict[str, list[str]] = {}
    for server, value in sorted(values.items()):
        groups.setdefault(value, []).append(server)
    return few([f"{value or 'nothing'} ({few(servers)})" for value, servers in sorted(groups.items())])


def _bounded(value: float) -> float:
    """Integers beyond what a server can mean count as infinite."""
    return value if abs(value) < TOO_LARGE else math.inf
