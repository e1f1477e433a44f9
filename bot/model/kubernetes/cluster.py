"""The objects around a StatefulSet: services, volumes, budgets, events, revisions, nodes, and the custom resources of NACK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.model.base import Json, JsonObject, part, parts
from bot.model.kubernetes.objects import Object, matches, moment, number, quantity, size, text, text_map, texts
from bot.model.kubernetes.pods import Condition, PodSpec, conditions

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
HOST_LABEL: Final = "kubernetes.io/hostname"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""Label of an EndpointSlice with its service (discovery/v1 LabelServiceName)."""
DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class Service(Object):
    """A Service."""

    @property
    def headless(self) -> bool:
        """Whether its name resolves to the pods themselves."""
        return text(self.spec, "clusterIP") == "None"

    @property
    def publishes_not_ready(self) -> bool:
        """Whether pods have a name before they are ready; routes of a starting cluster need it."""
        return self.spec.get("publishNotReadyAddresses") is True

    @property
    def type(self) -> str:
        return text(self.spec, "type") or "ClusterIP"

    @property
    def ports(self) -> Mapping[str, int]:
        return {text(port, "name"): number(port, "port") for port in parts(self.spec, "ports")}

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether pods with these labels are behind it; a service without selector has no pods of its own."""
        selector = text_map(self.spec, "selector")
        return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


@dataclass(frozen=True, slots=True)
class Backend:
    """A pod behind a service."""

    service: str
    pod: str
    ip: str
    ready: bool


def backends_of_slice(raw: JsonObject) -> Iterator[Backend]:
    """Yield the backends of an EndpointSlice. Without a word on readiness an endpoint counts as ready (discovery/v1 EndpointConditions)."""
    service = text_map(part(raw, "metadata"), "labels").get(SERVICE_LABEL, "")
    for endpoint in parts(raw, "endpoints"):
        target = text(part(endpoint, "targetRef"), "name")
        ready = part(endpoint, "conditions").get("ready") is not False
        for address in texts(endpoint, "addresses"):
            yield Backend(service, target, address, ready)


def backends_of_endpoints(raw: JsonObject) -> Iterator[Backend]:
    """Yield the backends of an Endpoints object."""
    service = text(part(raw, "metadata"), "name")
    for subset in parts(raw, "subsets"):
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in parts(subset, key):
                yield Backend(service, text(part(address, "targetRef"), "name"), text(address, "ip"), ready)


@dataclass(frozen=True, slots=True)
class Claim(Object):
    """A PersistentVolumeClaim."""

    @property
    def phase(self) -> str:
        """`Pending`, `Bound` or `Lost`."""
        return text(self.status, "phase")

    @property
    def volume_name(self) -> str:
        """Empty while it is not bound."""
        return text(self.spec, "volumeName")

    @property
    def storage_class(self) -> str:
        return text(self.spec, "storageClassName")

    @property
    def requested(self) -> int | None:
        """Bytes."""
        return size(part(part(self.spec, "resources"), "requests").get("storage"))

    @property
    def capacity(self) -> int | None:
        """Bytes; less than requested while it is being grown."""
        return size(part(self.status, "capacity").get("storage"))

    @property
    def access_modes(self) -> tuple[str, ...]:
        return texts(self.spec, "accessModes")

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """`Resizing`, `FileSystemResizePending`, …"""
        return conditions(self.status)


@dataclass(frozen=True, slots=True)
class PersistentVolume(Object):
    """A PersistentVolume."""

    @property
    def source(self) -> str:
        """The key of its source: `nfs`, `csi`, `local`, `hostPath`, `cephfs`, …"""
        known = {
            "nfs",
            "csi",
            "local",
            "hostPath",
            "cephfs",
            "glusterfs",
            "rbd",
            "iscsi",
            "fc",
            "azureFile",
            "azureDisk",
        }
        known |= {
            "awsElasticBlockStore",
            "gcePersistentDisk",
            "vsphereVolume",
            "cinder",
            "flexVolume",
            "portworxVolume",
        }
        return next((key for key in self.spec if key in known), "")

    @property
    def driver(self) -> str:
        """Name of the CSI driver; empty for other sources."""
        return text(part(self.spec, "csi"), "driver")

    @property
    def capacity(self) -> int | None:
        """Bytes."""
        return size(part(self.spec, "capacity").get("storage"))

    @property
    def storage_class(self) -> str:
        return text(self.spec, "storageClassName")

    @property
    def reclaim_policy(self) -> str:
        """What becomes of the data when the claim goes: `Delete` or `Retain`."""
        return text(self.spec, "persistentVolumeReclaimPolicy")


@dataclass(frozen=True, slots=True)
class StorageClass(Object):
    """A StorageClass."""

    @property
    def provisioner(self) -> str:
        return text(self.raw, "provisioner")

    @property
    def expandable(self) -> bool:
        """Whether its volumes can be grown."""
        return self.raw.get("allowVolumeExpansion") is True

    @property
    def parameters(self) -> Mapping[str, str]:
        return text_map(self.raw, "parameters")

    @property
    def binding_mode(self) -> str:
        return text(self.raw, "volumeBindingMode") or "Immediate"

    @property
    def is_default(self) -> bool:
        return self.annotations.get(DEFAULT_CLASS) == "true"


@dataclass(frozen=True, slots=True)
class Budget(Object):
    """A PodDisruptionBudget."""

    @property
    def max_unavailable(self) -> Json:
        """An integer, a percentage such as `33%`, or None."""
        return self.spec.get("maxUnavailable")

    @property
    def min_available(self) -> Json:
        """An integer, a percentage, or None."""
        return self.spec.get("minAvailable")

    @property
    def disruptions_allowed(self) -> int:
        """How many pods may be evicted now."""
        return number(self.status, "disruptionsAllowed")

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether it protects pods with these labels. An empty selector selects nothing in policy/v1beta1 and everything in policy/v1."""
        selector = part(self.spec, "selector")
        if not selector:
            return text(self.raw, "apiVersion") == "policy/v1" and isinstance(self.spec.get("selector"), dict)
        return matches(selector, labels)


