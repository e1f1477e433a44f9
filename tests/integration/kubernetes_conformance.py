"""What the conformance suite needs: the same questions to the stand-in and to a real cluster."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes.aio.client import ApiClient, Configuration

from bot.lab.kubernetes import StandInKubernetes
from tests.integration.kubernetes_support import IMAGE, KUBECONFIG, PULL_POLICY, Cluster, Raw, open_cluster

STAND_IN = "stand-in"
REAL = "real"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
BUDGETS = "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets"
SETS = "/apis/apps/v1/namespaces/{}/statefulsets"
REVISIONS = "/apis/apps/v1/namespaces/{}/controllerrevisions"
PODS = "/api/v1/namespaces/{}/pods"
MAPS = "/api/v1/namespaces/{}/configmaps"
OTHER_UID = "00000000-0000-0000-0000-000000000000"
PULL_TIMEOUT = 120.0
"""Seconds that a real kubelet may need to find out that there is no such image."""
BAD_IMAGE = "nats:no-such-tag"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Raw
    text: str
    retry_after: str | None

    @property
    def refusal(self) -> tuple[int, str, str]:
        """Code, reason and message of a Status, which must agree with the HTTP status."""
        assert self.body["kind"] == "Status", self.body
        assert (self.body["apiVersion"], self.body["status"]) == ("v1", "Failure")
        assert self.body["code"] == self.status
        return self.status, self.body.get("reason", ""), self.body["message"]

    @property
    def fine(self) -> Raw:
        assert self.status < 300, self.text
        return self.body


class World:
    """One cluster, in a namespace of one test. `{}` in a path is the namespace."""

    def __init__(self, cluster: Cluster, client: ApiClient, kubeconfig: Path, namespace: str = "") -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self._client = client

    @asynccontextmanager
    async def new_namespace(self) -> AsyncGenerator["World"]:
        inside = World(self.cluster, self._client, self.kubeconfig, f"standin-{secrets.token_hex(3)}")
        await self.make("/api/v1/namespaces", {"metadata": {"name": inside.namespace}})
        try:
            yield inside
        finally:
            await self.ask("DELETE", f"/api/v1/namespaces/{inside.namespace}")

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        client: ApiClient | None = None,
        **query: Any,
    ) -> Answer:
        """Sends a request as the official client does."""
        asker = client or self._client
        address = path.format(self.namespace) + (f"?{urlencode(query)}" if query else "")
        method, url, headers, _, _ = await asker.param_serialize(
            method,
            address,
            header_params={"Content-Type": kind, "Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = await asker.call_api(method, url, headers, body, _request_timeout=30)
        text = (await answer.read()).decode()
        parsed: Raw = json.loads(text) if text.startswith("{") and "\n{" not in text.strip() else {}
        return Answer(answer.status, parsed, text, answer.response.headers.get("Retry-After"))

    async def make(self, path: str, body: Raw, **query: Any) -> Raw:
        return (await self.ask("POST", path, body, **query)).fine

    async def read(self, path: str, **query: Any) -> Raw:
        return (await self.ask("GET", path, **query)).fine

    async def merge(self, path: str, change: Raw, **query: Any) -> Raw:
        return (await self.ask("PATCH", path, change, MERGE, **query)).fine

    async def strategic(self, path: str, change: Raw) -> Raw:
        return (await self.ask("PATCH", path, change, STRATEGIC)).fine

    async def delete(self, path: str, options: Raw | None = None) -> Raw:
        return (await self.ask("DELETE", path, options)).fine

    async def pod(self, name: str) -> Raw | None:
        answer = await self.ask("GET", f"{PODS}/{name}")
        return answer.body if answer.status == 200 else None

    async def uid(self, name: str) -> str:
        """Of a pod; empty where there is none."""
        pod = await self.pod(name)
        return pod["metadata"]["uid"] if pod else ""

    async def replaced(self, name: str, uid: str) -> Raw:
        """Waits until another pod has that name."""

        async def other() -> bool:
            return await self.uid(name) not in ("", uid)

        await until(f"another {name}", other)
        found = await self.pod(name)
        assert found is not None
        return found

    async def replaced_after_deletion(self, name: str) -> Raw:
        uid = await self.uid(name)
        await self.delete(f"{PODS}/{name}")
        return await self.replaced(name, uid)

    async def waiting_for(self, name: str, *reasons: str) -> Raw:
        """Waits until a pod's container waits for one of these reasons."""
        found: Raw = {}

        async def so() -> bool:
            found.update(await self.pod(name) or {})
            return status_of(found).get("state", {}).get("waiting", {}).get("reason") in reasons

        await until(f"{name} in {reasons}", so, PULL_TIMEOUT)
        return found

    async def ready(self, name: str = "nats", replicas: int | None = None) -> Raw:
        """Waits until a StatefulSet is as its spec says."""
        found: Raw = {}

        async def complete() -> bool:
            found.update(await self.read(f"{SETS}/{name}"))
            status, wanted = found["status"], found["spec"]["replicas"]
            if replicas is not None and wanted != replicas:
                return False
            observed = status.get("observedGeneration") == found["metadata"]["generation"]
            return observed and status["replicas"] == status.get("readyReplicas", 0) == wanted

        await until(f"{name} ready", complete)
        return found

    async def events(self, kind: str, name: str) -> list[Raw]:
        chosen = f"involvedObject.kind={kind},involvedObject.name={name}"
        return (await self.read("/api/v1/namespaces/{}/events", fieldSelector=chosen))["items"]

    async def told(self, kind: str, name: str, reason: str, message: str = "") -> Raw:
        """Waits for an event."""
        found: list[Raw] = []

        async def there() -> bool:
            found.extend(e for e in await self.events(kind, name) if e["reason"] == reason and message in e["message"])
            return bool(found)

        await until(f"event {reason} of {name}", there)
        return found[0]

    async def account(self, name: str, rules: list[Raw]) -> ApiClient:
        """Another person: a ServiceAccount with these rights in the namespace."""
        await self.make("/api/v1/namespaces/{}/serviceaccounts", {"metadata": {"name": name}})
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}"
        await self.make(f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}]
        await self.make(
            f"{rbac}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}
        )
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        made = await self.make(f"/api/v1/namespaces/{{}}/serviceaccounts/{name}/token", request)
        return self.cluster.client_of(made["status"]["token"])

    async def watch(self, path: str, seconds: int, **query: Any) -> list[tuple[str, Raw]]:
        """Everything that a watch tells in so many seconds."""
        answer = await self.ask("GET", path, watch=1, timeoutSeconds=seconds, **query)
        assert answer.status == 200, answer.text
        lines = [json.loads(line) for line in answer.text.splitlines() if line]
        return [(line["type"], line["object"]) for line in lines]


