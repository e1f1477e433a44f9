"""A field that a check needs and can't read is unknown, by its name.

Nobody lists these fields: a check needs what changes its findings where another value of the same type stands. Such a field is then spoiled by values of
other types, on every server and in every round. Which check of a runbook says so is its own affair: its verdict is not healthy then.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from bot.flow import examination
from bot.model import Finding, Focus, Severity, canonical_json
from tests.unit.runbooks.every_check import CHECKS, REGISTRY, examine
from tests.unit.snapshots import Raw, raw_of, snapshot_from

RECORDING = "audit_2.15.1"
ENDPOINTS = sorted({endpoint for _, check in CHECKS.values() for endpoint in check.needs})

NEEDLESS: Mapping[tuple[str, str], str] = {
    ("AUDIT_CONFIG_DRIFT", ""): "compares settings as they are, whatever they are",
    ("MESH_CLUSTER_NAME", "cluster.name"): "every answer's header names the cluster too",
    ("STREAM_SYNC", ".config"): "compares whole configurations as they are",
    ("META_GAP", "SYS"): "an account's name is no field; it says that `_meta_` is missing",
}
"""Why a check need not complain of fields with this in their path."""

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


def told(raw: Raw, codes: Iterable[str]) -> Told:
    snapshot = snapshot_from(raw)
    return {code: examine(snapshot, code) for code in codes}


def judged(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return sorted((finding.severity, str(finding.subject)) for finding in findings)


def needed(raw: Raw, endpoint: str, codes: Sequence[str]) -> dict[str, set[str]]:
    """The paths that checks need, with the checks' codes."""
    healthy = {code: judged(findings) for code, findings in told(raw, codes).items()}
    found: dict[str, set[str]] = {}
    for one in ("n0", None):
        for path, at in places(raw, endpoint, one).items():
            for value in others_like(at[0][2]):
                with instead(at, value):
                    changed = {code for code, findings in told(raw, codes).items() if judged(findings) != healthy[code]}
                found.setdefault(path, set()).update(changed)
    return {path: changed for path, changed in found.items() if changed}


def excused(code: str, path: str) -> bool:
    return any(code == check and part in path for check, part in NEEDLESS)


def names(findings: Iterable[Finding], field: str) -> bool:
    """Whether one of them is unknown and says that it is for this field."""
    return any(f.severity is Severity.UNKNOWN and field in f.sentence + canonical_json(f.evidence) for f in findings)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_needed_field_of_another_type_is_unknown_by_its_name(endpoint: str) -> None:
    raw = raw_of(RECORDING)
    everywhere, silent = places(raw, endpoint), list[str]()
    for path, codes in needed(
        raw, endpoint, [c for c, (_, check) in CHECKS.items() if endpoint in check.needs]
    ).items():
        field = path.removesuffix(".*").rpartition(".")[2]
        runbooks = [r for r in REGISTRY.runbooks if codes & {check.code for check in r.checks}]
        for value in others_unlike(everywhere[path][0][2]):
            with instead(everywhere[path], value):
                snapshot = snapshot_from(raw)
                # As the product judges: fields of streams and consumers are told by the examination, whatever a check makes of them.
                judged = {r.code: examination.examine(snapshot, r, r.values(), Focus()).findings for r in runbooks}
            for runbook in runbooks:
                for code in sorted(codes & {check.code for check in runbook.checks}):
                    if not names(judged[runbook.code], field) and not excused(code, path):
                        silent.append(f"{code} with {path} = {value!r}")
    assert not silent, "\n".join(silent)
