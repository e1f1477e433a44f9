"""How the tests of the readiness runbook vary a recorded meta group, and what they ask it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.model import Finding, Focus, Snapshot
from bot.model.groups import meta_standing
from bot.runbook import Proposed
from runbooks.readiness import RUNBOOK
from tests.unit.runbooks.audit_support import Change, put
from tests.unit.snapshots import Raw, answers, both, recorded

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
QUIET, OLD, NEW = "meta_healthy_2.15.1", "meta_healthy_2.10.26", "meta_healthy_2.11.11"
SETTLE = 1.0
BASE = {"settle": SETTLE, "young": 0.0}
"""The recordings lie a second apart, of servers that are seconds old."""

NOT_CURRENT = {
    "status": "error",
    "errors": [{"type": "JETSTREAM", "error": "JetStream is not current with the meta leader"}],
}
GROUP = "SYS._meta_"


def examined(snapshot: Snapshot, **thresholds: float) -> list[Finding]:
    values = RUNBOOK.values(BASE | thresholds)
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, Focus())]


def proposed(snapshot: Snapshot, **thresholds: float) -> list[Proposed]:
    values = RUNBOOK.values(BASE | thresholds)
    return list(RUNBOOK.propose(snapshot, examined(snapshot, **thresholds), values, Focus()))


def titles(snapshot: Snapshot, **thresholds: float) -> list[str]:
    return [p.draft.title for p in proposed(snapshot, **thresholds)]


def worst(snapshot: Snapshot, check: str, **thresholds: float) -> Finding:
    return max((f for f in examined(snapshot, **thresholds) if f.check == check), key=lambda f: f.severity.rank)


def leader(name: str) -> str:
    found = meta_standing(recorded(name)).leader
    assert found
    return found


def followers(name: str) -> list[str]:
    return sorted({s.name for s in recorded(name).servers} - {leader(name)})


def rounds(count: int) -> Change:
    """A change that keeps the first readings."""

    def change(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["round"] < count]

    return change


def apart(seconds: float) -> Change:
    """A change after which the readings lie so far apart."""

    def change(raw: Raw) -> None:
        start = datetime.fromisoformat(raw["taken_at"])
        for sample in raw["samples"]:
            sample["taken_at"] = (start + timedelta(seconds=seconds * sample["round"])).isoformat()

    return change


def indexes(server: str, committed: Sequence[int], applied: Sequence[int]) -> Change:
    """A change of what the server's `_meta_` had committed and applied, reading by reading."""
    return both(
        rounds(len(applied)),
        *(put("RAFTZ", f"{GROUP}.committed", n, server, at) for at, n in enumerate(committed)),
        *(put("RAFTZ", f"{GROUP}.applied", n, server, at) for at, n in enumerate(applied)),
    )


def gaps(name: str, behind: Mapping[str, Sequence[int]]) -> Change:
    """A change after which everybody commits 100 more in every reading, and each server is so far behind."""
    count = max(map(len, behind.values()))
    everybody = {s: behind.get(s, [0] * count) for s in (leader(name), *followers(name))}
    return both(
        *(
            indexes(s, [1_000 + 100 * n for n in range(count)], [1_000 + 100 * n - gap for n, gap in enumerate(seen)])
            for s, seen in everybody.items()
        )
    )


def hung(server: str, name: str, behind: int = 3) -> Change:
    """A change after which nobody commits anything, and the server has not applied the last entries."""
    others = [indexes(s, [50] * 4, [50] * 4) for s in (leader(name), *followers(name)) if s != server]
    return both(*others, indexes(server, [50] * 4, [50 - behind] * 4))


def replica(name: str, server: str, at: int | None = None, **fields: Any) -> Change:
    """A change of how the meta leader lists the server."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", leader(name), at):
            for row in jsz["meta_cluster"]["replicas"]:
                if row["name"] == server:
                    row.update(fields)

    return change


def no_leader(server: str | None = None, at: int | None = None) -> Change:
    return put("JSZ", "meta_cluster.leader", "", server, at)


def age(server: str, seconds: float) -> Change:
    """A change after which the server started so long ago."""

    def change(raw: Raw) -> None:
        for varz in answers(raw, "VARZ", server):
            varz["start"] = (datetime.fromisoformat(varz["now"]) - timedelta(seconds=seconds)).isoformat()

    return change


def healthz(server: str, answer: Raw | None, reason: str = "") -> Change:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if (sample["server"], sample["endpoint"]) == (server, "HEALTHZ"):
                sample["data"] = answer
                sample["unknown"] = {"reason": reason, "detail": "a test"} if reason else None

    return change


def error(text: str, kind: str = "JETSTREAM") -> Raw:
    return {"status": "error", "errors": [{"type": kind, "error": text}]}
