"""Keeps pods apart: adds a topology spread constraint or an anti-affinity on hosts or zones to the template. What is there stays."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from bot.actions._statefulset import with_spec
from bot.actions._template_edit import EditParams, TemplateEdit
from bot.errors import Refused
from bot.model import JsonObject, part, parts

HOST: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_HEAVIEST: Final = 100
"""The most that a preference may weigh (core/v1 WeightedPodAffinityTerm)."""


class Means(StrEnum):
    """How pods are kept apart."""

    SPREAD = "spread"
    ANTI_AFFINITY = "anti-affinity"


class SpreadParams(EditParams):
    """By which topology, and whether a pod rather stays pending than break it."""

    means: Means = Means.SPREAD
    topology: Annotated[str, Field(pattern=f"^({HOST}|{ZONE})$")] = HOST
    required: bool = False


def edit(template: JsonObject, params: SpreadParams) -> JsonObject:
    """Return the template with the constraint. Raises `Refused` where its pods have no labels to be told by."""
    labels = part(part(template, "metadata"), "labels")
    selector: JsonObject = {"matchLabels": {key: labels[key] for key in sorted(labels) if _stable(key)}}
    if not selector["matchLabels"]:
        raise Refused("The template's pods have no labels that a constraint could tell them by.")
    spec = part(template, "spec")
    if params.means is Means.SPREAD:
        kept = [row for row in parts(spec, "topologySpreadConstraints") if row.get("topologyKey") != params.topology]
        row: JsonObject = {
            "maxSkew": 1,
            "topologyKey": params.topology,
            "whenUnsatisfiable": "DoNotSchedule" if params.required else "ScheduleAnyway",
            "labelSelector": selector,
        }
        return with_spec(template, {"topologySpreadConstraints": [*kept, row]})
    return with_spec(template, {"affinity": _affinity(part(spec, "affinity"), params, selector)})


def touches(params: SpreadParams) -> tuple[str, ...]:
    """Return the constraint of this topology, or the whole affinity."""
    return (f"spread.{params.topology}",) if params.means is Means.SPREAD else ("affinity",)


def summary(params: SpreadParams) -> str:
    """Say what keeps pods apart."""
    place = "host" if params.topology == HOST else "zone"
    must = "must" if params.required else "should"
    return f"Pods of {params.target.statefulset} {must} be on different {place}s ({params.means} on {params.topology})"


def _affinity(affinity: JsonObject, params: SpreadParams, selector: JsonObject) -> JsonObject:
    apart = part(affinity, "podAntiAffinity")
    term: JsonObject = {"topologyKey": params.topology, "labelSelector": selector}
    if params.required:
        kept = [one for one in parts(apart, _REQUIRED) if one.get("topologyKey") != params.topology]
        return affinity | {"podAntiAffinity": apart | {_REQUIRED: [*kept, term]}}
    weighted: JsonObject = {"weight": _HEAVIEST, "podAffinityTerm": term}
    rest = [w for w in parts(apart, _PREFERRED) if part(w, "podAffinityTerm").get("topologyKey") != params.topology]
    return affinity | {"podAntiAffinity": apart | {_PREFERRED: [*rest, weighted]}}


def _stable(label: str) -> bool:
    """Labels that a chart's next version changes would select nobody after its upgrade."""
    return label not in {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"}


ACTION: Final = TemplateEdit(
    kind="kubernetes.spread",
    title="Pods kept apart",
    params=SpreadParams,
    edit=edit,
    touches=touches,
    summary=summary,
    effects=(
        "A volume that is bound to a node or zone keeps its pod there: a required constraint that contradicts it leaves the pod pending.",
    ),
)
