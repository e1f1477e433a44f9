"""Three servers in a real Kubernetes, what reads and changes them as `deploy/` grants it, and executions that run through the real flow."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from bot.actions.kubernetes_restart_pod import RestartPod
from bot.actions.kubernetes_roll_pod import RollPod
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.nats import connect_cluster
from bot.bootstrap import both_sides
from bot.bootstrap.serving import end, writers_of
from bot.flow.stages import Stages
from bot.model import (
    Endpoint,
    Snapshot,
)
from bot.model.groups import meta_standing
from bot.model.kubernetes import ONLY_KUBERNETES, Pod, Workload
from bot.ports import Readers, Writers
from bot.registry import load
from bot.settings import ClusterSettings
from bot.settings.clusters import KubernetesSettings
from tests.integration.executing import Desk, database
from tests.integration.kubernetes_objects import LABELS, metadata
from tests.integration.kubernetes_support import (
    PULL_POLICY,
    Cluster,
    Raw,
    applier_of,
    give_volumes_back,
    new_namespace,
    open_cluster,
    reader_of,
    rolled_out,
    storage_class,
    until,
)

SERVERS = 3
SETTLE = 2.0
"""Seconds: a test needs not wait as long as an operator wants to."""
NEEDS = frozenset({Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})
ACTIONS = dict(load().actions) | {
    RollPod.kind: RollPod(settle=SETTLE),
    RestartPod.kind: RestartPod(settle=SETTLE),
}


def config_map(namespace: str) -> Raw:
    # A volume may have been another cluster's before: its files lie elsewhere on it.
    routes = ", ".join(f"nats://nats-{i}.nats-headless:6222" for i in range(3))
    text = f"""server_name: $POD_NAME
port: 4222
http_port: 8222
jetstream {{ store_dir: "/data/{namespace}", max_memory_store: 64Mi, max_file_store: 512Mi }}
cluster {{ name: nats, port: 6222, routes = [ {routes} ] }}
accounts {{ SYS: {{ users: [{{user: sys, password: sys}}] }}, APP: {{ jetstream: enabled, users: [{{user: app, password: app}}] }} }}
system_account: SYS
"""
    data = {"nats.conf": text}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("nats-config", namespace), "data": data}


def services(namespace: str) -> list[Raw]:
    """The headless one, and one address in front of all pods, ready or not, by which a test reaches them."""
    ports = [{"name": "nats", "port": 4222}, {"name": "cluster", "port": 6222}, {"name": "monitor", "port": 8222}]
    common = {"publishNotReadyAddresses": True, "selector": LABELS, "ports": ports}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, namespace), "spec": common | more}
        for name, more in (("nats-headless", {"clusterIP": "None"}), ("nats-any", {}))
    ]


def stateful_set(namespace: str, image: str, storage: str) -> Raw:
    def probe(path: str, failures: int) -> Raw:
        return {
            "httpGet": {"path": path, "port": "monitor"},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        }

    ports = [{"name": "nats", "containerPort": 4222}, {"name": "cluster", "containerPort": 6222}]
    container: Raw = {
        "name": "nats",
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "args": ["--config", "/etc/nats-config/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [*ports, {"name": "monitor", "containerPort": 8222}],
        "readinessProbe": probe("/healthz?js-server-only=true", 3),
        "startupProbe": probe("/healthz", 180),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": "data", "mountPath": "/data"}],
    }
    claim: Raw = {
        "storageClassName": storage,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "512Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata("nats", namespace),
        "spec": {
            "serviceName": "nats-headless",
            "replicas": 3,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": "nats-config"}}],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


class Eyes:
    """What natsmedic's readers see of three servers."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers

    async def look(self) -> Snapshot:
        return await self.readers.gather(NEEDS)

    async def workload(self) -> Workload:
        facts = (await self.look()).kubernetes
        assert facts is not None
        assert isinstance(facts.workload, Workload), facts.workload
        return facts.workload

    async def pods(self) -> tuple[Pod, ...]:
        found = (await self.workload()).pods
        assert isinstance(found, tuple), found
        return found

    async def whole(self) -> None:
        """Waits until every server is in full health and every group current: what a composition starts from."""

        async def healthy() -> bool:
            snapshot = await self.look()
            fine = [snapshot.data(s.name, Endpoint.HEALTHZ) for s in snapshot.servers]
            meta = meta_standing(snapshot)
            return len(fine) == SERVERS and all((one or {}).get("status") == "ok" for one in fine) and meta.whole

        await until("full health of three servers", healthy)


class Scene(Eyes):
    """A cluster of three in a real Kubernetes, and what acts on it."""

    def __init__(self, cluster: Cluster, namespace: str, url: str, desk: Desk) -> None:
        super().__init__(desk.readers)
        self.cluster = cluster
        self.namespace = namespace
        self.url = url
        self.desk = desk

    async def raw(self) -> Raw:
        return await self.cluster.get("StatefulSet", "nats", self.namespace)

    async def patch(self, spec: Raw) -> None:
        """What somebody else does to the StatefulSet."""
        await self.cluster.patch("StatefulSet", "nats", self.namespace, {"spec": spec})

    async def ready(self) -> None:
        await rolled_out(self.cluster, self.namespace)


