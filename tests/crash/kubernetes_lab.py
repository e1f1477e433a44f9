"""Three servers in the stand-in Kubernetes, which counts every write itself, and the way back to what they were before a run."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Self

import yaml

from bot.adapters.clock import SystemClock
from bot.adapters.nats import connect_cluster
from bot.bootstrap import both_sides
from bot.errors import Unreadable
from bot.lab.http import http_client
from bot.lab.kubernetes import FaultKind, NatsManifest, StandInKubernetes
from bot.lab.kubernetes_nats import start_nats
from bot.lab.process import LabError
from bot.model import Endpoint, Snapshot, part
from bot.model.groups import meta_standing
from bot.model.kubernetes import Workload
from bot.ports import Readers
from bot.settings import ClusterSettings
from bot.settings.clusters import ApplierSettings, KubernetesSettings
from tests.crash.proxy import Address, Proxy
from tests.crash.scene import Where, until
from tests.integration.kubernetes_support import APPLIER_FILE, Raw
from tests.rights import insist_on_record

SERVERS = 3
API_TIMEOUT = 2.0
"""Seconds, of either side."""
LAME_DUCK = "1s"
"""How long a server that ends keeps its clients: each pod that is replaced costs a run as much, and no run is about it."""
CONFIG_DELAY = 0.2
"""Seconds until a changed ConfigMap is in the pods; a real kubelet needs up to two minutes, which is not what is tested."""
NEEDS = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ, Endpoint.ROUTEZ})
WHOLE_WITHIN = 120.0
"""Seconds until three pods have been replaced, one after the other."""
CUT = 0
"""Status of a write whose connection was cut after the change was made (`FaultKind.COMMIT_THEN_CUT`)."""
PATHS = {
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps/{}",
}


class KubernetesLab:
    """Opened by a lane. `manifest` is what every run begins with, and what the lab goes back to."""

    where = Where.KUBERNETES

    def __init__(self, folder: Path, version: str) -> None:
        self.version = version
        self.spent = False
        self.manifest = NatsManifest(version=version, route_pods=SERVERS, lame_duck_grace=LAME_DUCK)
        self.kube = StandInKubernetes(folder, config_delay=CONFIG_DELAY, first_back_off=0.5)
        self._stack = AsyncExitStack()
        self._readers: Readers | None = None
        self._applier = ""
        self._token = ""

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.kube)
        await start_nats(self.kube, self.manifest)
        self._applier = f"applier-{secrets.token_hex(3)}"
        self._token = self.kube.grant(self._applier, _shipped())
        proxy = await self._stack.enter_async_context(self.counted())
        cluster = self.settings(proxy)
        reading, writing = await connect_cluster(cluster, SystemClock())
        self._stack.push_async_callback(reading.aclose)
        if writing is not None:
            await writing.aclose()
        self._readers = both_sides(reading, cluster, SystemClock())
        await self.whole()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        insist_on_record(self.kube)

    # Looking.

    @property
    def readers(self) -> Readers:
        assert self._readers is not None, "the lab is open"
        return self._readers

    async def look(self) -> tuple[Snapshot, Workload]:
        snapshot = await self.readers.gather(NEEDS)
        assert snapshot.kubernetes is not None
        workload = snapshot.kubernetes.workload
        assert isinstance(workload, Workload), workload
        return snapshot, workload

    async def whole(self) -> None:
        """Wait until every pod is there, is ready and runs the present template, and every server is in full health: what a composition starts from.

        What an earlier run changed may be on its way back. Raises `LabError`.
        """
        await self.kube.wait_ready(within=WHOLE_WITHIN)
        await until("full health of all servers", self._healthy, WHOLE_WITHIN)
        insist_on_record(self.kube)

    async def _healthy(self) -> bool:
        try:
            snapshot = await self.readers.gather(NEEDS)
        except Unreadable:
            return False
        fine = [snapshot.data(server.name, Endpoint.HEALTHZ) for server in snapshot.servers]
        meta = meta_standing(snapshot)
        workload = snapshot.kubernetes.workload if snapshot.kubernetes else None
        return (
            isinstance(workload, Workload)
            and _rolled_out(workload)
            and len(fine) == SERVERS
            and meta.whole
            and meta.replicas == SERVERS
            and all((one or {}).get("status") == "ok" for one in fine)
        )

    def object(self, kind: str, name: str = "nats") -> Raw:
        """An object as it is now, a copy. Raises `LabError` where there is none."""
        api = {"StatefulSet": "apps/v1", "PodDisruptionBudget": "policy/v1"}.get(kind, "v1")
        raw = self.kube.get(kind, name, api_version=api)
        if raw is None:
            raise LabError(f"there is no {kind} {name}")
        return copy.deepcopy(raw)

    # Counting.

    def counted(self) -> Proxy:
        """A counter in front of the pods that are there."""
        return Proxy(self._addresses)

    def settings(self, proxy: Proxy) -> ClusterSettings:
        applier = ApplierSettings(kubeconfig=self.kube.kubeconfig(self.kube.directory / "applier", token=self._token))
        kubernetes = KubernetesSettings(
            kubeconfig=self.kube.kubeconfig(),
            namespace=self.kube.namespace,
            statefulset="nats",
            timeout_seconds=API_TIMEOUT,
            applier=applier,
        )
        login = {"user": "sys", "password": "sys"}
        nats = {
            "servers": [proxy.url],
            "system": login,
            "system_writer": login,
            "timeout_seconds": API_TIMEOUT,
        }
        raw = {"name": "prod", "channel": "C0123456789", "nats": nats}
        return ClusterSettings.model_validate(raw).model_copy(update={"kubernetes": kubernetes})

    def written(self, since: int) -> list[str]:
        """What the applier has changed since so many writes, e.g. `PATCH statefulsets/nats`; what was refused, and dry runs, left out."""
        mine = [one for one in self.kube.writes[since:] if one.user.endswith(self._applier) and not one.dry_run]
        return [_told(one.method, one.path) for one in mine if one.status == CUT or 200 <= one.status < 300]

    def lost(self, door: Proxy) -> int:
        """At the door, and of changes that the API server has made and not answered."""
        return door.lost + sum(one.status == CUT for one in self.kube.writes)

    def lose(self, effect: str) -> None:
        """Make the change that is written so, and close the connection without an answer."""
        method, _, path = effect.partition(" ")
        self.kube.faults.add(FaultKind.COMMIT_THEN_CUT, method, f"{path}$")

    # Going back.

    async def put(self, kind: str, raw: Raw) -> None:
        """Make an object what it was, whatever was written to it since."""
        name = raw["metadata"]["name"]
        present = self.object(kind, name)["metadata"]["resourceVersion"]
        body = raw | {"metadata": raw["metadata"] | {"resourceVersion": present}}
        path = PATHS[kind].format(self.kube.namespace, name)
        async with http_client(10.0, base_url=self.kube.url) as http:
            answer = await http.put(path, json=body, headers={"Authorization": f"Bearer {self.kube.token}"})
            answer.raise_for_status()

    async def delete(self, path: str) -> None:
        """Delete what a run has made."""
        async with http_client(10.0, base_url=self.kube.url) as http:
            answer = await http.delete(path, headers={"Authorization": f"Bearer {self.kube.token}"})
            answer.raise_for_status()

    def _addresses(self) -> Sequence[Address]:
        found: list[Address] = []
        for pod in self.kube.pods():
            with suppress(LabError):
                found.append((self.kube.pod_address(pod), 4222))
        return found


def revision(raw: Raw) -> Raw:
    """What a StatefulSet asks for, without what it was signed with."""
    return raw["spec"]


async def eventually(what: str, condition: partial[bool]) -> None:
    """Wait for something that the stand-in itself tells."""

    async def holds() -> bool:
        return condition()

    await until(what, holds)


def _rolled_out(workload: Workload) -> bool:
    """Whether all of its pods are there, ready, and of the present template; one that is being deleted is ready for a while yet."""
    pods = workload.pods
    return (
        workload.observed
        and isinstance(pods, tuple)
        and len(pods) == SERVERS
        and all(
            pod.ready
            and pod.revision == workload.update_revision
            and "deletionTimestamp" not in part(pod.raw, "metadata")
            for pod in pods
        )
    )


def _shipped() -> list[Raw]:
    """The rules of deploy/kubernetes-applier.yaml: the bot has no more than these here."""
    return next(raw for raw in yaml.safe_load_all(APPLIER_FILE.read_text()) if raw["kind"] == "Role")["rules"]


def _told(method: str, path: str) -> str:
    resource, name = path.partition("?")[0].split("/")[-2:]
    return f"{method} {name}" if method == "POST" else f"{method} {resource}/{name}"
