"""What the overload runbook sees of the servers' internal queues, reading by reading. Pure.

IPQUEUESZ has the queues by name with `pending` and, where it is not 0, `in_progress`; an empty queue may be left out (monitor.go `Ipqueuesz`). VARZ and
JSZ count what waits for the JetStream API as well, as `pending` of the meta group (reference/drills.md 5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from bot.model import Endpoint, JsonObject, Snapshot, part
from bot.model.groups import latest
from bot.model.load import API_QUEUES, INFOS, REQUESTS, REQUESTS_UNTIL_2_12
from runbooks._audit_views import Facts, known, read, why_not

IDLE: JsonObject = {"pending": 0}
"""How an empty queue is listed, where empty ones are. Where they are and the API's are not, the version calls them otherwise."""

ARCHIVE = "archive"
"""Archives of `nats audit gather` hold only queues whose names have an account in them, so that others are not known (reference/audit-archive.md)."""

DRAINS = 0.9
"""Share of the first reading's length that the last must not exceed where a queue drains; less is noise."""


class Course(StrEnum):
    """What the readings of one queue say together."""

    SHORT = "short"
    """Never too long."""
    ONCE = "once"
    """Too long in the only reading, or in the last one only."""
    LASTING = "lasting"
    """Too long more than once, and not shorter in every reading."""
    DRAINING = "draining"
    """Too long, and shorter in every reading."""
    DRAINED = "drained"
    """No longer too long in the last reading."""

    @property
    def presses(self) -> bool:
        """True where it does not go away by itself, as far as it was seen."""
        return self in {Course.ONCE, Course.LASTING}


@dataclass(frozen=True, slots=True)
class Backlog:
    """One queue of one server: its length in every reading, at least one, and the seconds between the first and the last."""

    server: str
    queue: str
    lengths: tuple[int, ...]
    seconds: float

    @property
    def last(self) -> int:
        """Items that wait or are being worked on."""
        return self.lengths[-1]

    @property
    def peak(self) -> int:
        """The most of all readings."""
        return max(self.lengths)

    @property
    def shown(self) -> str:
        """All readings as one clause."""
        return f"{' → '.join(map(str, self.lengths))} within {self.seconds:.1f} s"

    @property
    def seconds_left(self) -> float | None:
        """How long it takes to empty at the pace of these readings; None where it does not shrink."""
        gone = self.lengths[0] - self.last
        return self.last * self.seconds / gone if gone > 0 and self.seconds > 0 else None

    def course(self, limit: float) -> Course:
        """Return what the readings say where a length is too long from `limit` on."""
        too_long = sum(length >= limit for length in self.lengths)
        if not too_long:
            return Course.SHORT
        if self.last < limit:
            return Course.DRAINED
        falls = all(later < earlier for earlier, later in pairwise(self.lengths))
        if len(self.lengths) > 1 and falls and self.last <= self.lengths[0] * DRAINS:
            return Course.DRAINING
        return Course.LASTING if too_long > 1 else Course.ONCE


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one server told about its queues at one time. A queue that is not listed was empty."""

    at: datetime
    lengths: Mapping[str, int]


def api_backlogs(snapshot: Snapshot) -> tuple[list[Backlog], Facts]:
    """Return the queues of the JetStream API, the meta leader's first, and what is not known of them."""
    return snapshot.once("queues of the API", lambda: _api_backlogs(snapshot))


def other_backlogs(snapshot: Snapshot) -> tuple[list[Backlog], Facts]:
    """Return all other queues, the longest first, and what is not known of them."""
    return snapshot.once("queues but the API's", lambda: _other_backlogs(snapshot))


def _api_backlogs(snapshot: Snapshot) -> tuple[list[Backlog], Facts]:
    facts = Facts(Endpoint.IPQUEUESZ)
    found: list[Backlog] = []
    rounds = range(max(snapshot.readings(Endpoint.IPQUEUESZ), snapshot.readings(Endpoint.VARZ)))
    for server in sorted(known(snapshot)):
        readings = [r for n in rounds if (r := _api_reading(snapshot, facts, server, n)) is not None]
        found += _backlogs(server, readings)
        if not readings:
            silent = latest(snapshot, server, Endpoint.IPQUEUESZ) is None
            why = why_not(snapshot, server, Endpoint.IPQUEUESZ)[1] if silent else "no queue of the JetStream API"
            facts.complain(server, why)
    if not known(snapshot):
        facts.complaints.append("no server is known")
    leader = meta_leader(snapshot)
    return sorted(found, key=lambda b: (b.server != leader, -b.peak)), facts


