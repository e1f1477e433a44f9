"""Faults the stand-in Slack can be told to have, and the rate limits it always has.

A fault is used up by the calls it hits. Nothing here outlives the process.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from bot.lab.slack.records import Clock

EVERY_METHOD = "*"

MESSAGES_PER_SECOND = 1.0  # per channel: docs.slack.dev/apis/web-api/rate-limits
MESSAGE_BURST = 5  # "short bursts" in Slack's words, without a number; this one is ours
TIER_2, TIER_3, TIER_4 = 20, 50, 100  # calls a minute and method, same page
TIER_BURST_SHARE = 1.0  # a full minute's worth may come at once


class FaultKind(StrEnum):
    RATE_LIMITED = "rate_limited"  # HTTP 429 with Retry-After
    SERVER_ERROR = "server_error"  # HTTP 5xx, nothing done
    DROP_BEFORE_COMMIT = "drop_before_commit"  # connection closed, nothing done
    DROP_AFTER_COMMIT = "drop_after_commit"  # done, and then the connection closed without an answer
    SLOW = "slow"  # done, answered `seconds` later
    REFUSED = "refused"  # `ok: false` with the error string given


@dataclass(slots=True)
class Fault:
    """The next `count` calls of `method` suffer `kind`. `seconds` is Retry-After or the delay of `slow`."""

    method: str
    kind: FaultKind
    count: int = 1
    seconds: float = 1.0
    status: int = 503
    error: str = "internal_error"


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


@dataclass(slots=True)
class Faults:
    """All faults in force."""

    clock: Clock
    limited: bool = True
    waiting: list[Fault] = field(default_factory=list[Fault])
    duplicate_gestures: int = 0  # so many further interactions are delivered twice
    outage_until: float = 0.0
    missing_scopes: set[str] = field(default_factory=set[str])
    _buckets: dict[str, _Bucket] = field(default_factory=dict[str, _Bucket])

    def add(self, fault: Fault) -> None:
        """Puts a fault in force."""
        self.waiting.append(fault)

    def clear(self) -> None:
        """Ends every fault; rate limits stay."""
        self.waiting.clear()
        self.missing_scopes.clear()
        self.duplicate_gestures = 0
        self.outage_until = 0.0

    def take(self, method: str) -> Fault | None:
        """The fault that hits this call, used up by one; None when it goes through."""
        for fault in self.waiting:
            if fault.method in (method, EVERY_METHOD) and fault.count > 0:
                fault.count -= 1
                self.waiting = [f for f in self.waiting if f.count > 0]
                return fault
        return None

    @property
    def outage(self) -> bool:
        """True while nothing of Slack answers."""
        return self.clock() < self.outage_until

    def copies(self, wished: int) -> int:
        """How often the next interaction is delivered."""
        if self.duplicate_gestures > 0 and wished == 1:
            self.duplicate_gestures -= 1
            return 2
        return wished

    def wait_for(self, keys: Iterable[tuple[str, float, float]]) -> float:
        """Seconds until a call may go through; 0.0 lets it through and counts it.

        Each key is (bucket name, permitted calls a second, burst).
        """
        if not self.limited:
            return 0.0
        wanted = list(keys)
        now = self.clock()
        for name, rate, burst in wanted:
            bucket = self._buckets.setdefault(name, _Bucket(level=burst, at=now))
            bucket.level = min(burst, bucket.level + (now - bucket.at) * rate)
            bucket.at = now
            if bucket.level < 1.0:
                return (1.0 - bucket.level) / rate
        for name, _, _ in wanted:
            self._buckets[name].level -= 1.0
        return 0.0
