"""How the reader behaves on a real socket: time-outs, sizes, certificates, redirects, tokens that are rotated."""

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader, api
from bot.model import Unknown, UnknownReason
from bot.model.kubernetes import Kind, KubernetesFacts
from bot.settings.clusters import KubernetesSettings
from tests.unit.adapters.kubernetes.recorded import recording

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TIMEOUT = 6.0
"""Seconds; short for a test, and long for an answer on loopback even where the machine is busy."""
PODS = "/api/v1/namespaces/queues/pods"


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """An API server on loopback that answers as the recorded one, except where `handler` does."""
    answers = recording("healthy")

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        if response.status != SHALL_BE_RECORDED:
            return response
        status, body = answers.get(request.path, (404, {"reason": "NotFound"}))
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


SHALL_BE_RECORDED = 299


async def recorded(request: web.Request) -> web.StreamResponse:
    del request
    return web.Response(status=SHALL_BE_RECORDED)


def kubeconfig(folder: Path, server: str, **cluster: object) -> KubernetesSettings:
    raw = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": {"token": "t-canary"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(raw))
    return KubernetesSettings(kubeconfig=path, namespace="queues", timeout_seconds=TIMEOUT)


async def gather(settings: KubernetesSettings) -> KubernetesFacts:
    return await KubernetesApiReader(settings, SystemClock()).gather()


async def test_recorded_answers_read_the_same_over_a_socket(tmp_path: Path):
    async with serving(recorded) as server:
        facts = await gather(kubeconfig(tmp_path, server))
    assert facts.unknown == ()
    assert isinstance(facts.of(Kind.POD), tuple)


async def test_a_server_that_hangs_costs_one_time_out_and_the_facts_behind_it(tmp_path: Path):
    async def hang(request: web.Request) -> web.StreamResponse:
        if request.path.startswith((PODS, "/api/v1/namespaces/queues/events")):
            await asyncio.sleep(30)
        return await recorded(request)

    async with serving(hang) as server:
        started = time.monotonic()
        facts = await gather(kubeconfig(tmp_path, server))
        took = time.monotonic() - started
    pods, events = facts.of(Kind.POD), facts.of(Kind.EVENT)
    assert isinstance(pods, Unknown)
    assert isinstance(events, Unknown)
    assert (pods.reason, events.reason) == (UnknownReason.TIMED_OUT, UnknownReason.TIMED_OUT)
    assert "did not answer `list pods in namespace queues` within 6 s" in pods.detail
    assert took < 3 * TIMEOUT
    assert not isinstance(facts.of(Kind.SERVICE), Unknown)


async def test_a_server_that_trickles_without_end_is_given_up_in_time(tmp_path: Path):
    async def trickle(request: web.Request) -> web.StreamResponse:
        if request.path != PODS:
            return await recorded(request)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.1)
        except ConnectionError:
            return response

    async with serving(trickle) as server:
        found = (await gather(kubeconfig(tmp_path, server))).of(Kind.POD)
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.TIMED_OUT


async def test_a_list_of_slow_pages_is_given_up_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "WHOLE_LIST", 1)

    async def drag(request: web.Request) -> web.StreamResponse:
        if request.path != PODS:
            return await recorded(request)
        await asyncio.sleep(0.5)
        return web.json_response({"items": [], "metadata": {"continue": "more"}})

    async with serving(drag) as server:
        found = (await gather(kubeconfig(tmp_path, server))).of(Kind.POD)
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.TIMED_OUT
    assert "Not all pages of `list pods in namespace queues` came within 6 s" in found.detail


async def test_an_answer_without_end_is_cut_off_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "MAX_BYTES", 2**20)

    async def flood(request: web.Request) -> web.StreamResponse:
        if request.path != PODS:
            return await recorded(request)
        response = web.StreamResponse()
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 2**16)
        except ConnectionError:
            return response

    async with serving(flood) as server:
        found = (await gather(kubeconfig(tmp_path, server))).of(Kind.POD)
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.UNREADABLE
    assert "larger than what is read (1 MiB)" in found.detail


async def test_nobody_listening_leaves_every_fact_unknown_and_raises_nothing(tmp_path: Path):
    async with serving(recorded) as server:
        pass
    facts = await gather(kubeconfig(tmp_path, server))
    assert {unknown.reason for unknown in facts.unknown} == {UnknownReason.UNREACHABLE}
    assert isinstance(facts.workload, Unknown)
    assert "can't be reached to list statefulsets in namespace queues" in facts.workload.detail


async def test_a_login_that_fails_leaves_every_fact_unknown_and_raises_nothing(tmp_path: Path):
    path = tmp_path / "kubeconfig"
    path.write_text("a: [")
    facts = await gather(KubernetesSettings(kubeconfig=path, namespace="queues"))
    assert {isinstance(facts.of(kind), Unknown) for kind in Kind} == {True}
    assert len(facts.unknown) == 1
    assert "can't log in" in facts.unknown[0].detail


async def test_nothing_is_sent_twice(tmp_path: Path):
    asked: list[str] = []

    async def refuse(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        return web.json_response({"message": "busy"}, status=503, headers={"Retry-After": "0"})

    async with serving(refuse) as server:
        await gather(kubeconfig(tmp_path, server))
    assert len(asked) == len(set(asked))


async def test_the_token_of_the_file_is_the_one_that_is_sent(tmp_path: Path):
    seen: set[str] = set()

    async def watch(request: web.Request) -> web.StreamResponse:
        seen.add(request.headers.get("Authorization", ""))
        return await recorded(request)

    authority, tls = certificate(tmp_path)
    (tmp_path / "token").write_text("first")
    async with serving(watch, tls) as server:
        settings = KubernetesSettings(
            server=server, token_file=tmp_path / "token", ca_file=authority, namespace="queues", timeout_seconds=5
        )
        assert (await gather(settings)).unknown == ()
        (tmp_path / "token").write_text("second\n")
        assert (await gather(settings)).unknown == ()
    assert seen == {"Bearer first", "Bearer second"}


async def test_a_certificate_that_nobody_trusts_is_refused_before_the_token_is_sent(tmp_path: Path):
    seen: list[str] = []

    async def watch(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return await recorded(request)

    _, tls = certificate(tmp_path)
    (tmp_path / "token").write_text("t-canary")
    async with serving(watch, tls) as server:
        settings = KubernetesSettings(server=server, token_file=tmp_path / "token", namespace="queues")
        facts = await gather(settings)
    assert seen == []
    assert {unknown.reason for unknown in facts.unknown} == {UnknownReason.UNREACHABLE}
    assert all("certificate is not trusted" in unknown.detail for unknown in facts.unknown)
    assert "t-canary" not in json.dumps([unknown.model_dump(mode="json") for unknown in facts.unknown])


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of 127.0.0.1 that is its own authority."""
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    names = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *files, *names],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context
