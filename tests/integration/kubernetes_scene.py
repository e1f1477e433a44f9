"""One healthy NATS cluster in a real Kubernetes for all tests of a module."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.model import Unknown
from bot.model.kubernetes import KubernetesFacts, Workload
from bot.settings.clusters import KubernetesSettings
from tests.integration import kubernetes_objects as objects
from tests.integration.kubernetes_support import (
    NEWER_IMAGE,
    Cluster,
    give_volumes_back,
    new_namespace,
    open_cluster,
    reader_of,
    rolled_out,
    storage_class,
)

T = TypeVar("T")


async def gather(settings: KubernetesSettings) -> KubernetesFacts:
    return await KubernetesApiReader(settings, SystemClock()).gather()


def the_workload(facts: KubernetesFacts) -> Workload:
    assert isinstance(facts.workload, Workload), facts.workload
    return facts.workload


def known(found: tuple[T, ...] | Unknown | None) -> tuple[T, ...]:
    assert isinstance(found, tuple), found
    return found


def everything(facts: KubernetesFacts) -> str:
    """All that leaves the adapter, as text."""
    parts = [record.model_dump(mode="json") for record in (*facts.listings, *facts.config_files, *facts.unknown)]
    return json.dumps(parts)


@dataclass
class Scene:
    """A healthy cluster of two servers with everything around it."""

    cluster: Cluster
    namespace: str
    settings: KubernetesSettings
    """Of the reader's own ServiceAccount."""


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncGenerator[Scene]:
    async with open_cluster() as cluster:
        namespace = await new_namespace(cluster)
        try:
            for raw in (*objects.services(namespace), objects.config_map(namespace)):
                await cluster.create(raw)
            _, groups = await cluster.call("GET", "/apis/policy")
            await cluster.create(objects.budget(namespace, groups["versions"][0]["groupVersion"]))
            made = objects.stateful_set(namespace, image=NEWER_IMAGE, storage_class=await storage_class(cluster))
            await cluster.create(made)
            await rolled_out(cluster, namespace)
            settings = await reader_of(cluster, folder, namespace)
            yield Scene(cluster, namespace, settings)
        finally:
            await give_volumes_back(cluster, namespace)


async def skip_where_a_custom_resource_ends_the_server(cluster: Cluster) -> None:
    """Up to 1.22, Kubernetes carries reflect2 1.0.1, which reads maps of Go 1.18 and newer wrongly: the API server dies of a segmentation fault."""
    _, version = await cluster.call("GET", "/version")
    go = int(version["goVersion"].removeprefix("go1.").split(".")[0])
    if int(version["minor"].rstrip("+")) < 23 and go >= 18:
        pytest.skip(f"Kubernetes {version['gitVersion']} built with {version['goVersion']} dies of any custom resource")
