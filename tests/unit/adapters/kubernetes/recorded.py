"""A client of the API server that answers as a real one did, and the recordings. How they were made: record.py in this folder."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from bot.adapters.kubernetes import KubernetesApiReader, reader
from bot.model.kubernetes import Kind, KubernetesFacts, Workload
from bot.settings.clusters import KubernetesSettings
from tests.integration.store_records import FixedClock

Raw = dict[str, Any]
Answers = dict[str, tuple[int, Any]]
"""Status and body by path; a body that is no dictionary is sent as it is."""

FIXTURES = Path(__file__).parent / "fixtures"
FORBIDDEN = (403, {"kind": "Status", "reason": "Forbidden", "message": "forbidden: User can't", "details": {}})
NO_SUCH_API = (404, {"kind": "Status", "reason": "NotFound", "message": "the server could not find", "details": {}})

PATHS = {
    Kind.STATEFUL_SET: "/apis/apps/v1/namespaces/queues/statefulsets",
    Kind.POD: "/api/v1/namespaces/queues/pods",
    Kind.REVISION: "/apis/apps/v1/namespaces/queues/controllerrevisions",
    Kind.SERVICE: "/api/v1/namespaces/queues/services",
    Kind.ENDPOINTS: "/api/v1/namespaces/queues/endpoints",
    Kind.ENDPOINT_SLICE: "/apis/discovery.k8s.io/v1beta1/namespaces/queues/endpointslices",
    Kind.CLAIM: "/api/v1/namespaces/queues/persistentvolumeclaims",
    Kind.BUDGET: "/apis/policy/v1beta1/namespaces/queues/poddisruptionbudgets",
    Kind.EVENT: "/api/v1/namespaces/queues/events",
    Kind.CONFIG_MAP: "/api/v1/namespaces/queues/configmaps/nats-config",
    Kind.NODE: "/api/v1/nodes/node-1",
    Kind.VOLUME: "/api/v1/persistentvolumes/local-8",
    Kind.STORAGE_CLASS: "/apis/storage.k8s.io/v1/storageclasses/local",
}
"""Where the recorded server has each kind."""


def recording(name: str) -> Answers:
    raw: Mapping[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return {path: (answer["status"], answer["body"]) for path, answer in raw.items()}


class Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncGenerator[bytes]:
        middle = len(self._body) // 2
        for chunk in (self._body[:middle], self._body[middle:]):
            yield chunk


class Response:
    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.content = Content(body if isinstance(body, bytes) else json.dumps(body).encode())

    def release(self) -> None:
        pass


class RecordedClient:
    """Stands for `kubernetes.aio.client.ApiClient`. Lists are cut into pages as `limit` and `continue` ask; what was not recorded is an error of the test."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.fail: Callable[[str], None] = lambda path: None

    async def param_serialize(self, method: str, path: str, *, query_params: list[tuple[str, str]], **rest: Any) -> Any:
        assert method == "GET", "the reader only reads"
        assert rest["auth_settings"] == ["BearerToken"]
        return method, f"{path}?{urlencode(query_params)}", {}, None, None

    async def call_api(self, method: str, url: str, headers: Any, body: Any = None, *, _request_timeout: Any) -> Any:
        assert (method, body) == ("GET", None), "a reader never writes"
        del headers
        assert _request_timeout.total is not None, "every request has a deadline"
        assert _request_timeout.sock_connect is not None
        path, _, query = url.partition("?")
        self.asked.append(url)
        self.fail(path)
        status, body = self.answers[path]
        return type("Answer", (), {"response": Response(status, _page(body, dict(parse_qsl(query))))})


def _page(body: Any, query: Mapping[str, str]) -> Any:
    if not isinstance(body, dict) or "items" not in body or "limit" not in query:
        return body
    items = [item for item in body["items"] if _selected(item, query.get("labelSelector", ""))]
    start = int(query.get("continue", "0"))
    end = start + int(query["limit"])
    metadata = {**body.get("metadata", {}), **({"continue": str(end)} if end < len(items) else {})}
    return {**body, "metadata": metadata, "items": items[start:end]}


def _selected(item: Raw, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in (term.split("=") for term in selector.split(",") if term))


async def gathered(
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    *,
    page: int = 250,
    client: RecordedClient | None = None,
    **settings: Any,
) -> KubernetesFacts:
    """What the reader makes of these answers."""
    replay = client or RecordedClient(answers)

    @asynccontextmanager
    async def open_recorded(_: KubernetesSettings) -> AsyncGenerator[RecordedClient]:
        yield replay

    monkeypatch.setattr(reader, "open_client", open_recorded)
    made = KubernetesSettings.model_validate({"namespace": "queues", **settings})
    return await KubernetesApiReader(made, FixedClock(), page=page).gather()


def the_workload(facts: KubernetesFacts) -> Workload:
    assert isinstance(facts.workload, Workload), facts.workload
    return facts.workload


def first(answers: Answers, kind: Kind) -> Raw:
    return answers[PATHS[kind]][1]["items"][0]
