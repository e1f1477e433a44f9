"""How the tests of stream groups vary recorded snapshots, and what they ask them.

Servers play roles here, whatever they were called when it was recorded: n0 leads ORDERS (R3, 200 messages; its Raft group is `GROUP`), n1 leads its
consumer `worker`. Two rounds, 1 s apart.
"""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from bot.model import Finding, Focus, Severity, Snapshot
from bot.runbook import Proposed
from runbooks.stream_groups import RUNBOOK
from tests.unit.runbooks.audit_support import Change
from tests.unit.snapshots import Raw, both, consumers, recorded, streams

BASE = "audit_2.11.11"
GROUP = "S-R3F-5de3KVbQ"
OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
SETTLED = {"settle": 0.5}
"""So short that the two rounds of the fixtures count as lasting."""


def based(name: str = BASE, *changes: Change) -> Snapshot:
    """The recording with its roles played, varied."""
    return recorded(name, both(play, *changes))


def play(raw: Raw) -> None:
    """Give the servers and the Raft group of ORDERS the names of their roles; a recording without its consumers is left as it is."""
    first = next((s for s in streams(raw) if s.get("cluster")), None)
    workers = [c["cluster"]["leader"] for c in consumers(raw) if c.get("cluster")]
    if first is None or not workers:
        return
    leader, worker = first["cluster"]["leader"], workers[0]
    others = [name for name in ("n0", "n1", "n2") if name != leader]
    second = worker if worker != leader else others[0]
    (third,) = set(others) - {second}
    names = {leader: "n0", second: "n1", third: "n2"}
    text = json.dumps(raw).replace(first["stream_raft_group"], GROUP)
    changed = json.loads(re.sub(r"\bn[012]\b", lambda found: names[found.group()], text))
    raw.clear()
    raw.update(changed)


def found(
    check: str, *changes: Change, name: str = BASE, focus: Focus | None = None, settle: float = 0.5
) -> list[Finding]:
    """The findings of one check on a varied snapshot."""
    record = next(c for c in RUNBOOK.checks if c.code == check)
    values = RUNBOOK.values({"settle": settle})
    return list(record.examine(based(name, *changes), values, focus or Focus()))


def worst(check: str, *changes: Change, name: str = BASE, focus: Focus | None = None, settle: float = 0.5) -> Finding:
    """The worst finding of one check on a varied snapshot."""
    return max(found(check, *changes, name=name, focus=focus, settle=settle), key=lambda f: f.severity.rank)


def level(check: str, *changes: Change, name: str = BASE, settle: float = 0.5) -> Severity:
    """How bad that is."""
    return worst(check, *changes, name=name, settle=settle).severity


def examined(snapshot: Snapshot) -> list[Finding]:
    """All findings, in the order of the checks."""
    values = RUNBOOK.values(SETTLED)
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, Focus())]


def proposed(snapshot: Snapshot) -> list[Proposed]:
    """What the runbook proposes."""
    return list(RUNBOOK.propose(snapshot, examined(snapshot), RUNBOOK.values(SETTLED), Focus()))


def peer(name: str, at: int | None = None, **fields: Any) -> Change:
    """A change of a member as every server lists it."""

    def change(raw: Raw) -> None:
        for stream in streams(raw, at=at):
            for replica in stream["cluster"].get("replicas") or []:
                if replica["name"] == name:
                    replica.update(fields)

    return change


def gone(server: str, at: int | None = None) -> Change:
    """A change after which a server answers and holds no stream."""

    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "JSZ" and sample["server"] == server and at in {None, sample["round"]}:
                sample["data"]["account_details"] = []

    return change


def apart(seconds: float) -> Change:
    """A change of the time between the end of the first and the start of the second round."""

    def change(raw: Raw) -> None:
        rounds = [[s for s in raw["samples"] if s["endpoint"] == "JSZ" and s["round"] == n] for n in (0, 1)]
        end = max(datetime.fromisoformat(s["taken_at"]) for s in rounds[0])
        for sample in rounds[1]:
            sample["taken_at"] = (end + timedelta(seconds=seconds)).isoformat()

    return change


def raft(server: str, name: str, change: Callable[[dict[str, Any]], None]) -> Change:
    """A change of the Raft groups that RAFTZ of a server lists for an account."""

    def apply(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "RAFTZ" and sample["server"] == server:
                change(sample["data"].setdefault(name, {}))

    return apply


def health(server: str, *errors: dict[str, str]) -> Change:
    """A change after which HEALTHZ of a server complains."""

    def apply(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "HEALTHZ" and sample["server"] == server:
                sample["data"] = {"status": "error", "errors": list(errors)}

    return apply
