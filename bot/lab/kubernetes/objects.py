"""Kubernetes objects as the stand-in holds them: plain JSON, and the few questions that every part asks of it."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

Raw = dict[str, Any]
"""One JSON object. What lies in the store is never changed in place: whoever changes something copies it first."""

Value = Any
"""Any value in JSON. A recursive type would be exact and could not be used: dictionaries are invariant."""

Clock = Callable[[], datetime]

QUANTITY: Final = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
"""apimachinery's `splitRE` (pkg/api/resource/quantity.go)."""

_SUFFIXES: Final[Mapping[str, float]] = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def is_object(value: object) -> TypeGuard[Raw]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Value]]:
    return isinstance(value, list)


def part(raw: Raw, *path: str) -> Raw:
    """The object at a path; an empty one where there is none."""
    found: Value = raw
    for key in path:
        found = found.get(key) if is_object(found) else None
    return found if is_object(found) else {}


def parts(raw: Raw, *path: str) -> list[Value]:
    """The list at a path; an empty one where there is none."""
    found = part(raw, *path[:-1]).get(path[-1])
    return found if is_list(found) else []


def now() -> datetime:
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """`2026-11-27T01:56:00Z`: the API's times have whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_of(raw: Raw) -> str:
    return str(raw["metadata"].get("name") or "")


def namespace_of(raw: Raw) -> str:
    return str(raw["metadata"].get("namespace") or "")


def uid_of(raw: Raw) -> str:
    return str(raw["metadata"].get("uid") or "")


def labels_of(raw: Raw) -> dict[str, str]:
    return part(raw["metadata"], "labels")


def terminating(raw: Raw) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def controller_of(raw: Raw) -> Raw | None:
    """The owner reference of the controller that made it."""
    return next((owner for owner in parts(raw, "metadata", "ownerReferences") if owner.get("controller")), None)


def condition(raw: Raw, kind: str) -> bool:
    """Tells whether a condition of the status is `True`."""
    found: Iterable[Raw] = parts(raw, "status", "conditions")
    return any(one.get("type") == kind and one.get("status") == "True" for one in found)


def running_and_ready(pod: Raw) -> bool:
    return part(pod, "status").get("phase") == "Running" and condition(pod, "Ready")


def matches(selector: Raw | None, labels: Mapping[str, str]) -> bool:
    """Tells whether a label selector of an object selects these labels. An empty one selects everything, a missing one nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in part(selector, "matchLabels").items()):
        return False
    for wanted in parts(selector, "matchExpressions"):
        value, values = labels.get(wanted["key"]), parts(wanted, "values")
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(wanted["operator"], False):
            return False
    return True


def quantity(text: object) -> float:
    """The number that a quantity means, e.g. 0.05 for `50m`. Raises ValueError."""
    found = QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix = found.groups()
    if suffix in _SUFFIXES:
        return float(number) * _SUFFIXES[suffix]
    return float(number + suffix)
