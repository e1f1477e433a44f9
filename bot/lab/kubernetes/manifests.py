"""Manifests of a NATS cluster as the official chart shapes it, with what incidents need changed (reference/nats.md 4.1)."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from bot.lab.config import accounts
from bot.lab.kubernetes.objects import Raw, Value

STRICT_READINESS: Final = "/healthz"
"""Fails while one stream of the server catches up: incident family A on 2.10."""
CHART_READINESS: Final = "/healthz?js-server-only=true"
CHART_LIVENESS: Final = "/healthz?js-enabled-only=true"
PID_FILE: Final = "/var/run/nats/nats.pid"
CHECKSUM: Final = "checksum/config"
"""Annotation of the pod template by which a chart rolls the pods when the configuration changes."""
CLIENT_PORT, ROUTE_PORT, MONITOR_PORT = 4222, 6222, 8222


class Routes(StrEnum):
    EXPLICIT = "explicit"  # one route per pod
    HEADLESS = "headless"  # one name for all: incident family B


_ROOM: Final = {"cpu": "2", "memory": "1Gi"}
"""What a server is certain of and limited to: the same, so that its pods are Guaranteed."""

CLAIM: Final = "data"
"""Name of the claim template, and of the volume."""


@dataclass(frozen=True, slots=True)
class NatsManifest:
    """What a cluster is made of; by default one that has nothing wrong with it. `manifests()` is what to apply."""

    version: str = "2.15.1"
    name: str = "nats"
    namespace: str = "nats"
    replicas: int = 3
    readiness: str | None = CHART_READINESS
    startup: str | None = "/healthz"
    liveness: str | None = CHART_LIVENESS
    period: int = 1
    """Seconds between two probes; the chart has 10, which a test does not wait for."""
    failure_threshold: int = 3
    startup_threshold: int = 300
    liveness_period: int = 30
    grace: int = 60
    """Seconds; a lame duck needs 10 and 30 of them where it has clients."""
    lame_duck: bool = True
    """Whether a pod goes into lame duck mode before it ends."""
    lame_duck_grace: str = "10s"
    """How long a lame duck keeps its clients at least."""
    checksum: bool = True
    """Whether the template carries the checksum of the configuration."""
    routes: Routes = Routes.EXPLICIT
    route_pods: int | None = None
    """For how many pods there are routes; all by default."""
    policy: str = "Parallel"
    strategy: Raw | None = None
    resources: Raw = field(default_factory=lambda: {"requests": dict(_ROOM), "limits": dict(_ROOM)})
    gomemlimit: str | None = "800MiB"
    budget: bool = True
    budget_api: str = "policy/v1"
    storage_class: str | None = "standard"
    """None: the store lies in an emptyDir."""
    storage: str = "1Gi"
    spread: str = "DoNotSchedule"
    """What becomes of a pod that finds no node without another of them."""
    publish_not_ready: bool = True
    helm: bool = False
    pull_policy: str = "IfNotPresent"
    bind_pod_address: bool = True
    """Whether nats.conf binds to `$POD_IP`, which the stand-in needs to leave the file alone; right on a real cluster, too."""
    max_ha_assets: int = 0
    """Limit on Raft groups of each server; 0 means none."""
    extra_conf: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": self.name}

    def manifests(self) -> list[Raw]:
        """ConfigMap, services, budget and StatefulSet, in this order."""
        found = [self.config_map(), *self.services()]
        if self.budget:
            spec = {"maxUnavailable": 1, "selector": {"matchLabels": self.labels}}
            found.append(self._object(self.budget_api, "PodDisruptionBudget", self.name, spec=spec))
        return [*found, self.stateful_set()]

    def conf(self) -> str:
        """nats.conf, with the accounts of every lab server (bot.lab.config). One server alone is no cluster: JetStream would wait for others."""
        return f"""\
server_name: $POD_NAME
{self._host}
port: {CLIENT_PORT}
http_port: {MONITOR_PORT}
server_tags: [ $POD_NAME ]
jetstream {{ store_dir: /data, max_memory_store: 64Mi, max_file_store: 512Mi{self._limits} }}
{self._cluster() if self.replicas > 1 else ""}
{accounts()}
{f"pid_file: {PID_FILE}" if self.lame_duck else ""}
lame_duck_grace_period: {self.lame_duck_grace}
lame_duck_duration: 30s
{self.extra_conf}
"""

    @property
    def _host(self) -> str:
        return "host: $POD_IP" if self.bind_pod_address else ""

    @property
    def _limits(self) -> str:
        return f", limits: {{ max_ha_assets: {self.max_ha_assets} }}" if self.max_ha_assets else ""

    def _cluster(self) -> str:
        headless = f"{self.name}-headless"
        count = self.replicas if self.route_pods is None else self.route_pods
        names = [headless] if self.routes is Routes.HEADLESS else [f"{self.name}-{i}.{headless}" for i in range(count)]
        routes = "\n".join(f"    nats://{name}:{ROUTE_PORT}" for name in names)
        return f"""\
