"""A NATS cluster in Kubernetes by hand: three pods as the official chart makes them, everything right. Tests spoil one thing and look who says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from bot.flow.examination import judge
from bot.model import Endpoint, Finding, Focus, Severity, Snapshot, Unknown, UnknownReason
from bot.model.kubernetes import ConfigFile, Kind, KubernetesFacts, Listing, Pod, known_environment
from bot.model.kubernetes.containers import Container
from bot.model.nats_conf import read_conf
from bot.runbook import Check, Proposed, Thresholds
from runbooks.deployment import RUNBOOK
from tests.unit.snapshots import Raw, answered

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NAMES = ("nats-0", "nats-1", "nats-2")
LABELS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": "nats", "app.kubernetes.io/component": "nats"}
REVISION = "nats-6c8f"
MIB, GIB = 2**20, 2**30
DENIED = Unknown(reason=UnknownReason.DENIED, detail="The reader may not do it")
QUIET = {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}}
SMALL = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}}
CONF = """server_name: $SERVER_NAME
port: 4222, http_port: 8222
pid_file: /var/run/nats/nats.pid
lame_duck_grace_period: 10s, lame_duck_duration: 30s
jetstream { store_dir: /data, max_memory_store: 0, max_file_store: 10Gi }
cluster { name: nats, port: 6222, no_advertise: true
  routes: [ nats://nats-0.nats-headless:6222, nats://nats-1.nats-headless:6222, nats://nats-2.nats-headless:6222 ] }
"""


def before(seconds: float) -> str:
    """A moment as Kubernetes writes it."""
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def named(name: str, kind: str, **more: Any) -> Raw:
    metadata = {"name": name, "namespace": "queues", "creationTimestamp": before(86_400 * 30)}
    return {"kind": kind, "metadata": metadata | more.pop("metadata", {}), **more}


def probe(path: str, delay: int, period: int, failures: int) -> Raw:
    return {
        "httpGet": {"path": path, "port": "monitor"},
        "initialDelaySeconds": delay,
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def nats_container() -> Raw:
    """As chart 2.12 renders it."""
    return {
        "name": "nats",
        "image": "nats:2.11.11-alpine",
        "args": ["--config", "/etc/nats-config/nats.conf"],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SERVER_NAME", "value": "$(POD_NAME)"},
            {"name": "GOMEMLIMIT", "value": "6GiB"},
        ],
        "ports": [{"name": "nats", "containerPort": 4222}, {"name": "monitor", "containerPort": 8222}],
        "lifecycle": {"preStop": {"exec": {"command": ["nats-server", "-sl=ldm=/var/run/nats/nats.pid"]}}},
        "startupProbe": probe("/healthz", 10, 10, 90),
        "readinessProbe": probe("/healthz?js-server-only=true", 10, 10, 3),
        "livenessProbe": probe("/healthz?js-enabled-only=true", 10, 30, 3),
        "resources": QUIET,
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/nats-config"},
            {"name": "pid", "mountPath": "/var/run/nats"},
            {"name": "nats-js", "mountPath": "/data"},
        ],
    }


def pod_spec() -> Raw:
    reloader = {"name": "reloader", "image": "natsio/nats-server-config-reloader:0.21.0", "resources": SMALL}
    spread = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    return {
        "containers": [nats_container(), reloader],
        "volumes": [{"name": "config", "configMap": {"name": "nats-config"}}, {"name": "pid", "emptyDir": {}}],
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": [spread | {"labelSelector": {"matchLabels": LABELS}}],
    }


def status_of(name: str) -> Raw:
    running = {"running": {"startedAt": before(86_400 * 20)}}
    return {"name": name, "ready": True, "started": True, "restartCount": 0, "state": running}


def stream(replicas: int = 3, storage: str = "file", name: str = "ORDERS") -> Raw:
    return {"name": name, "config": {"name": name, "num_replicas": replicas, "storage": storage}}


@dataclass
class World:
    """Raw objects and answers, to be changed at will."""

    stateful_set: Raw
    pods: list[Raw]
    services: list[Raw]
    claims: list[Raw]
    volumes: list[Raw]
    classes: list[Raw]
    budgets: list[Raw]
    nodes: list[Raw]
    config_map: Raw
    conf: str = CONF
    live: bool = True
    conf_unknown: Unknown | None = None
    events: list[Raw] = field(default_factory=list)
    denied: dict[Kind, Unknown] = field(default_factory=dict)
    answers: dict[str, dict[Endpoint, Raw | Unknown]] = field(default_factory=dict)
    version: str = "2.11.11"
    loaded: str | None = None
    """The configuration that the servers run with, where it is another one."""
    environment: list[Raw] = field(default_factory=list)
    """What the servers' configurations are read with, where it is not the chart's."""

    @property
    def spec(self) -> Raw:
        return self.stateful_set["spec"]

    @property
    def pod_spec(self) -> Raw:
        return self.spec["template"]["spec"]

    @property
    def container(self) -> Raw:
        return self.pod_spec["containers"][0]

    def status(self, number: int = 0) -> Raw:
        """The status of the NATS container in a pod."""
        return self.pods[number]["status"]["containerStatuses"][0]

    def everywhere(self, change: Callable[[Raw], None]) -> None:
        """Change the NATS container in the template and in all pods."""
        change(self.container)
        for pod in self.pods:
            change(pod["spec"]["containers"][0])

    def unready(self, number: int = 0, seconds: float = 60) -> None:
        ready = {"type": "Ready", "status": "False", "lastTransitionTime": before(seconds), "message": "not ready"}
        self.pods[number]["status"]["conditions"] = [ready]

    def event(self, kind: str, name: str, reason: str, message: str, seconds: float = 60) -> None:
        about = {"kind": kind, "name": name}
        more = {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": before(seconds)}
        self.events.append(named(f"e{len(self.events)}", "Event", involvedObject=about, **more))

    def facts(self) -> KubernetesFacts:
        objects = {
            Kind.STATEFUL_SET: [self.stateful_set],
            Kind.POD: self.pods,
            Kind.SERVICE: self.services,
            Kind.CLAIM: self.claims,
            Kind.VOLUME: self.volumes,
            Kind.STORAGE_CLASS: self.classes,
            Kind.BUDGET: self.budgets,
            Kind.NODE: self.nodes,
            Kind.CONFIG_MAP: [self.config_map],
            Kind.EVENT: self.events,
        }
        listings = tuple(
            Listing(
                kind=kind,
                verb="list",
                api="v1",
                items=None if kind in self.denied else tuple(objects.get(kind, [])),
                unknown=self.denied.get(kind),
            )
            for kind in Kind
        )
        file = ConfigFile(
            kind=Kind.CONFIG_MAP,
            name="nats-config",
            key="nats.conf",
            path="/etc/nats-config/nats.conf",
            live=self.live,
            text=None if self.conf_unknown else self.conf,
            unknown=self.conf_unknown,
            digests={} if self.conf_unknown else {name: self.digests(self.conf, name) for name in NAMES},
        )
        return KubernetesFacts("queues", NOW, listings, (file,))

    def digests(self, conf: str, name: str) -> tuple[str, ...]:
        pod = Pod({"metadata": {"name": name}})
        environment = self.environment or nats_container()["env"]
        return read_conf(conf, known_environment(Container({"env": environment}), pod)).digests

    def snapshot(self) -> Snapshot:
        answers = {name: dict(given) for name, given in self.answers.items()}
        for name, given in answers.items():
            varz = given.get(Endpoint.VARZ)
            if isinstance(varz, dict):
                varz.setdefault("version", self.version)
                digests = self.digests(self.loaded or self.conf, name)
                if digests and self.version >= "2.11":
                    varz.setdefault("config_digest", digests[0])
        made = answered(answers, versions=dict.fromkeys(answers, self.version), expected=frozenset(self.answers))
        return replace(made, kubernetes=self.facts())


def healthy() -> World:
    """Everything right, as a well-built cluster of the official chart is."""
    owner = {"kind": "StatefulSet", "name": "nats", "uid": "uid", "controller": True}
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": LABELS}
    template = {"metadata": {"labels": LABELS}, "spec": pod_spec()}
    spec = {
        "replicas": 3,
        "serviceName": "nats-headless",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": LABELS},
        "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "nats-js"}}],
    }
    status = {"observedGeneration": 1, "updateRevision": REVISION, "currentRevision": REVISION}
    pods = [
        named(
            name,
            "Pod",
            metadata={"labels": LABELS | {"controller-revision-hash": REVISION}, "ownerReferences": [owner]},
            spec=pod_spec() | {"nodeName": f"node-{n}"},
            status={
                "phase": "Running",
                "qosClass": "Guaranteed",
                "podIP": f"10.0.0.{n}",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [status_of("nats"), status_of("reloader")],
            },
        )
        for n, name in enumerate(NAMES)
    ]
    world = World(
        stateful_set=named(
            "nats", "StatefulSet", metadata={"uid": "uid", "generation": 1, "labels": LABELS}, spec=spec, status=status
        ),
        pods=pods,
        services=[
            named("nats-headless", "Service", spec=headless),
            named("nats", "Service", spec={"clusterIP": "10.1.0.1", "selector": LABELS}),
        ],
        claims=[
            named(
                f"nats-js-{name}",
                "PersistentVolumeClaim",
                spec={
                    "storageClassName": "fast",
                    "volumeName": f"pv-{name}",
                    "resources": {"requests": {"storage": "10Gi"}},
                },
                status={"phase": "Bound", "capacity": {"storage": "10Gi"}},
            )
            for name in NAMES
        ],
        volumes=[named(f"pv-{n}", "PersistentVolume", spec={"csi": {"driver": "ebs.csi.aws.com"}}) for n in NAMES],
        classes=[named("fast", "StorageClass", provisioner="ebs.csi.aws.com")],
        budgets=[
            named(
                "nats",
                "PodDisruptionBudget",
                apiVersion="policy/v1",
                spec={"maxUnavailable": 1, "selector": {"matchLabels": LABELS}},
            )
        ],
        nodes=[
            named(
                f"node-{n}",
                "Node",
                metadata={"labels": {"topology.kubernetes.io/zone": f"zone-{n}"}},
                status={"conditions": [{"type": "Ready", "status": "True"}]},
            )
            for n in range(3)
        ],
        config_map=named("nats-config", "ConfigMap"),
    )
    for name in NAMES:
        world.answers[name] = server()
    # Nothing shared: a test that changes one place changes no other, and no other test.
    for name in ("stateful_set", "pods", "services", "claims", "volumes", "classes", "budgets", "nodes"):
        setattr(world, name, orjson.loads(orjson.dumps(getattr(world, name))))
    return world


def server() -> dict[Endpoint, Raw | Unknown]:
    """What a healthy server answers. VARZ gets its version and digest when the snapshot is made."""
    detail = {"name": "APP", "stream_detail": [stream()]}
    return {
        Endpoint.VARZ: {"config_load_time": before(86_400 * 20), "gomemlimit": 6 * GIB},
        Endpoint.JSZ: {
            "config": {"max_storage": 10 * GIB, "max_memory": 0},
            "streams": 1,
            "account_details": [detail],
        },
        Endpoint.HEALTHZ: {"status": "ok"},
        Endpoint.RAFTZ: {},
    }


def check_of(code: str) -> Check:
    return next(check for check in RUNBOOK.checks if check.code == code)


def found(world: World, code: str, overrides: Thresholds | None = None) -> list[Finding]:
    """What one check says, straight from it."""
    return list(check_of(code).examine(world.snapshot(), RUNBOOK.values(overrides), Focus()))


def only(world: World, code: str, overrides: Thresholds | None = None) -> Finding:
    """The one thing that a check says."""
    (finding,) = found(world, code, overrides)
    assert finding.check == code
    return finding


def says(world: World, code: str, *words: str, overrides: Thresholds | None = None) -> Severity:
    """How bad the one finding is that a check makes; its sentence must have these words."""
    finding = only(world, code, overrides)
    for word in words:
        assert word in finding.sentence, finding.sentence
    return finding.severity


def told(snapshot: Snapshot) -> Mapping[str, list[Finding]]:
    """All findings of the runbook by check, as the product makes them."""
    (judgement,) = judge(snapshot, (RUNBOOK,), {}, Focus())
    by_check: dict[str, list[Finding]] = {}
    for finding in judgement.findings:
        by_check.setdefault(finding.check, []).append(finding)
    return by_check


def proposed(world: World) -> list[Proposed]:
    (judgement,) = judge(world.snapshot(), (RUNBOOK,), {}, Focus())
    return list(judgement.proposed)
