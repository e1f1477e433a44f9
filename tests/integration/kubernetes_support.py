"""A real Kubernetes cluster for tests: whatever KUBECONFIG points at, in namespaces of their own."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from bot.settings.clusters import ApplierSettings, KubernetesSettings

Raw = dict[str, Any]

KUBECONFIG = os.environ.get("KUBECONFIG", "")
DEPLOY = Path(__file__).parents[2] / "deploy"
READER_FILE = DEPLOY / "kubernetes-reader.yaml"
APPLIER_FILE = DEPLOY / "kubernetes-applier.yaml"
IMAGE = os.environ.get("NATSMEDIC_KUBERNETES_IMAGE", "nats:2.10.26")
NEWER_IMAGE = os.environ.get("NATSMEDIC_KUBERNETES_NEWER_IMAGE", "nats:2.11.11")
PULL_POLICY = os.environ.get("NATSMEDIC_KUBERNETES_PULL_POLICY", "IfNotPresent")
ROLLOUT = 120.0
"""Seconds for three pods; the testbed needs 15."""
REFUSED = 400
NOT_FOUND = 404

_PLURALS = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Namespace": ("/api/v1", "namespaces"),
    "Pod": ("/api/v1", "pods"),
    "PersistentVolume": ("/api/v1", "persistentvolumes"),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "Stream": ("/apis/jetstream.nats.io/v1beta2", "streams"),
    "Consumer": ("/apis/jetstream.nats.io/v1beta2", "consumers"),
}

TOKEN_TRIES = 10
"""Further tries of an object that the API server says to send again a second later."""


class Cluster:
    """The administrator's way to the cluster. Everything that it makes goes with `clean_up`."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._made: list[str] = []

    def client_of(self, token: str) -> ApiClient:
        """Someone else's way to the same server."""
        mine = self._client.configuration
        theirs = Configuration(host=mine.host, ssl_ca_cert=mine.ssl_ca_cert)
        theirs.api_key["BearerToken"] = f"Bearer {token}"
        return ApiClient(theirs)

    async def close(self) -> None:
        await self._client.close()

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Raw]:
        method, url, headers, _, _ = await self._client.param_serialize(
            method, path, header_params={"Content-Type": kind}, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(method, url, headers, body, _request_timeout=30)
        text = await answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}

    async def create(self, raw: Mapping[str, Any]) -> Raw:
        status, made = await self.call("POST", self._folder(raw), dict(raw))
        for _ in range(TOKEN_TRIES):
            if made.get("reason") != "ServerTimeout":
                break
            # A new namespace has no ServiceAccount token for its pods yet.
            await asyncio.sleep(made["details"]["retryAfterSeconds"])
            status, made = await self.call("POST", self._folder(raw), dict(raw))
        assert status < REFUSED, made
        if "namespace" not in raw["metadata"]:
            self._made.append(f"{self._folder(raw)}/{raw['metadata']['name']}")
        return made

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Raw:
        status, found = await self.call("GET", f"{self._folder(_named(kind, name, namespace))}/{name}")
        assert status < REFUSED, found
        return found

    async def patch(self, kind: str, name: str, namespace: str | None, change: Raw) -> Raw:
        path = f"{self._folder(_named(kind, name, namespace))}/{name}"
        status, made = await self.call("PATCH", path, change, "application/merge-patch+json")
        assert status < REFUSED, made
        return made

    async def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        await self.call("DELETE", f"{self._folder(_named(kind, name, namespace))}/{name}")

    async def clean_up(self) -> None:
        """Delete everything, in the opposite order."""
        for path in reversed(self._made):
            await self.call("DELETE", path)

    def _folder(self, raw: Mapping[str, Any]) -> str:
        root, plural = _PLURALS[raw["kind"]]
        if raw["kind"] == "PodDisruptionBudget":
            root = f"/apis/{raw['apiVersion']}"
        namespace = raw["metadata"].get("namespace")
        return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def _named(kind: str, name: str, namespace: str | None) -> Raw:
    return {"kind": kind, "metadata": {"name": name} | ({"namespace": namespace} if namespace else {})}


@asynccontextmanager
async def open_cluster() -> AsyncGenerator[Cluster]:
    """The cluster; skips the test where there is none."""
    if not KUBECONFIG:
        pytest.skip("KUBECONFIG is not set: no Kubernetes cluster to test with")
    configuration = Configuration()
    await load_kube_config(KUBECONFIG, client_configuration=configuration, persist_config=False)
    async with ApiClient(configuration) as client:
        cluster = Cluster(client)
        try:
            await cluster.call("GET", "/version")
        except OSError as error:
            pytest.skip(f"the Kubernetes cluster of KUBECONFIG can't be reached: {error}")
        try:
            yield cluster
        finally:
            await cluster.clean_up()


