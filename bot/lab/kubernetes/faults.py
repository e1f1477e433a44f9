"""Faults that the stand-in can be told to have. A fault is used up by the requests that it hits."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bot.lab.kubernetes.refusals import Refused

ANY: Final = "*"
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
RETRY_AFTER: Final = 1
"""Seconds that a 429 asks for: what API priority and fairness sends (apiserver `tooManyRequests`)."""


class FaultKind(StrEnum):
    CONFLICT = "conflict"  # 409 of a stale resourceVersion, nothing done
    FORBIDDEN = "forbidden"  # 403 in the words of RBAC, nothing done
    TOO_MANY_REQUESTS = "too_many_requests"  # 429 with Retry-After, nothing done
    SERVER_ERROR = "server_error"  # 5xx, nothing done
    SLOW = "slow"  # answered `seconds` later, done at once
    CUT = "cut"  # connection closed, nothing done
    COMMIT_THEN_CUT = "commit_then_cut"  # done, and then the connection closed without an answer


@dataclass(slots=True)
class Fault:
    """The next `count` requests with this method (`*`: any) whose path matches the expression suffer `kind`."""

    kind: FaultKind
    method: str = ANY
    path: str = ""
    count: int = 1
    seconds: float = RETRY_AFTER
    """Retry-After, or the delay of `slow`."""
    status: int = 500

    def hits(self, method: str, path: str) -> bool:
        meant = self.method in (ANY, method) or (self.method == "write" and method in WRITES)
        return self.count > 0 and meant and re.search(self.path, path) is not None

    def refusal(self) -> Refused | None:
        """The answer instead of the real one; None where the request goes through, the connection is cut, or the answer depends on the request."""
        match self.kind:
            case FaultKind.TOO_MANY_REQUESTS:
                words = "Too many requests, please try again later."
                return Refused(429, "TooManyRequests", words, retry_after=max(1, round(self.seconds)))
            case FaultKind.SERVER_ERROR:
                reason = {503: "ServiceUnavailable", 504: "Timeout"}.get(self.status, "InternalError")
                return Refused(self.status, reason, "An error on the server has prevented the request from succeeding")
            case _:
                return None


class Faults:
    """All faults in force. An outage of the whole server is `StandInKubernetes.outage`."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self.down = False
        """Whether the API server is away; controllers rest as long."""

    def add(
        self,
        kind: FaultKind,
        method: str = ANY,
        path: str = "",
        *,
        count: int = 1,
        seconds: float = RETRY_AFTER,
        status: int = 500,
    ) -> None:
        """Puts a fault in force. `method` is `*`, `write` or one of HTTP's, `path` an expression to be found in the path."""
        self._waiting.append(Fault(kind, method, path, count, seconds, status))

    def clear(self) -> None:
        """Ends every fault."""
        self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request, used up by one; None when it goes through."""
        for fault in self._waiting:
            if fault.hits(method, path):
                fault.count -= 1
                return fault
        return None
