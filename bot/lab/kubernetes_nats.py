"""NATS in the stand-in Kubernetes, started until its meta group is whole."""

import asyncio
import time

import httpx

from bot.lab.kubernetes import NatsManifest, StandInKubernetes
from bot.lab.kubernetes.manifests import CLAIM, MONITOR_PORT
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
    async with httpx.AsyncClient(timeout=2.0) as http:
        while True:
            _, missing = whole(await views_of(http, monitors), size)
            if not missing or time.monotonic() > deadline:
                return missing
            await asyncio.sleep(POLL_INTERVAL)
