"""What every Kubernetes object has: names, labels, who owns it and who wrote which of its fields. Views over raw JSON as the API server answered it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from bot.model.base import Json, JsonObject, part, parts

_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")
_FACTORS: Final = (
    {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}
    | {unit: 1000.0**power for power, unit in enumerate("MGTPE", start=2)}
    | {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", start=1)}
)
"""Suffixes of `resource.Quantity` (apimachinery pkg/api/resource/quantity.go)."""


def quantity(value: object) -> float | None:
    """Return a Kubernetes quantity such as `250m`, `1.5` or `8Gi` as a number; None where it is absent or none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    number, exponent, unit = found.groups()
    return float(number + (exponent or "")) * _FACTORS.get(unit or "", 1.0)


def size(value: object) -> int | None:
    """Return a quantity in bytes."""
    found = quantity(value)
    return None if found is None else round(found)


def moment(value: object) -> datetime | None:
    """Return an RFC 3339 time in UTC; None where it is absent or none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def text(raw: JsonObject, key: str) -> str:
    """Return the text below `key`; empty where it is absent."""
    found: Json = raw.get(key)
    return found if isinstance(found, str) else ""


def number(raw: JsonObject, key: str, default: int = 0) -> int:
    """Return the integer below `key`."""
    found: Json = raw.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def texts(raw: JsonObject, key: str) -> tuple[str, ...]:
    """Return the texts of the list below `key`."""
    found: Json = raw.get(key)
    return tuple(str(item) for item in cast("list[Json]", found)) if isinstance(found, list) else ()


def text_map(raw: JsonObject, key: str) -> Mapping[str, str]:
    """Return the map of texts below `key`."""
    return {name: str(value) for name, value in part(raw, key).items()}


@dataclass(frozen=True, slots=True)
class FieldManager:
    """One entry of `managedFields`: who wrote, how, and when."""

    name: str
    operation: str
    """`Apply` is server-side apply, which makes others conflict; `Update` is everything else."""
    at: datetime | None
    subresource: str


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry of `ownerReferences`."""

    kind: str
    name: str
    uid: str
    api_version: str
    controller: bool


@dataclass(frozen=True, slots=True)
class Object:
    """An object as the API server answered it, without its secrets."""

    raw: JsonObject

    @property
    def kind(self) -> str:
        return text(self.raw, "kind")

    @property
    def metadata(self) -> JsonObject:
        return part(self.raw, "metadata")

    @property
    def spec(self) -> JsonObject:
        return part(self.raw, "spec")

    @property
    def status(self) -> JsonObject:
        return part(self.raw, "status")

    @property
    def name(self) -> str:
        return text(self.metadata, "name")

    @property
    def namespace(self) -> str:
        return text(self.metadata, "namespace")

    @property
    def uid(self) -> str:
        return text(self.metadata, "uid")

    @property
    def resource_version(self) -> str:
        return text(self.metadata, "resourceVersion")

    @property
    def generation(self) -> int:
        """Counts changes of the spec."""
        return number(self.metadata, "generation")

    @property
    def created_at(self) -> datetime | None:
        return moment(self.metadata.get("creationTimestamp"))

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self.metadata

    @property
    def labels(self) -> Mapping[str, str]:
        return text_map(self.metadata, "labels")

    @property
    def annotations(self) -> Mapping[str, str]:
        """Values of annotations that are not known to be harmless read `[redacted]`."""
        return text_map(self.metadata, "annotations")

    @property
    def references(self) -> tuple[Reference, ...]:
        """The objects it belongs to, and is deleted with."""
        return tuple(
            Reference(
                text(r, "kind"), text(r, "name"), text(r, "uid"), text(r, "apiVersion"), r.get("controller") is True
            )
            for r in parts(self.metadata, "ownerReferences")
        )

    @property
    def controller(self) -> Reference | None:
        """The one object that manages it."""
        return next((reference for reference in self.references if reference.controller), None)

    def managers(self, *path: str | Mapping[str, Json]) -> tuple[FieldManager, ...]:
        """Return who wrote the field at `path`, or all who wrote anything for an empty path.

        A step is a field's name, or for an item of a list the fields that identify it: `("spec", "template", "spec", "containers", {"name": "nats"}, "image")`.
        The names are the keys of `FieldsV1` (sigs.k8s.io/structured-merge-diff). A manager of a whole map or list counts for each field in it.
        """
        return tuple(
            FieldManager(
                text(entry, "manager"), text(entry, "operation"), moment(entry.get("time")), text(entry, "subresource")
            )
            for entry in parts(self.metadata, "managedFields")
            if _manages(part(entry, "fieldsV1"), path)
        )


def _manages(fields: JsonObject, path: tuple[str | Mapping[str, Json], ...]) -> bool:
    here = fields
    for step in path:
        if not here:
            return True
        below = here.get(f"f:{step}") if isinstance(step, str) else _item(here, step)
        if not isinstance(below, dict):
            return False
        here = cast("JsonObject", below)
    return True


def _item(fields: JsonObject, identity: Mapping[str, Json]) -> Json:
    """Return the fields of the list item that these values identify."""
    for key, below in fields.items():
        if key.startswith("k:"):
            try:
                found: Json = json.loads(key.removeprefix("k:"))
            except ValueError:
                continue
            if found == identity:
                return below
    return None


def matches(selector: JsonObject, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector (`matchLabels` and `matchExpressions`) selects these labels; an empty one selects everything."""
    wanted = text_map(selector, "matchLabels")
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression_holds(expression, labels) for expression in parts(selector, "matchExpressions"))


def _expression_holds(expression: JsonObject, labels: Mapping[str, str]) -> bool:
    key, values = text(expression, "key"), texts(expression, "values")
    match text(expression, "operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False
