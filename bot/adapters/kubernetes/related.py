"""Which objects of a namespace have to do with NATS: the others are no evidence and stay out of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from bot.model import JsonObject, Unknown, part, parts
from bot.model.kubernetes import Claim, Event, Kind, KubernetesFacts, Object, Pod, PodSpec, Service
from bot.model.kubernetes.cluster import SERVICE_LABEL
from bot.model.kubernetes.objects import text, text_map, texts

NATS_LABEL: Final = ("app.kubernetes.io/name", "nats")
"""Label of both charts (reference/nats.md 4.1, 4.4)."""
NATS_IMAGES: Final = frozenset({"nats", "nats-server"})
"""Last part of the names of images that run nats-server."""


def runs_nats(raw: JsonObject) -> bool:
    """Tell whether a StatefulSet looks like a NATS cluster: by the charts' label or by an image."""
    key, value = NATS_LABEL
    template = part(part(raw, "spec"), "template")
    labelled = any(text_map(part(one, "metadata"), "labels").get(key) == value for one in (raw, template))
    return labelled or any(c.image.base_name in NATS_IMAGES for c in PodSpec(part(template, "spec")).containers)


def selector_text(selector: JsonObject) -> str:
    """Return a label selector as the API takes it in a query."""
    terms = [f"{key}={value}" for key, value in text_map(selector, "matchLabels").items()]
    for expression in parts(selector, "matchExpressions"):
        key, values = text(expression, "key"), ",".join(texts(expression, "values"))
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "DoesNotExist": f"!{key}",
            }.get(text(expression, "operator"), key)
        )
    return ",".join(terms)


class Related:
    """Knows the workloads and their pods, and tells what belongs to them."""

    def __init__(self, facts: KubernetesFacts) -> None:
        self._unknown = facts.workloads if isinstance(facts.workloads, Unknown) else None
        self._workloads = () if isinstance(facts.workloads, Unknown) else facts.workloads
        self._blind = isinstance(facts.of(Kind.SERVICE), Unknown)
        """Without the services nobody knows whose endpoints are whose, so all of them are kept."""
        self._uids = {workload.uid for workload in self._workloads}
        self._services = {
            service.name
            for service in map(Service, _known(facts, Kind.SERVICE))
            for workload in self._workloads
            if service.name == workload.service_name or service.selects(workload.pod_labels)
        }
        specs = [workload.pod_spec for workload in self._workloads]
        specs += [Pod(raw).pod_spec for raw in _known(facts, Kind.POD)]
        self._mounted = {volume.claim for spec in specs for volume in spec.volumes.values() if volume.claim}

    def of(self, kind: Kind, items: Iterable[JsonObject]) -> tuple[JsonObject, ...] | Unknown:
        """Return those of a kind that belong to the workloads, and all of the kinds that there are few of. Where the workloads are not known, nobody
        knows what belongs to them.
        """
        tests: dict[Kind, Callable[[JsonObject], bool]] = {
            Kind.POD: lambda raw: self._owned(Object(raw)),
            Kind.REVISION: lambda raw: self._owned(Object(raw)),
            Kind.CLAIM: lambda raw: self.claims(Claim(raw)),
            Kind.ENDPOINTS: lambda raw: self._blind or Object(raw).name in self._services,
            Kind.ENDPOINT_SLICE: lambda raw: self._blind or Object(raw).labels.get(SERVICE_LABEL) in self._services,
            Kind.EVENT: lambda raw: self._happened_here(Event(raw)),
        }
        if kind not in tests:
            return tuple(items)
        return self._unknown or tuple(filter(tests[kind], items))

    def claims(self, claim: Claim) -> bool:
        """Tell whether a claim was made of a workload's template, or is mounted by it."""
        return claim.name in self._mounted or any(
            claim.name.startswith(f"{template.name}-{workload.name}-")
            for workload in self._workloads
            for template in workload.claim_templates
        )

    def _owned(self, found: Object) -> bool:
        return found.controller is not None and found.controller.uid in self._uids

    def _happened_here(self, event: Event) -> bool:
        """Events tell of pods that are gone, too, so pods and claims are known by the beginning of their names."""
        name = event.object_name
        match event.object_kind:
            case "StatefulSet":
                return any(name == workload.name for workload in self._workloads)
            case "Pod":
                return any(name.startswith(f"{workload.name}-") for workload in self._workloads)
            case "PersistentVolumeClaim":
                return self.claims(Claim({"metadata": {"name": name}}))
            case "Service" | "Endpoints":
                return name in self._services
            case kind:
                return kind == "PodDisruptionBudget"


def _known(facts: KubernetesFacts, kind: Kind) -> tuple[JsonObject, ...]:
    found = facts.of(kind)
    return () if isinstance(found, Unknown) else found
