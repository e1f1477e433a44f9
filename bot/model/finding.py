"""What a check found, and the verdict that ranks findings by layer."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from bot.model.base import JsonObject, Record


class Severity(StrEnum):
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
    """A fact could not be read; never counts as healthy."""

    @property
    def rank(self) -> int:
        """Larger is worse; unknown stands between warning and critical."""
        return {"ok": 0, "warning": 1, "unknown": 2, "critical": 3}[self.value]


class Layer(IntEnum):
    """Triage order (reference/nats.md 7): a finding in a lower layer explains those above it."""

    REACHABILITY = 1
    META = 2
    ROUTES = 3
    STORAGE = 4
    STREAMS = 5
    CONSUMERS = 6
    CLIENTS = 7


class Subject(Record):
    """The thing looked at. Which fields are set says what kind it is."""

    cluster: str
    server: str | None = None
    account: str | None = None
    stream: str | None = None
    consumer: str | None = None

    def __str__(self) -> str:
        asset = " > ".join(part for part in (self.account, self.stream, self.consumer) if part)
        return " on ".join(part for part in (asset, self.server) if part) or self.cluster


class Finding(Record):
    """One sentence with the observed numbers, and the evidence behind it."""

    check: str
    """Code of the check, e.g. CONSUMER_SPLIT."""
    layer: Layer
    subject: Subject
    severity: Severity
    sentence: str
    evidence: JsonObject = {}
    cause: bool = False
    """True where this finding names why others exist (a limit, a dead server), not a symptom."""
    counterpart: str | None = None
    """The check of `nats audit analyze` that says the same, e.g. META_001; None where none does."""
    issue: str | None = None
    """The upstream issue or fix the judgement rests on, e.g. `nats-server #6838, fixed in 2.11.3 and 2.10.29`."""


class Verdict(Record):
    """The root finding and what follows from it."""

    severity: Severity
    root: Finding | None
    sentence: str
    consequences: tuple[Finding, ...] = ()
    others: tuple[Finding, ...] = ()
    """Findings in layers that the root does not explain."""
