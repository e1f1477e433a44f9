"""A change of a StatefulSet that somebody else keeps: first the patch for their source, then the direct change, marked, with what will take it back and when.

Sources: reference/nats.md 4.5 (Helm 3 and 4, Argo CD, Flux, operators). Pure.
"""

from __future__ import annotations

import shlex
from typing import Final

import yaml

from bot.action import Draft, Patch
from bot.model import JsonObject
from bot.model.kubernetes import Owner, OwnerKind, Workload
from bot.model.kubernetes.charts import (
    EXPLICIT_ROUTES,
    Chart,
    ProbeWish,
    ResourcesWish,
    RoutesWish,
    Wish,
    chart_of_workload,
    chart_version,
    values_of,
)

IN_SOURCE_AS_WELL: Final = "Make the same change in its source as well, and do this first only where it can't wait."
"""Said of every change that is made beside its source."""


def owned(workload: Workload, wish: Wish, direct: Draft) -> tuple[Draft, ...]:
    """Return the direct change alone where nobody else keeps the object; else the owner's own way first, and the direct one marked after it."""
    owners = workload.owners
    if not owners:
        return (direct,)
    outermost = owners[0]
    marked = direct.model_copy(
        update={
            "title": f"{direct.title}, directly: it holds until {outermost.next_look}",
            # Composing names the owners as well: each is told once.
            "cautions": tuple(
                dict.fromkeys((*(owner.reverts for owner in owners), IN_SOURCE_AS_WELL, *direct.cautions))
            ),
        }
    )
    return (_in_source(workload, wish, direct, outermost), marked)


def _in_source(workload: Workload, wish: Wish, direct: Draft, owner: Owner) -> Draft:
    values = values_of(workload, wish)
    name = f"{workload.name}-values.yaml"
    where = str(owner)
    if values is None:
        guidance, patches = _by_hand(workload, wish, where), ()
    else:
        guidance, patches = _commands(workload, owner, name, wish), (Patch(name=name, text=_yaml(workload, values)),)
    return Draft(
        title=f"{direct.title}, in its source: {where}",
        why=f"{direct.why} {where} keeps StatefulSet {workload.name}, so only a change there lasts.",
        guidance=guidance,
        patches=patches,
    )


def _yaml(workload: Workload, values: JsonObject) -> str:
    head = f"# Merge this into the values of chart {workload.chart or 'nats'} ({chart_of_workload(workload)}).\n"
    return head + yaml.safe_dump(values, sort_keys=False)


def _commands(workload: Workload, owner: Owner, file: str, wish: Wish) -> tuple[str, ...]:
    merge = f"Merge {file} of this thread into the values of {owner}, and let it roll out in quiet hours."
    match owner.kind:
        case OwnerKind.HELM:
            namespace = shlex.quote(owner.namespace or workload.namespace)
            chart = (
                "oci://registry-1.docker.io/bitnamicharts/nats"
                if chart_of_workload(workload) is Chart.BITNAMI
                else "nats/nats"
            )
            version = ".".join(map(str, chart_version(workload) or ()))
            pinned = f" --version {version}" if version else ""
            return (
                merge,
                f"helm diff upgrade {shlex.quote(owner.name)} {chart}{pinned} -n {namespace} --reuse-values -f {shlex.quote(file)}",
                f"helm upgrade {shlex.quote(owner.name)} {chart}{pinned} -n {namespace} --reuse-values -f {shlex.quote(file)}",
                *_note(workload, wish),
            )
        case OwnerKind.ARGO_CD:
            return (
                merge,
                "In the Application they stand in `spec.source.helm.valuesObject` or in the values file it names in Git.",
                *_note(workload, wish),
            )
        case OwnerKind.FLUX_HELM:
            return (merge, "In the HelmRelease they stand below `spec.values`, in Git.", *_note(workload, wish))
        case OwnerKind.FLUX_KUSTOMIZE | OwnerKind.OPERATOR:
            return (merge, *_note(workload, wish))


def _by_hand(workload: Workload, wish: Wish, where: str) -> tuple[str, ...]:
    version = chart_version(workload)
    if isinstance(wish, RoutesWish) and chart_of_workload(workload) is Chart.BITNAMI:
        newest = ".".join(map(str, EXPLICIT_ROUTES))
        old = version is not None and version < EXPLICIT_ROUTES
        return (
            f"Bitnami's chart writes one route per pod from {newest} on; this is {workload.chart}."
            if old
            else f"Bitnami's chart {workload.chart} writes one route per pod by itself: look for an override in the values of {where}.",
            *(("Upgrade the chart of the release to that version or a later one of the same major.",) if old else ()),
        )
    if isinstance(wish, ProbeWish) and chart_of_workload(workload) is Chart.OFFICIAL_0:
        path = f"`container.merge.{wish.kind}Probe`"
        return (
            f"Chart {workload.chart} sets its probes below `nats.healthcheck` and has no value for the path: upgrade it to 1.x, where {path} takes any.",
        )
    return (f"Make the change in the source of {where}; which file that is natsmedic can't tell from the object.",)


def _note(workload: Workload, wish: Wish) -> tuple[str, ...]:
    match chart_of_workload(workload), wish:
        case Chart.OFFICIAL, RoutesWish():
            return (
                "The official chart writes one route per pod by itself: where the values override `config.cluster.merge.routes`, taking that out does it, too.",
                "Where routes need a user and a password, they belong into each of these addresses.",
            )
        case Chart.BITNAMI, ResourcesWish(gomemlimit=str()):
            return ("`extraEnvVars` is a list, and Helm replaces lists: add the entry to those that are there.",)
        case _:
            return ()
