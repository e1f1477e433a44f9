"""What somebody writes into the values of a Helm chart so that a StatefulSet of NATS comes out as it should: the official chart and Bitnami's.

Sources: nats-io/k8s helm/charts/nats values.yaml (1.x; the same from 2.12 on), its 0.x predecessor, bitnami/charts bitnami/nats values.yaml (reference/nats.md 4.1,
4.4). A change that a chart has no value for gives no patch: nobody guesses paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bot.model.base import Json, JsonObject
from bot.model.kubernetes.cluster import HOST_LABEL
from bot.model.kubernetes.workload import Workload
from bot.model.probes import ProbeKind


class Chart(StrEnum):
    """Which chart made a StatefulSet."""

    OFFICIAL = "official"
    """nats-io/k8s from 1.0.0."""
    OFFICIAL_0 = "official 0.x"
    BITNAMI = "bitnami"


@dataclass(frozen=True, slots=True)
class ProbeWish:
    """A probe of the NATS container as it should be: a whole `core/v1 Probe`."""

    kind: ProbeKind
    probe: JsonObject


@dataclass(frozen=True, slots=True)
class ResourcesWish:
    """Requests and limits by resource name, and GOMEMLIMIT (None leaves it as it is)."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]
    gomemlimit: str | None = None


@dataclass(frozen=True, slots=True)
class ImageWish:
    """The tag of the server's image."""

    tag: str


@dataclass(frozen=True, slots=True)
class SpreadWish:
    """At most one pod on each node, or zone."""

    topology_key: str = HOST_LABEL
    required: bool = True


@dataclass(frozen=True, slots=True)
class BudgetWish:
    """A disruption budget that lets one pod go at a time."""


@dataclass(frozen=True, slots=True)
class ReplicasWish:
    """How many servers there are."""

    replicas: int


@dataclass(frozen=True, slots=True)
class RoutesWish:
    """One explicit route for each pod. `routes` are without user and password."""

    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitWish:
    """A setting of nats.conf by the blocks that lead to it, e.g. `("mqtt", "ack_wait")`, and its value: a text is a duration."""

    path: tuple[str, ...]
    value: bool | int | str


Wish = ProbeWish | ResourcesWish | ImageWish | SpreadWish | BudgetWish | ReplicasWish | RoutesWish | LimitWish

EXPLICIT_ROUTES: tuple[int, int, int] = (8, 5, 4)
"""Bitnami's chart lists one route per pod from this version on (reference/nats.md 4.4)."""

_VERSION = re.compile(r"^nats-(\d+)\.(\d+)\.(\d+)")
_FIRST_BITNAMI = 3
"""Major versions from here are Bitnami's: the official chart follows the server, whose major is 2."""


def chart_of_workload(workload: Workload) -> Chart | None:
    """Return the chart that made it, by `helm.sh/chart` and the image; None where it is neither."""
    version = chart_version(workload)
    if "bitnami" in workload.nats.image.repository:
        return Chart.BITNAMI
    if version is None:
        return None
    if version[0] >= _FIRST_BITNAMI:
        return Chart.BITNAMI
    return Chart.OFFICIAL if version[0] >= 1 else Chart.OFFICIAL_0


def chart_version(workload: Workload) -> tuple[int, int, int] | None:
    """Return the version in `helm.sh/chart: nats-1.2.6`; None where the label names another chart or none."""
    found = _VERSION.match(workload.chart)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def values_of(workload: Workload, wish: Wish) -> JsonObject | None:
    """Return the values to merge into those of the release; None where its chart is not known, or has no value for the wish."""
    match chart_of_workload(workload):
        case Chart.OFFICIAL:
            return _official(wish)
        case Chart.OFFICIAL_0:
            return _official_0(wish)
        case Chart.BITNAMI:
            return _bitnami(workload, wish)
        case None:
            return None


def _official(wish: Wish) -> JsonObject | None:
    match wish:
        case ProbeWish():
            return {"container": {"merge": {f"{wish.kind}Probe": wish.probe}}}
        case ResourcesWish():
            container: JsonObject = {"merge": {"resources": _resources(wish)}}
            if wish.gomemlimit is not None:
                container["env"] = {"GOMEMLIMIT": wish.gomemlimit}
            return {"container": container}
        case ImageWish():
            return {"container": {"image": {"tag": wish.tag}}}
        case SpreadWish():
            constraint = {"maxSkew": 1, "whenUnsatisfiable": _unsatisfiable(wish)}
            return {"podTemplate": {"topologySpreadConstraints": {wish.topology_key: constraint}}}
        case BudgetWish():
            return {"podDisruptionBudget": {"enabled": True, "merge": {"spec": {"maxUnavailable": 1}}}}
        case ReplicasWish():
            return {"config": {"cluster": {"enabled": True, "replicas": wish.replicas}}}
        case RoutesWish():
            return {"config": {"cluster": {"merge": {"routes": list(wish.routes)}}}}
        case LimitWish():
            return {"config": _merged(wish)}


def _official_0(wish: Wish) -> JsonObject | None:
    """Only what all of 0.x has in one form: image and budget changed theirs on the way."""
    match wish:
        case ResourcesWish(gomemlimit=None):
            return {"nats": {"resources": _resources(wish)}}
        case SpreadWish():
            return {"topologySpreadConstraints": [_constraint(wish)]}
        case ReplicasWish():
            return {"cluster": {"enabled": True, "replicas": wish.replicas}}
        case _:
            return None


def _bitnami(workload: Workload, wish: Wish) -> JsonObject | None:
    match wish:
        case ProbeWish():
            kind = wish.kind.value.capitalize()
            return {f"custom{kind}Probe": wish.probe}
        case ResourcesWish():
            values: JsonObject = {"resources": _resources(wish)}
            if wish.gomemlimit is not None:
                values["extraEnvVars"] = [{"name": "GOMEMLIMIT", "value": wish.gomemlimit}]
            return values
        case ImageWish():
            return {"image": {"tag": wish.tag}}
        case SpreadWish():
            selector = {"matchLabels": dict(workload.pod_labels)}
            return {"topologySpreadConstraints": [_constraint(wish) | {"labelSelector": selector}]}
        case BudgetWish():
            return {"pdb": {"create": True, "minAvailable": "", "maxUnavailable": 1}}
        case ReplicasWish():
            return {"replicaCount": wish.replicas}
        case RoutesWish():
            return None  # a newer chart writes them by itself: see EXPLICIT_ROUTES
        case LimitWish():
            return None  # its configuration is a text in one value, `configuration`


def _merged(wish: LimitWish) -> JsonObject:
    """The official chart takes `merge` for the file and for each of its own blocks."""
    *blocks, key = wish.path
    inner: JsonObject = {key: wish.value}
    for block in reversed(blocks[1:]):
        inner = {block: inner}
    return {blocks[0]: {"merge": inner}} if blocks else {"merge": inner}


def _resources(wish: ResourcesWish) -> JsonObject:
    wanted: dict[str, Json] = {"requests": dict(wish.requests), "limits": dict(wish.limits)}
    return {key: value for key, value in wanted.items() if value}


def _unsatisfiable(wish: SpreadWish) -> str:
    return "DoNotSchedule" if wish.required else "ScheduleAnyway"


def _constraint(wish: SpreadWish) -> JsonObject:
    return {"maxSkew": 1, "topologyKey": wish.topology_key, "whenUnsatisfiable": _unsatisfiable(wish)}
