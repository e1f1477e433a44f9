"""A NATS cluster in a real Kubernetes that natsmedic may change: its readers and writers, with exactly the rights of deploy/."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.adapters.clock import SystemClock
from bot.adapters.cluster import ClusterReaders, ClusterWriters
from bot.adapters.database import SqlStore
from bot.adapters.kubernetes import KubernetesApiReader, KubernetesApiWriter
from bot.adapters.nats import connect_cluster
from bot.model import Endpoint, Snapshot
from bot.model.kubernetes import Workload
from bot.settings import ClusterSettings
from bot.settings.clusters import KubernetesSettings
from tests.integration.executing import Desk, database
from tests.integration.kubernetes_support import (
    PULL_POLICY,
    Cluster,
    Raw,
    applier_of,
    new_namespace,
    open_cluster,
    reader_of,
    rolled_out,
)

LABELS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": "nats"}
PASSWORD = "c4n4ry-route"
"""Of the routes; it must appear nowhere."""
ONE_NAME = f"nats://route:{PASSWORD}@nats-headless:6222"
"""The one address behind which every pod is."""
TOUCH = 2.0
"""Seconds between two touches of a pod: the kubelet then looks for its files at once, and once a minute else."""


def nats_conf(routes: str) -> str:
    """What the official chart writes, with a login on its routes; `routes` is the array's content."""
    return f"""# written by hand: {PASSWORD}
server_name: $POD_NAME
port: 4222
http_port: 8222
jetstream {{ store_dir: "/data", max_memory_store: 64Mi, max_file_store: 256Mi }}
cluster {{
  name: nats, port: 6222
  routes = [ {routes} ]  # the others
  authorization {{ include routes-login.conf }}
}}
accounts {{
  SYS: {{ users: [
    {{ user: sys, password: sys }}
    {{ user: sys-writer, password: sys-writer, permissions: {{
        publish: {{ allow: ["$SYS.REQ.SERVER.*.RELOAD"] }}, subscribe: {{ allow: ["_INBOX_sys-writer.>"] }} }} }}
  ] }}
  APP: {{ jetstream: enabled, users: [ {{ user: app, password: app }} ] }}
}}
system_account: SYS
"""


def login(password: str) -> str:
    """A second file of the configuration: who may open routes."""
    return f"user: route, password: {password}\n"


def addresses(count: int) -> str:
    """The content of an array that lists so many pods, as natsmedic writes it."""
    listed = ",\n".join(f'    "nats://route:{PASSWORD}@nats-{i}.nats-headless:6222"' for i in range(count))
    return f"\n{listed}\n  "


def objects(namespace: str, image: str, replicas: int, conf: str, storage_class: str = "") -> list[Raw]:
    """ConfigMap, headless service and StatefulSet; without a storage class, what the servers store goes with their pods."""
    ports = {"nats": 4222, "cluster": 6222, "monitor": 8222}
    container = {
        "name": "nats",
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "args": ["--config", "/etc/nats-config/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "readinessProbe": {"httpGet": {"path": "/", "port": "monitor"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": "data", "mountPath": "/data"}],
    }
    template = {
        "metadata": {"labels": LABELS},
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": "nats-config"}},
                *([] if storage_class else [{"name": "data", "emptyDir": {}}]),
            ],
        },
    }

    def made(api: str, kind: str, name: str, **more: Any) -> Raw:
        return {
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": LABELS},
        } | more

    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": LABELS,
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
    }
    spec = {
        "serviceName": "nats-headless",
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": LABELS},
        "template": template,
        "volumeClaimTemplates": [claim_template(storage_class)] if storage_class else [],
    }
    return [
        made("v1", "ConfigMap", "nats-config", data={"nats.conf": conf, "routes-login.conf": login(PASSWORD)}),
        made("v1", "Service", "nats-headless", spec=service),
        made("apps/v1", "StatefulSet", "nats", spec=spec),
    ]


def claim_template(storage_class: str) -> Raw:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": "data"}, "spec": spec | {"storageClassName": storage_class}}


