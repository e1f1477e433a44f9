"""How busy a server is: its CPU, and the requests that wait for its JetStream API. Pure.

VARZ counts CPU in percent of one core. IPQUEUESZ has the queues by name; VARZ counts what waits for the API as well, as `pending` of the meta group
(reference/nats.md 1.D, reference/drills.md 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bot.model.base import JsonObject, part
from bot.model.groups import latest
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot

REQUESTS_UNTIL_2_12: Final = "Routed JS API Requests"
REQUESTS: Final = "JetStream API queue"
INFOS: Final = "JetStream API info queue"
API_QUEUES: Final = (REQUESTS_UNTIL_2_12, REQUESTS, INFOS)
"""Names until 2.12 and from 2.14 on, which has a queue of its own for requests that change nothing (reference/nats.md 1.D)."""

TOO_MANY: Final = 2**63
"""From here on a counter is an unsigned one that went below zero, and stands for 0 (reference/nats.md 1.D, EXP e8)."""

_PENDING: Final = ("pending_requests", "pending_infos")
"""Of the meta group in VARZ from 2.14 on; before it is `pending`."""


@dataclass(frozen=True, slots=True)
class Load:
    """One server's load; None is not known."""

    cpu: float | None
    """Share of what it may use."""
    waiting: int | None
    """Requests that wait for its JetStream API, or are being worked on."""

    def signs(self, cpu: float, waiting: float) -> list[str]:
        """Return what is at or above these limits, in words."""
        signs: list[str] = []
        if self.cpu is not None and self.cpu >= cpu:
            signs.append(f"uses {self.cpu:.0%} of its CPU")
        if self.waiting is not None and self.waiting >= waiting:
            signs.append(f"has {self.waiting} API requests waiting")
        return signs

    @property
    def known(self) -> bool:
        """Whether both numbers are."""
        return self.cpu is not None and self.waiting is not None

    def __str__(self) -> str:
        cpu = "an unknown share" if self.cpu is None else f"{self.cpu:.0%}"
        waiting = "an unknown number of" if self.waiting is None else str(self.waiting)
        return f"uses {cpu} of its CPU and has {waiting} API requests waiting"


def load_of(snapshot: Snapshot, server: str) -> Load:
    """Return the load of a server as it last told it."""
    varz, queues = latest(snapshot, server, Endpoint.VARZ) or {}, latest(snapshot, server, Endpoint.IPQUEUESZ)
    used, cores = varz.get("cpu"), varz.get("cores")
    cpu = None
    if isinstance(used, int | float) and isinstance(cores, int | float):
        allowed = varz.get("gomaxprocs", cores)
        cpu = share(used, cores, allowed if isinstance(allowed, int | float) else cores)
    return Load(cpu, _waiting(varz) if queues is None else sum(_length(part(queues, name)) for name in API_QUEUES))


def share(used: float, cores: float, allowed: float) -> float | None:
    """Return the share of its CPU that a server uses; None where it can have none. GOMAXPROCS (2.10.28, 2.11.2) is below the number of cores where a
    container has a CPU limit.
    """
    return used / 100 / min(cores, allowed) if min(cores, allowed) > 0 else None


def _waiting(varz: JsonObject) -> int | None:
    jetstream = part(varz, "jetstream")
    if varz and not jetstream:
        return 0
    meta = part(jetstream, "meta")
    fields = _PENDING if _PENDING[0] in meta else ("pending",)
    return sum(_count(meta, field) for field in fields) if any(field in meta for field in fields) else None


def _length(queue: JsonObject) -> int:
    return _count(queue, "pending") + _count(queue, "in_progress")


def _count(raw: JsonObject, key: str) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) and 0 <= value < TOO_MANY else 0
