"""NATS clusters in a real Kubernetes as people deploy them, well and badly, and both sides of them in one snapshot."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoServersError

from bot.adapters.clock import SystemClock
from bot.adapters.cluster import ClusterReaders
from bot.adapters.kubernetes import KubernetesApiReader
from bot.adapters.nats import connect_cluster
from bot.flow.examination import Judgement, look
from bot.model import Finding, Focus, Severity, Snapshot, SnapshotId
from bot.model.kubernetes import ONLY_KUBERNETES
from bot.runbook import Runbook
from bot.settings import ClusterSettings
from runbooks.deployment import RUNBOOK
from tests.integration.kubernetes_support import (
    PULL_POLICY,
    Cluster,
    Raw,
    admin,
    give_volumes_back,
    new_namespace,
    open_cluster,
)

LABELS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": "nats"}
PORTS = {"nats": 4222, "cluster": 6222, "monitor": 8222}
SMALL = {"cpu": "200m", "memory": "128Mi"}
"""What three servers of a test may ask of a node that has two cores."""
OVERRIDES = {"cpu_millicores": 200.0, "memory_mib": 128.0}
REACHABLE = 5.0
"""Seconds in which a pod's port answers, where pods can be reached from here."""


def conf(routes: str, more: str = "", limits: str = "") -> str:
    return f"""server_name: $POD_NAME
port: 4222, http_port: 8222
jetstream {{ store_dir: /data, max_memory_store: 16Mi, max_file_store: 256Mi {limits} }}
cluster {{ name: nats, port: 6222, routes: [ {routes} ] }}
accounts {{ SYS: {{ users: [{{user: sys, password: sys}}] }}, APP: {{ jetstream: enabled, users: [{{user: app, password: app}}] }} }}
system_account: SYS
{more}
"""


EXPLICIT = ", ".join(f"nats://nats-{n}.nats-headless:6222" for n in range(3))
IN_PEACE = "pid_file: /var/run/nats/nats.pid, lame_duck_grace_period: 10s, lame_duck_duration: 30s"


def container(image: str, **more: Any) -> Raw:
    ports = [{"name": name, "containerPort": port} for name, port in PORTS.items()]
    return {
        "name": "nats",
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "args": ["--config", "/etc/nats-config/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": ports,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": "data", "mountPath": "/data"}],
        **more,
    }


def probe(path: str, period: int, failures: int, delay: int = 0) -> Raw:
    handler = {"path": path, "port": "monitor"}
    times = {"initialDelaySeconds": delay, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5}
    return {"httpGet": handler, **times}


def stateful_set(
    namespace: str, of: Raw, *, pod: Mapping[str, Any], spec: Mapping[str, Any], volumes: list[Raw]
) -> Raw:
    config = {"name": "config", "configMap": {"name": "nats-config"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "nats", "namespace": namespace, "labels": LABELS},
        "spec": {
            "serviceName": "nats-headless",
            "replicas": 3,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS, "annotations": {}},
                "spec": {"containers": [of], "volumes": [config, *volumes], **pod},
            },
            **spec,
        },
    }


def around(namespace: str, text: str) -> list[Raw]:
    """The headless service and the configuration."""
    ports = [{"name": name, "port": port} for name, port in PORTS.items()]
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": LABELS, "ports": ports}
    metadata = {"namespace": namespace, "labels": LABELS}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nats-headless", **metadata}, "spec": headless},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "nats-config", **metadata},
            "data": {"nats.conf": text},
        },
    ]


@dataclass
class Scene:
    """One cluster, and the way to both of its sides."""

    cluster: Cluster
    namespace: str

    async def pods(self) -> list[Raw]:
        _, found = await self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        return sorted(found["items"], key=lambda raw: raw["metadata"]["name"])

    async def servers(self) -> list[str]:
        return [f"nats://{ip}:4222" for raw in await self.pods() if (ip := raw["status"].get("podIP"))]

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """A client of the application's account; skips where pods can't be reached from here."""
        try:
            client = await nats.connect(
                await self.servers(), user="app", password="app", connect_timeout=REACHABLE, allow_reconnect=False
            )
        except (OSError, TimeoutError, NoServersError) as error:
            pytest.skip(f"pods can't be reached from here: {error!r}")
        try:
            yield client
        finally:
            await client.close()

    async def only_kubernetes(self) -> Snapshot:
        """The Kubernetes side alone, where no server runs."""
        clock = SystemClock()
        facts = await KubernetesApiReader(admin(self.namespace), clock).gather()
        return Snapshot(SnapshotId("snap_1"), "prod", clock.now(), ONLY_KUBERNETES, (), (), kubernetes=facts)

    async def judged(
        self, runbook: Runbook = RUNBOOK, overrides: Mapping[str, float] | None = None
    ) -> tuple[Snapshot, Judgement]:
        """What the product says of both sides, over the same adapters."""
        raw = {
            "name": "prod",
            "channel": "C0123456789",
            "nats": {
                "servers": await self.servers(),
                "system": {"user": "sys", "password": "sys"},
                "accounts": {"APP": {"reader": {"user": "app", "password": "app"}}},
                "timeout_seconds": 3.0,
            },
        }
        clock = SystemClock()
        readers, writers = await connect_cluster(ClusterSettings.model_validate(raw), clock)
        try:
            both = ClusterReaders(readers, KubernetesApiReader(admin(self.namespace), clock), clock)
            snapshot, (judgement,) = await look(both, (runbook,), {runbook.code: overrides or {}}, Focus())
        finally:
            await readers.aclose()
            if writers is not None:
                await writers.aclose()
        return snapshot, judgement


@asynccontextmanager
async def open_scene() -> AsyncGenerator[Scene]:
    """An empty namespace, gone afterwards with its pods at once and its volumes given back."""
    async with open_cluster() as cluster:
        namespace = await new_namespace(cluster, "checks")
        scene = Scene(cluster, namespace)
        try:
            yield scene
        finally:
            for raw in await scene.pods():
                path = f"/api/v1/namespaces/{namespace}/pods/{raw['metadata']['name']}"
                await cluster.call("DELETE", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/nats")
                await cluster.call("DELETE", path, {"gracePeriodSeconds": 0})
            await give_volumes_back(cluster, namespace)


def by_check(judgement: Judgement) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in judgement.findings:
        found.setdefault(finding.check, []).append(finding)
    return found


def sick(judgement: Judgement) -> set[str]:
    """The checks that found something wrong, or could not tell."""
    return {f.check for f in judgement.findings if f.severity is not Severity.OK}
