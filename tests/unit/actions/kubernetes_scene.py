"""A NATS cluster in Kubernetes that a test owns: objects, servers with what each has loaded, and what goes wrong with the next reads and writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bot.errors import ObjectMoved
from bot.model import Again, Endpoint, JsonObject, Sample, ServerIdentity, Snapshot, SnapshotId, Unknown
from bot.model.assets import Assets, read_page
from bot.model.kubernetes import Change, ConfigFile, Kind, KubernetesFacts, Listing, Rehearsal, Verb, Workload
from bot.model.nats_conf import read_conf, redact_conf
from bot.ports import Readers, Writers

Raw = dict[str, Any]

NOW = datetime(2026, 11, 26, tzinfo=UTC)
CANARY = "c4n4ry"
"""Part of every planted secret."""
NAMESPACE = "queues"
LABELS = {"app": "nats"}
POOL = 3
HEADLESS_CONF = f"""server_name: $POD_NAME
cluster {{ name: nats, port: 6222, routes = [ nats://route:{CANARY}@nats-headless:6222 ] }}
"""


def explicit_conf(replicas: int) -> str:
    """The same file with one route per pod."""
    one = f"nats://route:{CANARY}@nats-headless:6222"
    return HEADLESS_CONF.replace(
        one, ", ".join(one.replace("nats-headless", f"nats-{i}.nats-headless") for i in range(replicas))
    )


def facts(
    config_files: tuple[ConfigFile, ...] = (), apis: Mapping[Kind, str] | None = None, **objects: list[Raw] | Unknown
) -> KubernetesFacts:
    """Facts of a namespace; kinds that are not given were read and are not there."""
    listings: list[Listing] = []
    for kind in Kind:
        found = objects.get(kind.name.lower(), [])
        items, unknown = (None, found) if isinstance(found, Unknown) else (tuple(found), None)
        api = (apis or {}).get(kind, "v1")
        listings.append(Listing(kind=kind, verb="list", api=api, namespace=NAMESPACE, items=items, unknown=unknown))
    return KubernetesFacts(NAMESPACE, NOW, tuple(listings), config_files)


def metadata(name: str, **more: Any) -> Raw:
    return {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": "1", **more}


def stateful_set(replicas: int = 3, **metadata_more: Any) -> Raw:
    container = {
        "name": "nats",
        "image": "nats:2.10.26",
        "args": ["-c", "/etc/nats-config/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": "data", "mountPath": "/data"}],
    }
    return {
        "apiVersion": "apps/v1",
        "metadata": metadata("nats", generation=1, labels=LABELS, **metadata_more),
        "spec": {
            "replicas": replicas,
            "serviceName": "nats-headless",
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": "conf"}}]},
            },
        },
        "status": {"observedGeneration": 1, "currentRevision": "r1", "updateRevision": "r1"},
    }


def pod(index: int) -> Raw:
    name = f"nats-{index}"
    owner = {"kind": "StatefulSet", "name": "nats", "uid": "uid-nats", "controller": True}
    spec = stateful_set()["spec"]["template"]["spec"]
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": metadata(name, labels=LABELS, ownerReferences=[owner]),
        "spec": spec,
        "status": {"phase": "Running", "conditions": ready},
    }


def config_map(conf: str = HEADLESS_CONF, **more: Any) -> Raw:
    return {"apiVersion": "v1", "metadata": metadata("conf"), "data": {"nats.conf": conf, "other": "x"}, **more}


def service() -> Raw:
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": LABELS}
    return {"metadata": metadata("nats-headless"), "spec": spec}


@dataclass
class Server:
    """A running server."""

    routes: tuple[str, ...]
    """What it has loaded."""
    answers: bool = True
    digest: str | None = None
    version: str = "2.10.26"
    varz: Raw = field(default_factory=dict[str, Any])
    """What VARZ shows besides."""


@dataclass
class Scene:
    """The world, and both ports to it."""

    objects: dict[tuple[Kind, str], Raw] = field(default_factory=dict[tuple[Kind, str], Raw])
    servers: dict[str, Server] = field(default_factory=dict[str, Server])
    cut: set[frozenset[str]] = field(default_factory=set[frozenset[str]])
    """Pairs that lack one connection of the pool, whatever they list."""
    written: list[Change] = field(default_factory=list[Change])
    reloaded: list[str] = field(default_factory=list[str])
    reload_faults: list[BaseException | None] = field(default_factory=list[BaseException | None])
    """Raised by the next reloads after their effect; None is an answer."""
    stale_reads: int = 0
    """How many of the next reloads still find the former file in the pod."""
    write_faults: list[BaseException] = field(default_factory=list[BaseException])
    meddle: Callable[[], None] | None = None
    """Called once right before the next write."""
    meta: Raw | None = None
    """JSZ's `meta_cluster` of every server; that of a healthy group where it is None."""
    config_file: Callable[[ConfigFile], ConfigFile] = lambda file: file
    apis: dict[Kind, str] = field(default_factory=dict[Kind, str])
    extra: dict[str, list[Raw] | Unknown] = field(default_factory=dict[str, "list[Raw] | Unknown"])
    assets: Assets | None = None
    """Streams, as every server reports them."""
    islands: list[set[str]] = field(default_factory=list[set[str]])
    """Servers that have no route to the other ones; a look shows one island."""
    elsewhere: int = 0
    """How often the next look was to go through another server."""
    on_load: Callable[[Server], None] = lambda server: None
    """What else a server makes of the file that it loads."""
    slept: list[float] = field(default_factory=list[float])

    @property
    def readers(self) -> Readers:
        return cast("Readers", _Readers(self))

    @property
    def writers(self) -> Writers:
        return cast("Writers", _Writers(self))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def raw(self, kind: Kind, name: str) -> Raw:
        return self.objects[kind, name]

    @property
    def conf(self) -> str:
        return self.raw(Kind.CONFIG_MAP, "conf")["data"]["nats.conf"]

    @conf.setter
    def conf(self, text: str) -> None:
        self.raw(Kind.CONFIG_MAP, "conf")["data"]["nats.conf"] = text
        self.touch(Kind.CONFIG_MAP, "conf")

    def touch(self, kind: Kind, name: str) -> None:
        meta = self.raw(kind, name)["metadata"]
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)

    def look(self) -> tuple[Snapshot, Workload]:
        snapshot = self.snapshot()
        assert snapshot.kubernetes is not None
        assert isinstance(snapshot.kubernetes.workload, Workload)
        return snapshot, snapshot.kubernetes.workload

    def snapshot(self) -> Snapshot:
        seen = self.islands[self.elsewhere % len(self.islands)] if self.islands else self.servers.keys()
        answering = {name: server for name, server in self.servers.items() if server.answers and name in seen}
        samples: list[Sample] = []
        for name, server in answering.items():
            cluster = {"name": "nats", "pool_size": POOL, "urls": list(server.routes)}
            varz: Raw = {"cluster": cluster, "system_account": "SYS", "version": server.version}
            varz |= {"config_digest": server.digest} if server.digest else {}
            varz |= server.varz
            rows = self._rows(name)
            samples.append(Sample(name, Endpoint.VARZ, NOW, varz))
            samples.append(Sample(name, Endpoint.ROUTEZ, NOW, {"num_routes": len(rows), "routes": rows}))
            samples.append(Sample(name, Endpoint.JSZ, NOW, {"meta_cluster": self._meta(name)}, assets=self.assets))
        identities = tuple(ServerIdentity(name=n, id=f"ID{n}", version=s.version) for n, s in answering.items())
        return Snapshot(
            id=SnapshotId("snap_made"),
            cluster="prod",
            taken_at=NOW + timedelta(seconds=sum(self.slept)),
            via="system account",
            servers=identities,
            samples=tuple(samples),
            expected=frozenset(self.servers.keys() & seen),
            kubernetes=self._facts(),
        )

    def _meta(self, name: str) -> Raw:
        if self.meta is not None:
            return self.meta
        leader, *others = self.servers
        peers = [{"name": other, "current": True, "active": 1, "peer": other} for other in others]
        told: Raw = {"leader": leader, "cluster_size": len(self.servers)}
        return told | ({"replicas": peers} if name == leader else {})

    def _rows(self, name: str) -> list[Raw]:
        rows: list[Raw] = []
        for other in self.servers:
            if other == name or any((name in island) != (other in island) for island in self.islands):
                continue
            explicit = any(len(self.servers[one].routes) > 1 for one in (name, other))
            whole = explicit and frozenset({name, other}) not in self.cut
            row = {"remote_name": other, "remote_id": f"ID{other}"}
            rows += [row] * (POOL if whole else POOL - 1) + [row | {"account": "SYS"}]
        return rows

    def _facts(self) -> KubernetesFacts:
        by_kind: dict[str, list[Raw] | Unknown] = {}
        for (kind, _), raw in self.objects.items():
            cast("list[Raw]", by_kind.setdefault(kind.name.lower(), [])).append(copy.deepcopy(raw))
        by_kind.pop("config_map", None)
        raw = self.objects.get((Kind.CONFIG_MAP, "conf"), {})
        file = ConfigFile(
            kind=Kind.CONFIG_MAP,
            name="conf",
            key="nats.conf",
            path="/etc/nats-config/nats.conf",
            live=True,
            uid="uid-conf",
            immutable=raw.get("immutable", False),
            text=redact_conf(raw["data"]["nats.conf"]) if raw else None,
            unknown=None,
        )
        return facts((self.config_file(file),), self.apis, **(by_kind | self.extra))


def cluster(replicas: int = 3, conf: str = HEADLESS_CONF) -> Scene:
    """Servers that all run with what the file says."""
    scene = Scene()
    for kind, raw in (
        (Kind.STATEFUL_SET, stateful_set(replicas)),
        (Kind.CONFIG_MAP, config_map(conf)),
        (Kind.SERVICE, service()),
        *((Kind.POD, pod(i)) for i in range(replicas)),
    ):
        scene.objects[kind, raw["metadata"]["name"]] = raw
    scene.servers = {f"nats-{i}": Server(listed(conf)) for i in range(replicas)}
    return scene


def listed(conf: str) -> tuple[str, ...]:
    block = read_conf(conf).cluster
    assert block is not None
    assert isinstance(block.routes, tuple)
    return tuple(route.address for route in block.routes)


def streams(**members: tuple[str, ...]) -> Assets:
    """Streams of account APP by name, each with its members, the leader first."""
    details = [
        {
            "name": name,
            "created": "2026-01-01T00:00:00Z",
            "config": {"name": name, "num_replicas": len(servers)},
            "cluster": {
                "leader": servers[0],
                "replicas": [{"name": other, "current": True, "active": 1} for other in servers[1:]],
            },
            "state": {"messages": 1, "first_seq": 1, "last_seq": 1},
        }
        for name, servers in members.items()
    ]
    return read_page(json.dumps([{"name": "APP", "id": "APP", "stream_detail": details}]).encode())


class _Readers:
    cluster = "prod"
    api_timeout = 2.0

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        del needs, again
        return self._scene.snapshot()

    async def look_elsewhere(self) -> None:
        self._scene.elsewhere += 1

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        return copy.deepcopy(self._scene.objects.get((kind, name)))

    async def rehearse(self, change: Change) -> Rehearsal:
        return Rehearsal(before=change.before, after=change.after, by_server=True)


class _Writers:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def write_object(self, change: Change) -> JsonObject:
        scene = self._scene
        if scene.meddle is not None:
            meddle, scene.meddle = scene.meddle, None
            meddle()
        if scene.write_faults:
            raise scene.write_faults.pop(0)
        scene.written.append(change)
        if change.verb is Verb.CREATE:
            made = copy.deepcopy(change.after)
            made["metadata"] |= {"uid": f"uid-{change.name}", "resourceVersion": "1"}
            scene.objects[change.kind, change.name] = made
            return made
        meta = scene.raw(change.kind, change.name)["metadata"]
        assert meta["uid"] == change.uid
        if change.verb is Verb.DELETE:
            return scene.objects.pop((change.kind, change.name))
        if meta["resourceVersion"] != change.resource_version:
            raise ObjectMoved("patch", 409, "Conflict", "the object has been modified")
        scene.objects[change.kind, change.name] = copy.deepcopy(change.after)
        scene.touch(change.kind, change.name)
        return scene.raw(change.kind, change.name)

    async def reload_server(self, server_id: str) -> None:
        scene, name = self._scene, server_id.removeprefix("ID")
        scene.reloaded.append(name)
        if scene.stale_reads > 0:
            scene.stale_reads -= 1
        else:
            scene.servers[name].routes = listed(scene.conf)
            scene.on_load(scene.servers[name])
        if scene.reload_faults and (fault := scene.reload_faults.pop(0)) is not None:
            raise fault
