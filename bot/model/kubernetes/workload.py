"""The StatefulSet that runs NATS, and everything around it as seen from there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bot.model.base import JsonObject, part, parts
from bot.model.kubernetes.cluster import (
    Backend,
    Budget,
    Claim,
    Event,
    Node,
    PersistentVolume,
    Revision,
    Service,
    StorageClass,
    backends_of_endpoints,
    backends_of_slice,
)
from bot.model.kubernetes.containers import NATS, Container, Mount, Volume, VolumeKind
from bot.model.kubernetes.listing import ConfigFile, Kind, Source
from bot.model.kubernetes.objects import Object, number, text, text_map
from bot.model.kubernetes.owners import Owner, chart_of, owners_of
from bot.model.kubernetes.pods import Pod, PodSpec
from bot.model.nats_conf import REDACTED, ConfError, NatsConf, read_conf
from bot.model.sample import Unknown, UnknownReason

T = TypeVar("T", bound=Object)

_REFERENCE: Final = re.compile(r"\$\$|\$\(([^()]*)\)")
"""A dollar sign, or a reference to another variable of the environment."""

DEFAULT_STORE: Final = "/tmp/nats/jetstream"  # noqa: S108 - not a file of ours
"""Where a server stores that is told nothing else (server/jetstream.go, os.TempDir)."""


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One `topologySpreadConstraints` entry."""

    topology_key: str
    max_skew: int
    required: bool
    """Whether the scheduler rather leaves a pod pending than break it."""
    selector: JsonObject


@dataclass(frozen=True, slots=True)
class AntiAffinity:
    """One term of `podAntiAffinity`."""

    topology_key: str
    required: bool
    selector: JsonObject


@dataclass(frozen=True, slots=True)
class ClaimTemplate:
    """One `volumeClaimTemplates` entry; they can't be changed afterwards."""

    raw: JsonObject

    @property
    def name(self) -> str:
        return text(part(self.raw, "metadata"), "name")

    @property
    def claim(self) -> Claim:
        return Claim(self.raw)