async def until(what: str, holds: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def stand_in(folder: Path) -> AsyncGenerator[World]:
    async with StandInKubernetes(folder, config_delay=0.2) as kube:
        configuration = Configuration(host=kube.url)
        configuration.api_key["BearerToken"] = f"Bearer {kube.token}"
        async with ApiClient(configuration) as client:
            yield World(Cluster(client), client, kube.kubeconfig())


@asynccontextmanager
async def real() -> AsyncGenerator[World]:
    async with open_cluster() as cluster:
        yield World(cluster, cluster._client, Path(KUBECONFIG))


def config_map(name: str, data: dict[str, str] | None = None, **labels: str) -> Raw:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data or {}}


def container(**changes: Any) -> Raw:
    """One nats-server that is ready at once."""
    return {
        "name": "nats",
        "image": IMAGE,
        "imagePullPolicy": PULL_POLICY,
        "args": ["-m", "8222"],
        "ports": [{"name": "monitor", "containerPort": 8222}],
        "env": [{"name": "A", "value": "b"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "monitor"}, "periodSeconds": 1},
        **changes,
    }


def workload(replicas: int = 1, policy: str = "Parallel", pod: Raw | None = None, **spec: Any) -> Raw:
    labels = {"app": "nats"}
    template = {"terminationGracePeriodSeconds": 3, "containers": [pod or container()]}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "nats", "labels": labels},
        "spec": {
            "serviceName": "nats-headless",
            "replicas": replicas,
            "podManagementPolicy": policy,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            **spec,
        },
    }


def image(name: str) -> Raw:
    """A strategic merge patch that changes the image."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "nats", "image": name}]}}}}


def revision(pod: Raw | None) -> str:
    assert pod is not None
    return pod["metadata"]["labels"]["controller-revision-hash"]


def status_of(pod: Raw | None) -> Raw:
    """The first container's status; empty before there is one."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
    return statuses[0]
