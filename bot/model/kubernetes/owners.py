"""Who brings an object back to its own version of it: Helm, Argo CD, Flux, an operator (reference/nats.md 4.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bot.model.kubernetes.objects import Object

HELM_RELEASE: Final = "meta.helm.sh/release-name"
HELM_NAMESPACE: Final = "meta.helm.sh/release-namespace"
HELM_CHART: Final = "helm.sh/chart"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
INSTANCE: Final = "app.kubernetes.io/instance"
ARGO_TRACKING: Final = "argocd.argoproj.io/tracking-id"
ARGO_INSTANCE: Final = "argocd.argoproj.io/instance"
FLUX_HELM: Final = "helm.toolkit.fluxcd.io"
FLUX_KUSTOMIZE: Final = "kustomize.toolkit.fluxcd.io"


class OwnerKind(StrEnum):
    OPERATOR = "operator"
    """A custom resource's controller owns the object: only a change of that resource lasts."""
    ARGO_CD = "argocd"
    FLUX_HELM = "flux-helm"
    FLUX_KUSTOMIZE = "flux-kustomize"
    HELM = "helm"


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner and the marker that says so."""

    kind: OwnerKind
    name: str
    """Of the release, the application, the HelmRelease, the Kustomization, or `KIND NAME` of the owning resource."""
    namespace: str
    """Empty where the marker does not say."""
    marker: str

    def __str__(self) -> str:
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{_WORDS[self.kind]} {self.name}{place}"

    @property
    def reverts(self) -> str:
        """What it does to a change that is not made in its source, and when."""
        return f"{self} keeps this object ({self.marker}): {_REVERTS[self.kind]}"

    @property
    def next_look(self) -> str:
        """Until when such a change holds."""
        return _NEXT[self.kind]


_WORDS: Final[Mapping[OwnerKind, str]] = {
    OwnerKind.HELM: "Helm release",
    OwnerKind.ARGO_CD: "Argo CD application",
    OwnerKind.FLUX_HELM: "Flux HelmRelease",
    OwnerKind.FLUX_KUSTOMIZE: "Flux Kustomization",
    OwnerKind.OPERATOR: "operator's",
}

_REVERTS: Final[Mapping[OwnerKind, str]] = {
    OwnerKind.HELM: "Helm 3 takes back a field that the chart sets at the next `helm upgrade`; Helm 4 fails that upgrade with a conflict of field managers.",
    OwnerKind.ARGO_CD: "it shows OutOfSync; with `automated.selfHeal` it takes the change back within minutes, which rolls the pods once more. Pause the sync, or "
    "add the field to `ignoreDifferences`, before.",
    OwnerKind.FLUX_HELM: "Flux takes the change back at the next one of the HelmRelease, and within its interval where `driftDetection.mode` is `enabled`. Suspend "
    "it before.",
    OwnerKind.FLUX_KUSTOMIZE: "Flux applies it again at every interval and takes the change back. Suspend it before.",
    OwnerKind.OPERATOR: "its controller takes the change back as soon as it looks again, which may be at once.",
}
"""Reference/nats.md 4.5."""

_NEXT: Final[Mapping[OwnerKind, str]] = {
    OwnerKind.HELM: "Helm's next upgrade",
    OwnerKind.ARGO_CD: "Argo CD's next sync",
    OwnerKind.FLUX_HELM: "Flux's next look",
    OwnerKind.FLUX_KUSTOMIZE: "Flux's next look",
    OwnerKind.OPERATOR: "the operator's next look",
}


def owners_of(found: Object) -> tuple[Owner, ...]:
    """Return who owns an object, the outermost first: Argo CD and Flux render charts and leave Helm's markers in them."""
    return tuple(_owners(found))


def chart_of(found: Object) -> str:
    """Return the chart and its version, e.g. `nats-1.2.6`; empty where no label says so."""
    return found.labels.get(HELM_CHART, "")


def _owners(found: Object) -> Iterator[Owner]:
    labels, annotations = found.labels, found.annotations
    if (reference := found.controller) is not None:
        yield Owner(
            OwnerKind.OPERATOR,
            f"{reference.kind} {reference.name}",
            found.namespace,
            f"ownerReferences {reference.uid}",
        )
    # `APP:GROUP/KIND:NAMESPACE/NAME`; an application outside Argo CD's own namespace is `NAMESPACE_APP`.
    if tracking := annotations.get(ARGO_TRACKING) or labels.get(ARGO_TRACKING):
        namespace, _, name = tracking.partition(":")[0].rpartition("_")
        yield Owner(OwnerKind.ARGO_CD, name, namespace, ARGO_TRACKING)
    elif name := labels.get(ARGO_INSTANCE) or annotations.get(ARGO_INSTANCE):
        yield Owner(OwnerKind.ARGO_CD, name, "", ARGO_INSTANCE)
    for kind, prefix in ((OwnerKind.FLUX_HELM, FLUX_HELM), (OwnerKind.FLUX_KUSTOMIZE, FLUX_KUSTOMIZE)):
        if name := labels.get(f"{prefix}/name"):
            yield Owner(kind, name, labels.get(f"{prefix}/namespace", ""), f"{prefix}/name")
    if name := annotations.get(HELM_RELEASE):
        yield Owner(OwnerKind.HELM, name, annotations.get(HELM_NAMESPACE, ""), HELM_RELEASE)
    elif labels.get(MANAGED_BY) == "Helm":
        yield Owner(OwnerKind.HELM, labels.get(INSTANCE, ""), "", MANAGED_BY)
