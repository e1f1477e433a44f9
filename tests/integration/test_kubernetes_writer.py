"""What becomes of a write: sent once, on the condition that the object is as it was read, and every failure told as *not applied* or *unknown*."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bot.adapters.kubernetes import KubernetesApiWriter
from bot.errors import (
    BadInput,
    NatsmedicError,
    NotSent,
    ObjectMoved,
    ObjectRefused,
    OutcomeUnknown,
    ReadDenied,
    Refused,
    Unreachable,
    Unreadable,
    WriteDenied,
)
from bot.model import JsonObject, OperationId
from bot.model.kubernetes import Change, Kind, Verb, creation, deletion, patch, receipt_of, signed
from tests.integration.test_kubernetes_api import kubeconfig

OPERATION = OperationId("op_1")

STATEFUL_SET: JsonObject = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "nats", "uid": "uid-1", "resourceVersion": "7", "managedFields": [{"manager": "helm"}]},
    "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "nats", "image": "nats:2.10.26"}]}}},
    "status": {"replicas": 3},
}


def scaled(replicas: int) -> JsonObject:
    return STATEFUL_SET | {"spec": STATEFUL_SET["spec"] | {"replicas": replicas}}


SCALE = patch(Kind.STATEFUL_SET, STATEFUL_SET, signed(scaled(4), OPERATION))
BUDGET = creation(
    Kind.BUDGET, {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
)
POD = deletion(Kind.POD, {"apiVersion": "v1", "metadata": {"name": "nats-2", "uid": "uid-2", "resourceVersion": "9"}})


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    content_type: str
    authorization: str
    body: Any


@dataclass
class Server:
    """An API server that writes down what it is asked, and answers as it is told."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    asked: list[Asked] = field(default_factory=list[Asked])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                request.headers.get("Content-Type", ""),
                request.headers.get("Authorization", ""),
                json.loads(text) if text else None,
            )
        )
        return await self.answer(request)


def status(code: int, reason: str = "", message: str = "because") -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        del request
        return web.json_response({"kind": "Status", "reason": reason, "message": message, "code": code}, status=code)

    return answer


async def stored(request: web.Request) -> web.Response:
    del request
    return web.json_response(SCALE.after)


async def cut_off(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.Response:
    del request
    await asyncio.sleep(30)
    return web.Response()


@asynccontextmanager
async def writing(
    folder: Path, answer: Callable[[web.Request], Awaitable[web.StreamResponse]], *, seconds: float = 6.0
) -> AsyncGenerator[tuple[KubernetesApiWriter, Server]]:
    server = Server(answer)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = kubeconfig(folder, f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield KubernetesApiWriter(settings.model_copy(update={"timeout_seconds": seconds})), server
    finally:
        await runner.cleanup()


async def test_a_patch_holds_for_the_object_as_it_was_read_and_says_whose_it_is(tmp_path: Path):
    async with writing(tmp_path, stored) as (writer, server):
        made = await writer.write(SCALE)
    assert receipt_of(made) == OPERATION
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("PATCH", "/apis/apps/v1/namespaces/queues/statefulsets/nats")
    assert asked.query == {"fieldManager": "natsmedic"}
    assert asked.content_type == "application/json-patch+json"
    assert asked.body[:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
    ]
    assert sorted((op["op"], op["path"], json.dumps(op["value"])) for op in asked.body[2:]) == [
        ("add", "/metadata/annotations", '{"natsmedic.io/op": "op_1"}'),
        ("replace", "/spec/replicas", "4"),
    ]


async def test_a_deletion_holds_for_the_very_object(tmp_path: Path):
    async with writing(tmp_path, status(200)) as (writer, server):
        await writer.write(POD)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("DELETE", "/api/v1/namespaces/queues/pods/nats-2")
    assert asked.body["preconditions"] == {"uid": "uid-2"}, "a pod's status moves all the time"


async def test_a_creation_uses_the_version_of_its_object(tmp_path: Path):
    async with writing(tmp_path, status(201)) as (writer, server):
        await writer.write(BUDGET)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/apis/policy/v1beta1/namespaces/queues/poddisruptionbudgets")
    assert asked.body == BUDGET.after


FAILURES: list[tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], type[NatsmedicError], bool]] = [
    (status(401, "Unauthorized"), WriteDenied, False),
    (status(403, "Forbidden"), WriteDenied, False),
    (status(404, "NotFound"), ObjectRefused, False),
    (status(409, "Conflict"), ObjectMoved, True),
    (status(409, "AlreadyExists"), ObjectRefused, False),
    (status(422, "Invalid"), ObjectRefused, False),
    (status(429, "TooManyRequests"), ObjectMoved, True),
    (status(500, "InternalError"), OutcomeUnknown, False),
    (status(503, "ServiceUnavailable"), OutcomeUnknown, False),
    (status(504, "Timeout"), OutcomeUnknown, False),
    (cut_off, OutcomeUnknown, False),
    (hang, OutcomeUnknown, False),
]


