"""NATS in the stand-in Kubernetes: started until its meta group is whole, and seen as the servers that drills work on."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from nats.aio.client import Client

from bot.lab.config import APP, Login
from bot.lab.http import http_client
from bot.lab.kubernetes import NatsManifest, StandInKubernetes
from bot.lab.kubernetes.manifests import CLAIM, CLIENT_PORT, MONITOR_PORT
from bot.lab.meta import views_of, whole
from bot.lab.process import LabError
from bot.lab.servers import FRESH_TIMEOUT, POLL_INTERVAL, START_TIMEOUT


async def start_nats(kube: StandInKubernetes, manifest: NatsManifest) -> None:
    """Returns when the pods are ready and every server counts all of them as current members of the meta group. Raises `LabError`.

    Pods are ready before that, and in about 1 of 20 starts of 2.10.26 the group stays one short (`LabCluster.start`): such a cluster is started once more
    from nothing.
    """
    kube.apply(manifest.manifests())
    await kube.wait_ready(manifest.name)
    if await _missing(kube, manifest.replicas, FRESH_TIMEOUT):
        none = manifest.stateful_set()
        none["spec"]["replicas"] = 0
        kube.apply([none])
        await kube.wait_ready(manifest.name)
        for pod in range(manifest.replicas if manifest.storage_class else 0):
            kube.recreate("v1", "PersistentVolumeClaim", f"{CLAIM}-{manifest.name}-{pod}")
        kube.apply(manifest.manifests())
        await kube.wait_ready(manifest.name)
        if missing := await _missing(kube, manifest.replicas, START_TIMEOUT):
            raise LabError(f"NATS in the stand-in Kubernetes is not whole after {START_TIMEOUT:.0f} s: {missing}")


async def _missing(kube: StandInKubernetes, size: int, within: float) -> str:
    """What the meta group still lacks after so many seconds; empty as soon as it is whole."""
    monitors = {pod: f"http://{kube.pod_address(pod)}:{MONITOR_PORT}" for pod in kube.pods()}
    deadline = time.monotonic() + within
    async with http_client(2.0) as http:
        while True:
            _, missing = whole(await views_of(http, monitors), size)
            if not missing or time.monotonic() > deadline:
                return missing
            await asyncio.sleep(POLL_INTERVAL)


async def quiet(error: Exception) -> None:
    """A client that loses its server says so on every try; the incident is about that."""


class Pods:
    """The pods of a cluster, as `bot.lab.jetstream.Servers`. `limits` are the `max_ha_assets` of those that have one."""

    def __init__(self, kube: StandInKubernetes, limits: Mapping[str, int]) -> None:
        self._kube = kube
        self._limits: Final = limits

    @property
    def names(self) -> tuple[str, ...]:
        """All pods."""
        return tuple(self._kube.pods())

    @property
    def answering(self) -> tuple[str, ...]:
        """All of them: a drill waits for one that is away."""
        return self.names

    def monitor_url(self, name: str) -> str:
        return f"http://{self._kube.pod_address(name)}:{MONITOR_PORT}"

    def tag(self, name: str) -> str:
        """The tag that the manifest gives each server: the name of its pod."""
        return name

    def max_ha_assets(self, name: str) -> int:
        return self._limits.get(name, 0)

    async def connect(self, login: Login = APP, name: str | None = None) -> Client:
        """A client of `login`, to that pod only or to whichever answers. The caller closes it."""
        client = Client()
        await client.connect(
            servers=[
                f"nats://{self._kube.pod_address(pod)}:{CLIENT_PORT}" for pod in ((name,) if name else self.names)
            ],
            user=login.user,
            password=login.password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            error_cb=quiet,
        )
        return client

    async def wait_ready(self) -> str:
        """Return the meta leader once every pod counts all as current. Raises `LabError`."""
        deadline = time.monotonic() + START_TIMEOUT
        async with http_client(2.0) as http:
            while True:
                monitors = {pod: self.monitor_url(pod) for pod in self.names}
                leader, missing = whole(await views_of(http, monitors), len(monitors))
                if not missing:
                    return leader
                if time.monotonic() > deadline:
                    raise LabError(f"NATS in the stand-in Kubernetes is not whole: {missing}")
                await asyncio.sleep(POLL_INTERVAL)
