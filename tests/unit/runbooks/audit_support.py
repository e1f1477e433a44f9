"""How the tests of the cluster audit vary a recorded snapshot, and what they ask it."""

from collections.abc import Callable, Mapping
from typing import Any

from bot.model import Finding, Focus, Severity, Snapshot
from bot.runbook import Proposed, Thresholds
from runbooks.cluster_audit import RUNBOOK
from tests.unit.snapshots import Raw, answers, both, recorded

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
NEWEST = "audit_2.15.1"

Change = Callable[[Raw], None]


def examined(snapshot: Snapshot, overrides: Thresholds | None = None) -> dict[str, list[Finding]]:
    """All findings by check."""
    values = RUNBOOK.values(overrides)
    return {check.code: list(check.examine(snapshot, values, Focus())) for check in RUNBOOK.checks}


def worst(check: str, *changes: Change, overrides: Thresholds | None = None) -> Finding:
    """The worst finding of one check on the varied snapshot."""
    values = RUNBOOK.values(overrides)
    record = next(c for c in RUNBOOK.checks if c.code == check)
    return max(
        record.examine(recorded(NEWEST, both(*changes)), values, Focus()), key=lambda finding: finding.severity.rank
    )


def severity(check: str, *changes: Change, overrides: Thresholds | None = None) -> Severity:
    """How bad that is."""
    return worst(check, *changes, overrides=overrides).severity


def proposed(snapshot: Snapshot) -> list[Proposed]:
    """What the runbook proposes."""
    findings = [f for found in examined(snapshot).values() for f in found]
    return list(RUNBOOK.propose(snapshot, findings, RUNBOOK.values(), Focus()))


def put(endpoint: str, path: str, value: Any, server: str | None = None, at: int | None = None) -> Change:
    """A change that sets `a.b.c` in the answers to an endpoint; None of the parts is a list."""

    def change(raw: Raw) -> None:
        for answer in answers(raw, endpoint, server, at):
            *parts, last = path.split(".")
            for part in parts:
                answer = answer.setdefault(part, {})  # noqa: PLW2901 - the walk down the path
            answer[last] = value

    return change


def drop(endpoint: str, path: str, server: str | None = None) -> Change:
    """A change that removes a field."""

    def change(raw: Raw) -> None:
        for answer in answers(raw, endpoint, server):
            *parts, last = path.split(".")
            for part in parts:
                answer = answer.get(part, {})  # noqa: PLW2901
            answer.pop(last, None)

    return change


def once(raw: Raw) -> None:
    """A change that leaves one reading."""
    raw["samples"] = [s for s in raw["samples"] if s["round"] == 0]


def each(
    found: Callable[..., list[Raw]], fields: Mapping[str, Any], server: str | None = None, at: int | None = None
) -> Change:
    """A change of the raw views that `streams` or `consumers` of tests.unit.snapshots find; a dotted name goes down."""

    def change(raw: Raw) -> None:
        for view in found(raw, server, at):
            for path, value in fields.items():
                *parts, last = path.split(".")
                target = view
                for part in parts:
                    target = target.setdefault(part, {})
                target[last] = value

    return change


def silence(server: str, reason: str = "denied") -> Change:
    """A change after which a server told nothing at all."""

    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server:
                sample["data"] = None
                sample["unknown"] = {"reason": reason, "detail": "a test"}

    return change
