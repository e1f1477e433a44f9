"""A field that a check needs and can't read is unknown, by its name.

Nobody lists these fields: a check needs what changes its findings where another value of the same type stands. Such a field is then spoiled by values of
other types, on every server and in every round.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from bot.bootstrap import registry
from bot.model import Finding, Focus, Severity, Snapshot, canonical_json
from bot.runbook import Check, Runbook
from tests.unit.snapshots import Raw, raw_of, snapshot_from

RUNBOOKS = registry().runbooks
RECORDING = "audit_2.15.1"
ENDPOINTS = sorted({endpoint for runbook in RUNBOOKS for endpoint in runbook.needs})

ASSETS = "account_details"
"""Streams and consumers are read into typed states, which tell what they could not read by themselves."""

NEEDLESS: Mapping[tuple[str, str], str] = {
    ("AUDIT_CONFIG_DRIFT", ""): "compares settings as they are, whatever they are",
    ("MESH_CLUSTER_NAME", "cluster.name"): "every answer's header names the cluster too",
}
"""Why a check need not complain of the fields (of the field, by its path) that it looks at."""

Place = tuple[Any, Any, Any]
"""A container, a key in it, and what stands there."""

Told = Mapping[str, Sequence[Finding]]


def places(raw: Raw, endpoint: str, server: str | None = None) -> dict[str, list[Place]]:
    """Every field of the answers to an endpoint by its path; the items of a list share one."""
    found: dict[str, list[Place]] = {}

    def walk(value: Any, path: str) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            below = f"{path}.{key if isinstance(value, dict) else '*'}".lstrip(".")
            found.setdefault(below, []).append((value, key, inner))
            walk(inner, below)

    for sample in raw["samples"]:
        if sample["endpoint"] == endpoint and sample["data"] is not None and server in {None, sample["server"]}:
            walk(sample["data"], "")
    return found


@contextmanager
def instead(at: list[Place], value: Any) -> Generator[None]:
    """Another value at these places for a while."""
    for container, key, _ in at:
        container[key] = value
    try:
        yield
    finally:
        for container, key, before in at:
            container[key] = before


def others_like(value: Any) -> list[Any]:
    """Other values of the same type."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [0, value + 1, 2**40]
        case str():
            return ["", "x y", "other"]
        case list():
            return [[], value * 2]
        case dict():
            return [{}]
        case _:
            return []


def others_unlike(value: Any) -> list[Any]:
    """Values of other types."""
    match value:
        case bool():
            return ["yes", 7, [1]]
        case int() | float():
            return ["many", True, [1], {"a": 1}]
        case str():
            return [7, ["x"], {"a": 1}]
        case list():
            return ["x", 7, {"a": 1}]
        case _:
            return ["x", 7, [1]]


def told(raw: Raw, checks: Sequence[tuple[Runbook, Check]]) -> Told:
    snapshot = snapshot_from(raw)
    return {check.code: check.examine(snapshot, runbook.values(), Focus()) for runbook, check in checks}


def judged(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return sorted((finding.severity, str(finding.subject)) for finding in findings)


def needed(raw: Raw, endpoint: str, checks: Sequence[tuple[Runbook, Check]]) -> dict[str, set[str]]:
    """The paths that checks need, with the checks' codes."""
    healthy = {code: judged(findings) for code, findings in told(raw, checks).items()}
    found: dict[str, set[str]] = {}
    for one in ("n0", None):
        for path, at in places(raw, endpoint, one).items():
            for value in others_like(at[0][2]):
                with instead(at, value):
                    changed = {
                        code for code, findings in told(raw, checks).items() if judged(findings) != healthy[code]
                    }
                found.setdefault(path, set()).update(changed)
    return {path: codes for path, codes in found.items() if codes}


def excused(code: str, path: str) -> bool:
    return any(code == check and path.endswith(field) for check, field in NEEDLESS)


def unknown(findings: Sequence[Finding]) -> list[str]:
    return [f.sentence + canonical_json(f.evidence) for f in findings if f.severity is Severity.UNKNOWN]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_needed_field_of_another_type_is_unknown_by_its_name(endpoint: str) -> None:
    raw = raw_of(RECORDING)
    checks = [(runbook, check) for runbook in RUNBOOKS for check in runbook.checks if endpoint in check.needs]
    everywhere, silent = places(raw, endpoint), list[str]()
    for path, codes in needed(raw, endpoint, checks).items():
        if path.startswith(ASSETS):
            continue
        name = path.removesuffix(".*").rpartition(".")[2]
        for value in others_unlike(everywhere[path][0][2]):
            with instead(everywhere[path], value):
                findings = told(raw, checks)
            for code in sorted(codes):
                runbook = next(r for r, check in checks if check.code == code)
                of_runbook = [t for r, check in checks if r is runbook for t in unknown(findings[check.code])]
                named = unknown(findings[code]) and any(name in text for text in of_runbook)
                if not named and not excused(code, path):
                    silent.append(f"{code} with {path} = {value!r}")
    assert not silent, "\n".join(silent)


@pytest.mark.skipif(not hasattr(Snapshot, "complaints"), reason="states of streams and consumers do not complain yet")
def test_a_needed_field_of_a_stream_or_consumer_of_another_type_is_a_complaint_by_its_name() -> None:
    raw = raw_of(RECORDING)
    checks = [(runbook, check) for runbook in RUNBOOKS for check in runbook.checks if "JSZ" in check.needs]
    everywhere, silent = places(raw, "JSZ"), list[str]()
    for path in needed(raw, "JSZ", checks):
        if not path.startswith(ASSETS):
            continue
        name = path.removesuffix(".*").rpartition(".")[2]
        for value in others_unlike(everywhere[path][0][2]):
            with instead(everywhere[path], value):
                snapshot: Any = snapshot_from(raw)
                complaints = [str(complaint) for n in range(snapshot.rounds) for complaint in snapshot.complaints(n)]
            if not any(name in complaint for complaint in complaints):
                silent.append(f"{path} = {value!r}")
    assert not silent, "\n".join(silent)