@dataclass
class Nats:
    """The cluster as the administrator sees it, and natsmedic's desk in front of it."""

    cluster: Cluster
    namespace: str
    desk: Desk

    async def look(self) -> tuple[Snapshot, Workload]:
        """Everything that natsmedic can read."""
        snapshot = await self.desk.readers.gather(frozenset({Endpoint.VARZ, Endpoint.ROUTEZ, Endpoint.JSZ}))
        assert snapshot.kubernetes is not None
        assert isinstance(snapshot.kubernetes.workload, Workload), snapshot.kubernetes.workload
        return snapshot, snapshot.kubernetes.workload

    async def pods(self) -> list[Raw]:
        _, found = await self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        return found["items"]

    async def lives(self) -> dict[str, tuple[str, int]]:
        """Uid and restarts of every pod."""
        return {
            raw["metadata"]["name"]: (raw["metadata"]["uid"], raw["status"]["containerStatuses"][0]["restartCount"])
            for raw in await self.pods()
        }

    async def ready(self, count: int, without: Collection[tuple[str, int]] = ()) -> bool:
        """Whether so many pods are ready, none of them among `without`."""
        raws = await self.pods()
        if len(raws) != count or any("deletionTimestamp" in raw["metadata"] for raw in raws):
            return False
        if not all(
            status["ready"] for raw in raws for status in raw["status"].get("containerStatuses", [{"ready": False}])
        ):
            return False
        return not set(without) & set((await self.lives()).values())

    async def conf(self) -> str:
        return (await self.cluster.get("ConfigMap", "nats-config", self.namespace))["data"]["nats.conf"]

    async def write(self, key: str, text: str) -> None:
        await self.cluster.patch("ConfigMap", "nats-config", self.namespace, {"data": {key: text}})

    @asynccontextmanager
    async def quick_kubelet(self) -> AsyncGenerator[None]:
        """Have changed files reach the pods at once instead of within two minutes."""

        async def touch() -> None:
            number = 0
            while True:
                number += 1
                for raw in await self.pods():
                    path = f"/api/v1/namespaces/{self.namespace}/pods/{raw['metadata']['name']}"
                    note = {"metadata": {"annotations": {"test/touched": str(number)}}}
                    await self.cluster.call("PATCH", path, note, "application/merge-patch+json")
                await asyncio.sleep(TOUCH)

        touching = asyncio.create_task(touch())
        try:
            yield
        finally:
            touching.cancel()
            with suppress(asyncio.CancelledError):
                await touching


@asynccontextmanager
async def open_nats(
    folder: Path, image: str, replicas: int, conf: str, volumes: Callable[[str], list[Raw]] = lambda _: []
) -> AsyncGenerator[Nats]:
    """A cluster of that many servers in a namespace of its own; `volumes` makes a storage class of that name, and what belongs to it."""
    async with open_cluster() as cluster:
        namespace = await new_namespace(cluster, "natsmedic-routes")
        storage = volumes(namespace)
        storage_class = namespace if storage else ""
        for raw in (*storage, *objects(namespace, image, replicas, conf, storage_class)):
            await cluster.create(raw)
        await rolled_out(cluster, namespace)
        reader = await reader_of(cluster, folder, namespace)
        settings = await applier_of(cluster, folder, reader)
        async with connected(cluster, namespace, settings, folder) as desk:
            yield Nats(cluster, namespace, desk)


@asynccontextmanager
async def connected(
    cluster: Cluster, namespace: str, kubernetes: KubernetesSettings, folder: Path
) -> AsyncGenerator[Desk]:
    """Readers and writers of both sides, and a database."""
    _, found = await cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")
    servers = [f"nats://{raw['status']['podIP']}:4222" for raw in found["items"]]
    nats: Mapping[str, Any] = {
        "servers": servers,
        "system": {"user": "sys", "password": "sys"},
        "system_writer": {"user": "sys-writer", "password": "sys-writer"},
        "timeout_seconds": 3.0,
    }
    settings = ClusterSettings.model_validate({"name": "prod", "channel": "C0123456789", "nats": nats})
    clock = SystemClock()
    readers, writers = await connect_cluster(settings, clock)
    assert writers is not None
    applier = kubernetes.as_applier
    assert applier is not None
    api = KubernetesApiWriter(applier)
    try:
        async with SqlStore.open(database(folder), clock) as store:
            yield Desk(
                store,
                ClusterReaders(readers, KubernetesApiReader(kubernetes, clock), clock, api),
                ClusterWriters(writers, api),
            )
    finally:
        await readers.aclose()
        await writers.aclose()