@pytest.mark.parametrize(("answer", "error", "retry_helps"), FAILURES)
@pytest.mark.parametrize("change", [SCALE, BUDGET, POD], ids=str)
async def test_every_failure_is_told_for_what_it_is_and_nothing_is_sent_twice(
    tmp_path: Path,
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    error: type[NatsmedicError],
    change: Change,
    *,
    retry_helps: bool,
):
    async with writing(tmp_path, answer, seconds=0.5 if answer is hang else 6.0) as (writer, server):
        with pytest.raises(error) as raised:
            await writer.write(change)
    assert type(raised.value) is error
    assert raised.value.retry_helps is retry_helps
    assert len(server.asked) == 1


async def test_without_a_server_nothing_was_sent(tmp_path: Path):
    async with writing(tmp_path, stored) as (writer, _):
        pass
    with pytest.raises(NotSent, match="not sent"):
        await writer.write(SCALE)
    with pytest.raises(Unreachable):
        await writer.rehearse(SCALE)


async def test_what_the_applier_may_not_names_verb_and_resource(tmp_path: Path):
    async with writing(tmp_path, status(403, "Forbidden")) as (writer, _):
        with pytest.raises(WriteDenied, match=r"may not patch statefulsets.apps nats.*no role grants it `patch`"):
            await writer.write(SCALE)


async def test_a_rehearsal_is_a_dry_run_and_shows_no_secret(tmp_path: Path):
    secret = {"name": "PASSWORD", "value": "c4n4ry"}
    container = {"name": "nats", "image": "nats:2.10.26", "env": [secret]}
    before = STATEFUL_SET | {"spec": {"replicas": 3, "template": {"spec": {"containers": [container]}}}}
    after = before | {"spec": before["spec"] | {"replicas": 4}}

    async def answer(request: web.Request) -> web.Response:
        del request
        return web.json_response(after)

    async with writing(tmp_path, answer) as (writer, server):
        seen = await writer.rehearse(patch(Kind.STATEFUL_SET, before, after))
    assert server.asked[0].query == {"fieldManager": "natsmedic", "dryRun": "All"}
    assert (seen.by_server, seen.before["spec"]["replicas"], seen.after["spec"]["replicas"]) == (True, 3, 4)
    assert seen.before["metadata"] == {"name": "nats"}, "bookkeeping says nothing to people"
    assert "status" not in seen.before
    assert "c4n4ry" not in seen.model_dump_json()


@pytest.mark.parametrize(
    ("code", "error"), [(403, ReadDenied), (409, Unreadable), (429, Unreadable), (500, Unreadable), (422, Refused)]
)
async def test_a_rehearsal_that_fails_is_unreadable_and_one_that_is_refused_is_refused(
    tmp_path: Path, code: int, error: type[NatsmedicError]
):
    async with writing(tmp_path, status(code)) as (writer, _):
        with pytest.raises(error):
            await writer.rehearse(SCALE)


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("kind", list(Kind))
async def test_what_is_not_allowed_is_never_sent(tmp_path: Path, verb: Verb, kind: Kind):
    allowed = {
        Kind.STATEFUL_SET: {"patch"},
        Kind.CONFIG_MAP: {"patch"},
        Kind.CLAIM: {"patch"},
        Kind.BUDGET: {"patch", "create", "delete"},
        Kind.POD: {"delete"},
    }
    if verb in allowed.get(kind, set()):
        return
    async with writing(tmp_path, stored) as (writer, server):
        with pytest.raises(BadInput, match=f"never writes `{verb} {kind}"):
            await writer.write(Change(verb=verb, kind=kind, name="nats"))
    assert server.asked == []