def _other_backlogs(snapshot: Snapshot) -> tuple[list[Backlog], Facts]:
    facts = read(snapshot, Endpoint.IPQUEUESZ)
    if snapshot.via == ARCHIVE:
        facts.complaints.append(f"{Endpoint.IPQUEUESZ}: an archive has only the queues of accounts")
    found: list[Backlog] = []
    for server in sorted(known(snapshot)):
        readings: list[_Reading] = []
        for number in range(snapshot.readings(Endpoint.IPQUEUESZ)):
            sample = snapshot.sample(server, Endpoint.IPQUEUESZ, number)
            if sample is not None and sample.data is not None:
                names = [name for name in sample.data if name not in API_QUEUES]
                readings.append(_Reading(sample.taken_at, _lengths(facts, server, sample.data, names)))
        found += _backlogs(server, readings)
    return sorted(found, key=lambda b: -b.peak), facts


def meta_leader(snapshot: Snapshot) -> str:
    """Return the meta leader that most servers name in VARZ, empty where none does."""
    named: Counter[str] = Counter()
    for server in sorted(known(snapshot)):
        leader = part(part(latest(snapshot, server, Endpoint.VARZ) or {}, "jetstream"), "meta").get("leader")
        if isinstance(leader, str) and leader:
            named[leader] += 1
    return max(named, key=lambda name: named[name], default="")


def _backlogs(server: str, readings: Sequence[_Reading]) -> list[Backlog]:
    """The queues that were not empty in some reading."""
    names = dict.fromkeys(name for reading in readings for name in reading.lengths)
    seconds = (readings[-1].at - readings[0].at).total_seconds() if readings else 0.0
    return [Backlog(server, name, tuple(r.lengths.get(name, 0) for r in readings), seconds) for name in names]


def _api_reading(snapshot: Snapshot, facts: Facts, server: str, number: int) -> _Reading | None:
    """The API's queues in one reading. VARZ tells as well, where IPQUEUESZ is not known or does not list them; None where nothing tells."""
    queues, varz = (snapshot.sample(server, endpoint, number) for endpoint in (Endpoint.IPQUEUESZ, Endpoint.VARZ))
    listed = queues.data if queues else None
    if queues and listed is not None and any(name in listed for name in API_QUEUES):
        return _Reading(queues.taken_at, _lengths(facts, server, listed, API_QUEUES))
    if varz and varz.data is not None:
        jetstream = part(varz.data, "jetstream")
        lengths = _pending(facts, server, part(jetstream, "meta")) if jetstream else {}
        if lengths is not None:
            return _Reading(varz.taken_at, lengths)
    if queues and listed is not None and snapshot.via != ARCHIVE and all(row != IDLE for row in listed.values()):
        return _Reading(queues.taken_at, {})
    return None


def _pending(facts: Facts, server: str, meta: JsonObject) -> dict[str, int] | None:
    """The API's queues as the meta group's status counts them (2.10.26; apart from each other from 2.14 on); None where it does not."""
    fields = {REQUESTS: "pending_requests", INFOS: "pending_infos"}
    if "pending_requests" not in meta:
        fields = {REQUESTS_UNTIL_2_12: "pending"}
    if not any(field in meta for field in fields.values()):
        return None
    counted = Facts(Endpoint.VARZ, complaints=facts.complaints)
    lengths = {name: counted.number(server, meta, field, 0) for name, field in fields.items()}
    return {name: int(length) for name, length in lengths.items() if length}


def _lengths(facts: Facts, server: str, queues: JsonObject, names: Iterable[str]) -> dict[str, int]:
    """The named queues that are not empty. Servers with many consumers list hundreds of thousands, nearly all of them idle."""
    found: dict[str, int] = {}
    for name in names:
        row: object = queues.get(name, IDLE)
        if row == IDLE:
            continue
        if not isinstance(row, dict):
            facts.complain(server, f"no object {name}")
            continue
        waiting, worked_on = (facts.number(server, part(queues, name), key, 0) for key in ("pending", "in_progress"))
        if waiting is not None and worked_on is not None and waiting + worked_on > 0:
            found[name] = int(waiting + worked_on)
    return found