@asynccontextmanager
async def open_scene(folder: Path, image: str) -> AsyncGenerator[Scene]:
    async with open_cluster() as cluster:
        namespace = await new_namespace(cluster, "rollout")
        try:
            for raw in (*services(namespace), config_map(namespace)):
                await cluster.create(raw)
            await cluster.create(stateful_set(namespace, image, await storage_class(cluster)))
            reading = await reader_of(cluster, folder, namespace)
            settings = await applier_of(cluster, folder, reading)
            await rolled_out(cluster, namespace)
            address = (await cluster.get("Service", "nats-any", namespace))["spec"]["clusterIP"]
            url = f"nats://{address}:4222"
            async with (
                bot_wired([url], settings) as (readers, writers),
                SqlStore.open(database(folder), SystemClock()) as store,
            ):
                scene = Scene(cluster, namespace, url, Desk(store, readers, writers, Stages(ACTIONS)))
                await scene.whole()
                yield scene
        finally:
            await end_pods(cluster, namespace)
            await give_volumes_back(cluster, namespace)


async def end_pods(cluster: Cluster, namespace: str) -> None:
    """Take the pods away at once: their kubelet may need a minute to forget each, and the namespace would wait for it."""
    await cluster.delete("StatefulSet", "nats", namespace)
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    for ordinal in range(3):
        await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/nats-{ordinal}", now)


@asynccontextmanager
async def bot_wired(
    urls: list[str], settings: KubernetesSettings, **nats: Any
) -> AsyncGenerator[tuple[Readers, Writers]]:
    """What the bot itself wires for such settings; `nats` are further keys of its NATS side."""
    common: dict[str, Any] = {"servers": urls, "system": {"user": "sys", "password": "sys"}, "timeout_seconds": 3.0}
    named = ClusterSettings.model_validate(
        {
            "name": "prod",
            "channel": "C0123456789",
            "nats": common | nats,
        }
    ).model_copy(update={"kubernetes": settings})
    reading, writing = await connect_cluster(named, SystemClock())
    try:
        writers = writers_of(writing, named)
        assert writers is not None
        yield both_sides(reading, named, SystemClock()), writers
    finally:
        await reading.aclose()
        if writing is not None:
            await writing.aclose()


@dataclass
class Load:
    """A publisher that retries, and what was acknowledged to it."""

    stream: str
    acked: set[str] = field(default_factory=set[str])
    retries: int = 0

    async def publish(self, client: Client) -> None:
        """Publishes until it is cancelled; every message has an id, so that a retry is stored once."""
        js = client.jetstream(timeout=2.0)
        number = 0
        while True:
            number += 1
            name = f"m{number}"
            while name not in self.acked:
                try:
                    await js.publish(f"{self.stream}.x", name.encode(), headers={"Nats-Msg-Id": name})
                except (TimeoutError, nats.errors.Error, nats.js.errors.APIError):
                    self.retries += 1
                    await asyncio.sleep(0.1)
                else:
                    self.acked.add(name)
            await asyncio.sleep(0.005)

    async def stored(self, client: Client) -> set[str]:
        """Everything that the stream has."""
        js = client.jetstream(timeout=5.0)
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        consumer = await js.pull_subscribe(f"{self.stream}.>", stream=self.stream, config=config)
        got: set[str] = set()
        with suppress(TimeoutError):
            while True:
                batch = await consumer.fetch(500, timeout=2.0)
                got |= {message.data.decode() for message in batch}
        await consumer.unsubscribe()
        return got


@dataclass
class Watch:
    """What was seen of pods and servers all the time."""

    revisions: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Revisions of the pods by ordinal, each time they changed."""
    away: int = 0
    """The most pods that were not ready at once."""
    fewest: int = 3
    """The fewest servers that answered at once."""
    leaderless: float = 0.0
    """Seconds, the longest time without a meta leader that a majority names."""

    async def look(self, scene: Scene) -> None:
        """Looks until it is cancelled."""
        loop = asyncio.get_running_loop()
        led = loop.time()
        while True:
            snapshot = await scene.readers.gather(frozenset({Endpoint.JSZ}))
            if snapshot.via != ONLY_KUBERNETES:  # else the server that was asked through has just gone
                self.fewest = min(self.fewest, len(snapshot.servers))
            if meta_standing(snapshot).quorum:
                led = loop.time()
            self.leaderless = max(self.leaderless, loop.time() - led)
            assert snapshot.kubernetes is not None
            workload = snapshot.kubernetes.workload
            pods = workload.pods if isinstance(workload, Workload) else ()
            assert isinstance(pods, tuple)
            if len(pods) == 3 and (not self.revisions or self.revisions[-1] != tuple(p.revision for p in pods)):
                self.revisions.append(tuple(p.revision for p in pods))
            self.away = max(self.away, 3 - sum(pod.ready for pod in pods))
            await asyncio.sleep(0.3)


@asynccontextmanager
async def under_load(scene: Scene) -> AsyncGenerator[Watch]:
    """A stream of three replicas that is published to all the time, and somebody who watches; afterwards every acknowledged message must be there."""
    client = await nats.connect(
        scene.url, user="app", password="app", max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=_ignore
    )
    load, watch = Load(f"ORDERS_{secrets.token_hex(3)}"), Watch()
    try:
        await client.jetstream(timeout=10.0).add_stream(name=load.stream, subjects=[f"{load.stream}.>"], num_replicas=3)
        tasks = [asyncio.create_task(load.publish(client)), asyncio.create_task(watch.look(scene))]
        try:
            yield watch
        finally:
            await end(tasks)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        assert load.acked
        missing = load.acked - await load.stored(client)
        assert missing == set(), f"{len(missing)} of {len(load.acked)} acknowledged messages are lost"
        await client.jetstream(timeout=10.0).delete_stream(load.stream)
    finally:
        await client.close()


async def _ignore(error: Exception) -> None:
    """A client whose server is replaced says so; it connects to another one."""
    del error