@dataclass(frozen=True, slots=True)
class Event(Object):
    """Something that happened to an object; kept for an hour by default."""

    @property
    def type(self) -> str:
        """`Normal` or `Warning`."""
        return text(self.raw, "type")

    @property
    def reason(self) -> str:
        return text(self.raw, "reason")

    @property
    def message(self) -> str:
        return text(self.raw, "message")

    @property
    def object_kind(self) -> str:
        return text(part(self.raw, "involvedObject"), "kind")

    @property
    def object_name(self) -> str:
        return text(part(self.raw, "involvedObject"), "name")

    @property
    def count(self) -> int:
        """How often it happened between `first_at` and `last_at`."""
        return max(number(self.raw, "count"), number(part(self.raw, "series"), "count"), 1)

    @property
    def first_at(self) -> datetime | None:
        return moment(self.raw.get("firstTimestamp")) or moment(self.raw.get("eventTime"))

    @property
    def last_at(self) -> datetime | None:
        found = moment(self.raw.get("lastTimestamp")) or moment(part(self.raw, "series").get("lastObservedTime"))
        return found or self.first_at or self.created_at


@dataclass(frozen=True, slots=True)
class Revision(Object):
    """A ControllerRevision: the pod template of a StatefulSet as it was."""

    @property
    def number(self) -> int:
        """Grows with each change; going back to an older template gives it a new number."""
        return number(self.raw, "revision")

    @property
    def pod_spec(self) -> PodSpec:
        return PodSpec(part(part(part(part(self.raw, "data"), "spec"), "template"), "spec"))


@dataclass(frozen=True, slots=True)
class Node(Object):
    """A node that pods run on."""

    @property
    def zone(self) -> str:
        return self.labels.get(ZONE_LABEL, "")

    @property
    def region(self) -> str:
        return self.labels.get(REGION_LABEL, "")

    @property
    def host(self) -> str:
        return self.labels.get(HOST_LABEL, "") or self.name

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return conditions(self.status)

    @property
    def ready(self) -> bool:
        condition = self.conditions.get("Ready")
        return condition is not None and condition.holds is True

    @property
    def pressures(self) -> tuple[str, ...]:
        """`MemoryPressure`, `DiskPressure`, `PIDPressure` where they hold."""
        return tuple(name for name, found in self.conditions.items() if name.endswith("Pressure") and found.holds)

    @property
    def schedulable(self) -> bool:
        return self.spec.get("unschedulable") is not True

    @property
    def allocatable_cpu(self) -> float | None:
        """Cores."""
        return quantity(part(self.status, "allocatable").get("cpu"))

    @property
    def allocatable_memory(self) -> int | None:
        """Bytes."""
        return size(part(self.status, "allocatable").get("memory"))


@dataclass(frozen=True, slots=True)
class StreamResource(Object):
    """A Stream of NACK (jetstream.nats.io): its controller keeps the stream as this resource says."""

    @property
    def stream(self) -> str:
        return text(self.spec, "name")

    @property
    def account(self) -> str:
        """Name of the Account resource it logs in with; empty for the controller's own login."""
        return text(self.spec, "account")


@dataclass(frozen=True, slots=True)
class ConsumerResource(Object):
    """A Consumer of NACK (jetstream.nats.io)."""

    @property
    def stream(self) -> str:
        return text(self.spec, "streamName")

    @property
    def consumer(self) -> str:
        return text(self.spec, "durableName") or text(self.spec, "name")

    @property
    def account(self) -> str:
        return text(self.spec, "account")