@dataclass(frozen=True, slots=True)
class Workload(Object):
    """A StatefulSet of NATS. Views of other objects are `Unknown` where these could not be read."""

    source: Source = field(repr=False, compare=False)

    # What it asks for.

    @property
    def replicas(self) -> int:
        return number(self.spec, "replicas", 1)

    @property
    def service_name(self) -> str:
        """The service that gives each pod its name in DNS."""
        return text(self.spec, "serviceName")

    @property
    def pod_management_policy(self) -> str:
        """`OrderedReady` waits for each pod before the next; `Parallel` does not."""
        return text(self.spec, "podManagementPolicy") or "OrderedReady"

    @property
    def update_strategy(self) -> str:
        """`RollingUpdate` or `OnDelete`."""
        return text(part(self.spec, "updateStrategy"), "type") or "RollingUpdate"

    @property
    def partition(self) -> int:
        """Pods with a lower ordinal keep the old template."""
        return number(part(part(self.spec, "updateStrategy"), "rollingUpdate"), "partition")

    @property
    def selector(self) -> JsonObject:
        return part(self.spec, "selector")

    @property
    def pod_labels(self) -> Mapping[str, str]:
        """Labels of the pods that its template makes."""
        return text_map(part(part(self.spec, "template"), "metadata"), "labels")

    @property
    def pod_annotations(self) -> Mapping[str, str]:
        return text_map(part(part(self.spec, "template"), "metadata"), "annotations")

    @property
    def pod_spec(self) -> PodSpec:
        """The template: what the next pod is made of. Running pods may be older."""
        return PodSpec(part(part(self.spec, "template"), "spec"))

    @property
    def grace_seconds(self) -> int:
        return self.pod_spec.grace_seconds

    def container(self, name: str) -> Container | None:
        return self.pod_spec.container(name)

    @property
    def nats(self) -> Container:
        """The container that runs nats-server: by its name, else by its image, else the first one."""
        containers = self.pod_spec.containers
        by_name = next((c for c in containers if c.name == NATS), None)
        by_image = next((c for c in containers if c.image.base_name in {NATS, "nats-server"}), None)
        return by_name or by_image or next(iter(containers), Container({}))

    @property
    def reloader(self) -> Container | None:
        """The sidecar that makes nats-server load a changed configuration (reference/nats.md 4.2)."""
        return next((c for c in self.pod_spec.containers if "config-reloader" in c.image.base_name), None)

    @property
    def volumes(self) -> Mapping[str, Volume]:
        """The template's; those made of claim templates are in `claim_templates`."""
        return self.pod_spec.volumes

    @property
    def claim_templates(self) -> tuple[ClaimTemplate, ...]:
        return tuple(ClaimTemplate(raw) for raw in parts(self.spec, "volumeClaimTemplates"))

    @property
    def spread(self) -> tuple[SpreadConstraint, ...]:
        return tuple(
            SpreadConstraint(
                text(raw, "topologyKey"),
                number(raw, "maxSkew", 1),
                text(raw, "whenUnsatisfiable") != "ScheduleAnyway",
                part(raw, "labelSelector"),
            )
            for raw in parts(self.pod_spec.raw, "topologySpreadConstraints")
        )

    @property
    def anti_affinity(self) -> tuple[AntiAffinity, ...]:
        terms = part(part(self.pod_spec.raw, "affinity"), "podAntiAffinity")
        required = parts(terms, "requiredDuringSchedulingIgnoredDuringExecution")
        preferred = parts(terms, "preferredDuringSchedulingIgnoredDuringExecution")
        weighted = [(term, True) for term in required]
        weighted += [(part(entry, "podAffinityTerm"), False) for entry in preferred]
        return tuple(
            AntiAffinity(text(term, "topologyKey"), must, part(term, "labelSelector")) for term, must in weighted
        )

    # How far it is.

    @property
    def ready_replicas(self) -> int:
        return number(self.status, "readyReplicas")

    @property
    def current_revision(self) -> str:
        return text(self.status, "currentRevision")

    @property
    def update_revision(self) -> str:
        """The revision that a rollout leads to; equal to the current one when it is complete."""
        return text(self.status, "updateRevision")

    @property
    def observed(self) -> bool:
        """Whether the controller has seen the present spec: only then does the status speak of it."""
        return number(self.status, "observedGeneration") >= self.generation

    # Whose it is.

    @property
    def owners(self) -> tuple[Owner, ...]:
        return owners_of(self)

    @property
    def chart(self) -> str:
        return chart_of(self)

    # What is around it.

    @property
    def pods(self) -> tuple[Pod, ...] | Unknown:
        """Its pods by ordinal; those of the same labels that belong to another object are not among them."""
        return self._all(Kind.POD, Pod, self._owns, lambda pod: (pod.ordinal or 0, pod.name))

    @property
    def services(self) -> tuple[Service, ...] | Unknown:
        """The services in front of its pods."""
        return self._all(Kind.SERVICE, Service, lambda service: service.selects(self.pod_labels))

    @property
    def headless(self) -> Service | Unknown | None:
        """The service that `serviceName` names; None where there is no such service."""
        return self._one(Kind.SERVICE, Service, self.service_name)

    def backends(self, service: str) -> tuple[Backend, ...] | Unknown:
        """Return the pods behind a service, ready or not: of EndpointSlices, or of Endpoints where these can't be read."""
        slices = self.source.of(Kind.ENDPOINT_SLICE)
        if not isinstance(slices, Unknown):
            return tuple(b for raw in slices for b in backends_of_slice(raw) if b.service == service)
        endpoints = self.source.of(Kind.ENDPOINTS)
        if isinstance(endpoints, Unknown):
            return slices
        return tuple(b for raw in endpoints for b in backends_of_endpoints(raw) if b.service == service)

    @property
    def budgets(self) -> tuple[Budget, ...] | Unknown:
        """The disruption budgets that protect its pods."""
        return self._all(Kind.BUDGET, Budget, lambda budget: budget.selects(self.pod_labels))

    def claims(self, template: str) -> tuple[Claim, ...] | Unknown:
        """Return the claims that were made of one of its claim templates, by ordinal."""
        prefix = f"{template}-{self.name}-"

        def mine(claim: Claim) -> bool:
            return claim.name.startswith(prefix) and claim.name.removeprefix(prefix).isdecimal()

        return self._all(Kind.CLAIM, Claim, mine, lambda claim: int(claim.name.removeprefix(prefix)))

    def volume_of(self, claim: Claim) -> PersistentVolume | Unknown | None:
        """Return the volume that a claim is bound to."""
        return self._one(Kind.VOLUME, PersistentVolume, claim.volume_name)

    def class_of(self, claim: Claim) -> StorageClass | Unknown | None:
        """Return the storage class of a claim."""
        return self._one(Kind.STORAGE_CLASS, StorageClass, claim.storage_class)

    def node_of(self, pod: Pod) -> Node | Unknown | None:
        """Return the node that a pod runs on; None while it is not scheduled, or where the node is gone."""
        return self._one(Kind.NODE, Node, pod.node_name)

    @property
    def revisions(self) -> tuple[Revision, ...] | Unknown:
        """Its revisions, the newest last."""
        return self._all(Kind.REVISION, Revision, self._owns, lambda revision: revision.number)

    @property
    def events(self) -> tuple[Event, ...] | Unknown:
        """What happened to it, its pods, claims, budgets and services, the newest last."""
        return self._all(Kind.EVENT, Event, order=lambda e: e.last_at.timestamp() if e.last_at else 0.0)

    def _owns(self, found: Object) -> bool:
        return found.controller is not None and found.controller.uid == self.uid

    def _all(
        self,
        kind: Kind,
        view: Callable[[JsonObject], T],
        which: Callable[[T], bool] = lambda _: True,
        order: Callable[[T], Any] = lambda _: 0,
    ) -> tuple[T, ...] | Unknown:
        found = self.source.of(kind)
        return found if isinstance(found, Unknown) else tuple(sorted(filter(which, map(view, found)), key=order))

    def _one(self, kind: Kind, view: Callable[[JsonObject], T], name: str) -> T | Unknown | None:
        found = self._all(kind, view, lambda one: one.name == name)
        return found if isinstance(found, Unknown) else next(iter(found), None)

    # nats.conf.

    @property
    def config_file(self) -> ConfigFile | Unknown:
        """The file that nats-server is started with."""
        path = self.nats.config_path
        if path is None:
            return Unknown(
                reason=UnknownReason.NOT_CONFIGURED, detail=f"{self.name} starts nats-server without a file of settings"
            )
        found = next((file for file in self.source.config_files if file.path == path), None)
        if found is None:
            detail = (
                f"{path} lies on no ConfigMap or Secret of {self.name}: it is part of the image or written at start"
            )
            return Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=detail)
        return found

    @property
    def conf(self) -> NatsConf | Unknown:
        """What nats.conf says; variables that differ from pod to pod stand in it as variables."""
        return self._conf()

    def conf_of(self, pod: Pod) -> NatsConf | Unknown:
        """Return what nats.conf says to the server in that pod."""
        return self._conf(pod)

    @property
    def store_mount(self) -> Mount | Unknown | None:
        """Where JetStream's store directory lies; None where that is no mounted volume, or there is no JetStream."""
        conf = self.conf
        if isinstance(conf, Unknown):
            return conf
        directory = conf.jetstream.store_dir if conf.jetstream else None
        return self.nats.mount_of(directory) if isinstance(directory, str) else None

    @property
    def store_claims(self) -> tuple[Claim, ...] | Unknown | None:
        """The claims that JetStream's store directory lies on; None where it lies on no claim of its own."""
        mount = self.store_mount
        if mount is None or isinstance(mount, Unknown):
            return mount
        return self.claims(mount.volume) if mount.volume in {t.name for t in self.claim_templates} else None

    def store_passes(self, directory: str = "") -> bool:
        """Tell whether JetStream's store ends with its pod, or with the container: it lies on an emptyDir, or on no volume.

        `directory` is where a server says that it stores; otherwise nats.conf says it. Where neither does, a claim that the server mounts is its store.
        """
        conf = self.conf
        if not directory and isinstance(conf, NatsConf) and conf.jetstream is not None:
            declared = conf.jetstream.store_dir or DEFAULT_STORE
            directory = declared if isinstance(declared, str) else ""
        if not directory:
            return not {mount.volume for mount in self.nats.mounts} & {
                template.name for template in self.claim_templates
            }
        mount = self.nats.mount_of(directory)
        volume = self.volumes.get(mount.volume) if mount else None
        return mount is None or (volume is not None and volume.kind is VolumeKind.EMPTY_DIR)

    def _conf(self, pod: Pod | None = None) -> NatsConf | Unknown:
        file = self.config_file
        if isinstance(file, Unknown):
            return file
        if file.text is None:
            return file.unknown or Unknown(reason=UnknownReason.UNREADABLE, detail=f"{file.path} was not read")
        folder = posixpath.dirname(file.path)
        by_path = {other.path: other.text for other in self.source.config_files}

        def include(path: str) -> str | None:
            return by_path.get(posixpath.normpath(f"{folder}/{path}"))

        try:
            return read_conf(file.text, known_environment(self.nats, pod), include)
        except ConfError as error:
            return Unknown(reason=UnknownReason.UNREADABLE, detail=f"{file.path} can't be parsed: {error}")


def known_environment(container: Container, pod: Pod | None = None) -> dict[str, str]:
    """Return the container's environment as far as the spec, and for a pod its own fields, say it. Redacted values are not known.

    `$(NAME)` stands for an earlier variable, `$$` for a dollar sign, and what no variable is stays as it is (third_party/forked/golang/expansion of
    Kubernetes): the official chart's SERVER_NAME is `$(POD_NAME)`. A value that contains one that is not known is not known either.
    """
    found: dict[str, str] = {}
    hidden: set[str] = set()
    for variable in container.environment.values():
        value = _expanded(variable.value, found, hidden) if variable.source == "value" else _field(variable.source, pod)
        if value is None or value == REDACTED:
            hidden.add(variable.name)
        else:
            found[variable.name] = value
    return found


def _expanded(value: str | None, known: Mapping[str, str], hidden: Collection[str]) -> str | None:
    if value is None or any(name in hidden for name in _REFERENCE.findall(value)):
        return None
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), value)


def _field(source: str, pod: Pod | None) -> str | None:
    if pod is None:
        return None
    values = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "spec.nodeName": pod.node_name,
        "status.podIP": pod.ip,
    }
    return values.get(source.removeprefix("fieldRef "))