async def new_namespace(cluster: Cluster, prefix: str = "natsmedic-test") -> str:
    name = f"{prefix}-{secrets.token_hex(3)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


async def storage_class(cluster: Cluster) -> str:
    """The default storage class, else any."""
    _, found = await cluster.call("GET", "/apis/storage.k8s.io/v1/storageclasses")
    default = "storageclass.kubernetes.io/is-default-class"
    ranked = sorted(found["items"], key=lambda raw: (raw["metadata"].get("annotations") or {}).get(default) != "true")
    if not ranked:
        pytest.skip("the cluster has no StorageClass")
    return ranked[0]["metadata"]["name"]


async def give_volumes_back(cluster: Cluster, namespace: str) -> None:
    """Make volumes with the policy Retain available again, once their claims are gone: the testbed has twelve."""
    await cluster.delete("Namespace", namespace)

    async def gone() -> bool:
        return (await cluster.call("GET", f"/api/v1/namespaces/{namespace}"))[0] == NOT_FOUND

    await until(f"the end of namespace {namespace}", gone)
    _, found = await cluster.call("GET", "/api/v1/persistentvolumes")
    for raw in found["items"]:
        if (raw["spec"].get("claimRef") or {}).get("namespace") == namespace:
            await cluster.patch("PersistentVolume", raw["metadata"]["name"], None, {"spec": {"claimRef": None}})


async def until(what: str, holds: Callable[[], Awaitable[bool]], seconds: float = ROLLOUT) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
        await asyncio.sleep(0.5)


async def rolled_out(cluster: Cluster, namespace: str, name: str = "nats") -> None:
    async def complete() -> bool:
        raw = await cluster.get("StatefulSet", name, namespace)
        status = raw["status"]
        wanted = raw["spec"]["replicas"]
        return (
            status.get("observedGeneration") == raw["metadata"]["generation"]
            and status.get("readyReplicas") == wanted
            and status.get("updatedReplicas", wanted) == wanted
        )

    await until(f"rollout of {name}", complete)


def admin(namespace: str, **more: Any) -> KubernetesSettings:
    """Settings that read as the administrator."""
    return KubernetesSettings(kubeconfig=Path(KUBECONFIG), namespace=namespace, **more)


async def reader_of(
    cluster: Cluster, folder: Path, namespace: str, change: Callable[[Raw], None] | None = None, **more: Any
) -> KubernetesSettings:
    """Settings of a ServiceAccount with the roles of deploy/kubernetes-reader.yaml; `change` may take rules away from one of its objects."""
    await _create_roles(cluster, READER_FILE, namespace, change)
    (folder / "token").write_text(await _token(cluster, namespace, "natsmedic-reader"))
    configuration = Configuration()
    await load_kube_config(KUBECONFIG, client_configuration=configuration, persist_config=False)
    return KubernetesSettings(
        server=configuration.host,
        token_file=folder / "token",
        ca_file=Path(configuration.ssl_ca_cert or ""),
        namespace=namespace,
        **more,
    )


async def applier_of(
    cluster: Cluster,
    folder: Path,
    settings: KubernetesSettings,
    change: Callable[[Raw], None] | None = None,
) -> KubernetesSettings:
    """The reader's settings with an applier of the roles of deploy/kubernetes-applier.yaml."""
    await _create_roles(cluster, APPLIER_FILE, settings.namespace, change)
    (folder / "applier-token").write_text(await _token(cluster, settings.namespace, "natsmedic-applier"))
    return settings.model_copy(update={"applier": ApplierSettings(token_file=folder / "applier-token")})


async def _create_roles(cluster: Cluster, file: Path, namespace: str, change: Callable[[Raw], None] | None) -> None:
    suffix = namespace.rpartition("-")[2]
    for raw in yaml.safe_load_all(await asyncio.to_thread(file.read_text)):
        text = json.dumps(raw).replace('"namespace": "natsmedic"', f'"namespace": "{namespace}"')
        made = json.loads(text.replace('"namespace": "nats"', f'"namespace": "{namespace}"'))
        if made["kind"].startswith("Cluster"):
            made["metadata"]["name"] += f"-{suffix}"
            if "roleRef" in made:
                made["roleRef"]["name"] += f"-{suffix}"
        if change:
            change(made)
        await cluster.create(made)


async def _token(cluster: Cluster, namespace: str, account: str) -> str:
    """A token of a ServiceAccount: asked for, as every version since 1.22 allows and 1.20 does too with a signing key."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    status, made = await cluster.call("POST", path, body)
    assert status < REFUSED, made
    return made["status"]["token"]