cluster {{
  name: {self.name}
  {self._host}
  port: {ROUTE_PORT}
  routes: [
{routes}
  ]
}}"""

    def config_map(self) -> Raw:
        return self._object("v1", "ConfigMap", f"{self.name}-config", data={"nats.conf": self.conf()})

    def services(self) -> list[Raw]:
        ports = [
            {"name": n, "port": p}
            for n, p in (("nats", CLIENT_PORT), ("cluster", ROUTE_PORT), ("monitor", MONITOR_PORT))
        ]
        headless: Raw = {"clusterIP": "None", "selector": self.labels, "ports": ports}
        if self.publish_not_ready:
            headless["publishNotReadyAddresses"] = True
        return [
            self._object("v1", "Service", f"{self.name}-headless", spec=headless),
            self._object("v1", "Service", self.name, spec={"selector": self.labels, "ports": ports[:1]}),
        ]

    def stateful_set(self) -> Raw:
        spec: Raw = {
            "serviceName": f"{self.name}-headless",
            "replicas": self.replicas,
            "podManagementPolicy": self.policy,
            "selector": {"matchLabels": self.labels},
            "template": {"metadata": self._template_metadata(), "spec": self._pod()},
        }
        if self.strategy is not None:
            spec["updateStrategy"] = self.strategy
        if self.storage_class is not None:
            request = {"requests": {"storage": self.storage}}
            claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": self.storage_class, "resources": request}
            spec["volumeClaimTemplates"] = [{"metadata": {"name": CLAIM}, "spec": claim}]
        return self._object("apps/v1", "StatefulSet", self.name, spec=spec)

    def _template_metadata(self) -> Raw:
        if not self.checksum:
            return {"labels": self.labels}
        return {"labels": self.labels, "annotations": {CHECKSUM: hashlib.sha256(self.conf().encode()).hexdigest()}}

    def _pod(self) -> Raw:
        volumes: list[Raw] = [{"name": "config", "configMap": {"name": f"{self.name}-config"}}]
        if self.storage_class is None:
            volumes.append({"name": CLAIM, "emptyDir": {}})
        if self.lame_duck:
            volumes.append({"name": "pid", "emptyDir": {}})
        spread = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": self.spread,
            "labelSelector": {"matchLabels": self.labels},
        }
        return {
            "terminationGracePeriodSeconds": self.grace,
            "topologySpreadConstraints": [spread],
            "containers": [self._container()],
            "volumes": volumes,
        }

    def _container(self) -> Raw:
        variables: list[Raw] = [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]
        if self.gomemlimit:
            variables.append({"name": "GOMEMLIMIT", "value": self.gomemlimit})
        ports = (("nats", CLIENT_PORT), ("cluster", ROUTE_PORT), ("monitor", MONITOR_PORT))
        mounts = [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": CLAIM, "mountPath": "/data"}]
        hook: Raw = {}
        if self.lame_duck:
            mounts.append({"name": "pid", "mountPath": PID_FILE.rpartition("/")[0]})
            hook = {"lifecycle": {"preStop": {"exec": {"command": ["nats-server", f"-sl=ldm={PID_FILE}"]}}}}
        probes = {"startup": self.startup, "readiness": self.readiness, "liveness": self.liveness}
        return {
            "name": "nats",
            "image": f"nats:{self.version}",
            "imagePullPolicy": self.pull_policy,
            "args": ["--config", "/etc/nats-config/nats.conf"],
            "env": variables,
            "ports": [{"name": name, "containerPort": port} for name, port in ports],
            "resources": self.resources,
            "volumeMounts": mounts,
            **hook,
            **{f"{kind}Probe": self._probe(kind, path) for kind, path in probes.items() if path},
        }

    def _probe(self, kind: str, path: str) -> Raw:
        threshold = self.startup_threshold if kind == "startup" else self.failure_threshold
        http = {"path": path, "port": "monitor"}
        period = self.liveness_period if kind == "liveness" else self.period
        return {"httpGet": http, "periodSeconds": period, "failureThreshold": threshold, "timeoutSeconds": 2}

    def _object(self, api: str, kind: str, name: str, **content: Value) -> Raw:
        meta: Raw = {"name": name, "namespace": self.namespace, "labels": self.labels}
        if self.helm:
            meta["labels"] = self.labels | {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "nats-1.3.0"}
            meta["annotations"] = {
                "meta.helm.sh/release-name": self.name,
                "meta.helm.sh/release-namespace": self.namespace,
            }
        return {"apiVersion": api, "kind": kind, "metadata": meta, **content}
