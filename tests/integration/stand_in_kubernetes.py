"""A running stand-in Kubernetes for its own tests, and what they ask of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
from nats.aio.client import Client

from bot.lab.http import http_client
from bot.lab.kubernetes import StandInKubernetes
from bot.lab.process import LabError
from tests.integration.kubernetes_conformance import until
from tests.integration.kubernetes_support import Raw

MAPS = "/api/v1/namespaces/nats/configmaps"
MERGE = {"Content-Type": "application/merge-patch+json"}


async def varz(kube: StandInKubernetes, pod: str) -> Raw:
    """Return what its server says of itself, once it listens: a pod without a readiness probe is ready before that."""
    found: Raw = {}

    async def answered() -> bool:
        nonlocal found
        with suppress(httpx.ConnectError):
            async with http_client() as client:
                found = (await client.get(f"http://{kube.pod_address(pod)}:8222/varz")).json()
        return bool(found)

    await until(f"the monitor of {pod}", answered, 10)
    return found


def the(kube: StandInKubernetes, kind: str, name: str) -> Raw:
    """Raises `LabError` while there is none."""
    raw = kube.get(kind, name)
    if raw is None:
        raise LabError(f"no {kind} {name}")
    return raw


def uid(kube: StandInKubernetes, pod: str) -> str:
    return the(kube, "Pod", pod)["metadata"]["uid"]


def status_of(kube: StandInKubernetes, pod: str) -> Raw:
    return the(kube, "Pod", pod)["status"]["containerStatuses"][0]


async def becomes(what: str, holds: Callable[[], Any]) -> None:
    async def asked() -> bool:
        with suppress(KeyError, LabError):
            return bool(holds())
        return False

    await until(what, asked, 30)


async def app(kube: StandInKubernetes, *pods: str) -> Client:
    """A client of account APP, of the first pod or of these."""
    client = Client()
    servers = [f"nats://{kube.pod_address(pod)}:4222" for pod in pods or ("nats-0",)]
    await client.connect(servers=servers, user="app", password="app", reconnect_time_wait=1, max_reconnect_attempts=-1)
    return client


def hosts(kube: StandInKubernetes, pod: str) -> str:
    return (kube.directory / "pods" / uid(kube, pod) / "nats/etc/hosts").read_text()
