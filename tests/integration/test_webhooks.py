"""The webhook door over real sockets: who gets in, what is refused, and that 2xx means stored."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bot.adapters.webhooks import serving, webhook_app
from bot.adapters.webhooks.server import HEAD_BYTES
from bot.errors import SettingsError, StoreBusy
from bot.lab.http import http_client
from bot.model import DeliveryId, JsonObject
from bot.settings import WebhookSettings
from tests.integration import webhook_support as support
from tests.integration.webhook_support import Door

PAYLOADS = Path(__file__).parent / "payloads"
FIRING = (PAYLOADS / "alertmanager_0.25_firing.json").read_text(encoding="utf-8").strip()
RESOLVED = (PAYLOADS / "alertmanager_0.25_resolved.json").read_text(encoding="utf-8").strip()

BEARER = {"Authorization": "Bearer tok-alertmanager"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"grafana:tok-second").decode()}
LIMIT = 64 * 1024
SETTINGS = WebhookSettings.model_validate(
    {
        "listen": "127.0.0.1:0",
        "sources": {
            "alertmanager": {"bearer": "tok-alertmanager"},
            "second": {"username": "grafana", "password": "tok-second"},
        },
        "max_body_bytes": LIMIT,
        "max_queue": 5,
    }
)


@asynccontextmanager
async def open_door(folder: Path, **options: Any) -> AsyncGenerator[Door]:
    async with support.open_door(folder, SETTINGS, **options) as door:
        yield door


async def post(door: Door, body: str | bytes, **headers: str) -> httpx.Response:
    return await door.client.post("/webhooks/alertmanager", content=body, headers=BEARER | headers)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncGenerator[Door]:
    async with open_door(tmp_path) as opened:
        yield opened


async def test_a_real_alertmanager_payload_is_a_durable_row_before_202(door: Door) -> None:
    answer = await post(door, FIRING)
    assert answer.status_code == 202
    (delivery,) = await door.store.unprocessed_deliveries()
    assert answer.json() == {"delivery": delivery.id}
    assert (delivery.source, delivery.body) == ("alertmanager", FIRING)


async def test_basic_authentication_opens_a_source_that_has_a_password(door: Door) -> None:
    answer = await door.client.post("/webhooks/second", content=FIRING, headers=BASIC)
    assert answer.status_code == 202


WRONG: dict[str, dict[str, str]] = {
    "none": {},
    "empty": {"Authorization": ""},
    "scheme alone": {"Authorization": "Bearer"},
    "empty quotes": {"Authorization": 'Bearer ""'},
    "wrong bearer": {"Authorization": "Bearer tok-alertmanage"},
    "longer bearer": {"Authorization": "Bearer tok-alertmanagerr"},
    "bare token": {"Authorization": "tok-alertmanager"},
    "empty basic": {"Authorization": "Basic Og=="},
    "not base64": {"Authorization": "Basic %%%"},
    "wrong basic": {"Authorization": "Basic " + base64.b64encode(b"grafana:tok").decode()},
    "not latin": {"Authorization": "Bearer tök"},
}


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
@pytest.mark.parametrize("wrong", [*sorted(WRONG), "other source's"])
async def test_without_the_sources_own_secret_nothing_is_stored(door: Door, source: str, wrong: str) -> None:
    others = {"alertmanager": BASIC, "second": BEARER}
    headers = others[source] if wrong == "other source's" else WRONG[wrong]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await door.client.post(f"/webhooks/{source}", content=FIRING, headers=raw)
    assert answer.status_code == 401
    assert "realm" in answer.headers["WWW-Authenticate"]
    assert await door.bodies() == []


async def test_two_authorization_headers_are_refused(door: Door) -> None:
    raw = [("Authorization", "Bearer tok-alertmanager"), ("Authorization", "Bearer other")]
    assert (await door.client.post("/webhooks/alertmanager", content=FIRING, headers=raw)).status_code == 401


async def test_a_stranger_is_refused_before_the_body_is_read(door: Door) -> None:
    reader, writer = await asyncio.open_connection(*door.address)
    writer.write(b"POST /webhooks/alertmanager HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


async def test_other_methods_and_routes_are_not_there(door: Door) -> None:
    assert (await door.client.get("/webhooks/alertmanager", headers=BEARER)).status_code == 405
    assert (await door.client.post("/webhooks/unknown", headers=BEARER)).status_code == 404
    assert (await door.client.post("/slack/events")).status_code == 404


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "not JSON"),
    "cut off": (FIRING[:200], "not JSON"),
    "list": ("[]", "not an object"),
    "text": ('"hello"', "not an object"),
    "NaN": (FIRING.replace('"truncatedAlerts":0', '"truncatedAlerts":NaN'), "NaN"),
    "Infinity": ('{"version":"4","alerts":[],"x":-Infinity}', "-Infinity"),
    "same key twice": ('{"version":"4","version":"4","alerts":[]}', "same key twice"),
    "same label twice": (FIRING.replace('"cluster":"prod"', '"cluster":"prod","cluster":"dev"'), "same key twice"),
    "nested 33 deep": ('{"version":"4","alerts":[],"x":' + "[" * 32 + "]" * 32 + "}", "nested deeper than 32"),
    "nested without end": ('{"x":' + "[" * 50_000, "nested deeper than 32"),
    "no version": ('{"alerts":[]}', "version 4"),
    "version 3": (FIRING.replace('"version":"4"', '"version":"3"'), "version 4"),
    "version as number": (FIRING.replace('"version":"4"', '"version":4'), "version 4"),
    "no alerts": ('{"version":"4"}', "alerts (missing)"),
    "alerts as text": ('{"version":"4","alerts":"x"}', "alerts (tuple_type)"),
    "unknown status": (FIRING.replace('[{"status":"firing"', '[{"status":"burning"'), "alerts.0.status"),
    "label as number": (FIRING.replace('"cluster":"prod"', '"cluster":5'), "alerts.0.labels"),
    "time without zone": (FIRING.replace("302568Z", "302568"), "alerts.0.startsAt"),
    "time outside UTC": (FIRING.replace("2026-11-21T08:08:30.633302568Z", "0001-01-01T00:00:00+02:00"), "calendar"),
    "endless number": ('{"version":"4","alerts":[],"x":' + "9" * 5000 + "}", "number"),
    "not UTF-8": (b'{"version":"4","alerts":[],"x":"\xff"}', "not UTF-8"),
}


@pytest.mark.parametrize("case", sorted(BAD))
async def test_a_malformed_body_is_refused_with_a_sentence_and_not_stored(door: Door, case: str) -> None:
    body, expected = BAD[case]
    answer = await post(door, body)
    assert answer.status_code == 400
    assert expected in answer.json()["error"]
    assert "prod" not in answer.text
    assert await door.bodies() == []


async def test_a_refusal_logs_one_line_without_the_body(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    await post(door, FIRING.replace("ORDERS", "CANARY")[:300])
    said = capsys.readouterr()  # a command of the terminal that ran before in this process has turned the log to stderr
    lines = [line for line in (said.out + said.err).splitlines() if "refused" in line]
    assert len(lines) == 1
    assert "CANARY" not in lines[0]


async def test_a_body_over_the_limit_is_refused_by_its_announcement_and_while_it_streams(door: Door) -> None:
    assert (await post(door, b"x" * (LIMIT + 1))).status_code == 413

    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(LIMIT // 1024 + 1):
            yield b"x" * 1024

    answer = await door.client.post("/webhooks/alertmanager", content=endless(), headers=BEARER)
    assert answer.status_code == 413
    assert await door.bodies() == []


async def test_a_body_of_exactly_the_limit_is_accepted(door: Door) -> None:
    padded = FIRING[:-1] + ',"padding":"'
    padded += "x" * (LIMIT - len(padded.encode()) - 2) + '"}'
    assert len(padded.encode()) == LIMIT
    assert (await post(door, padded)).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
async def test_a_compressed_body_is_refused_unopened(door: Door, encoding: str) -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    answer = await post(door, bomb, **{"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert await door.bodies() == []


async def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    async with open_door(tmp_path, read_timeout=0.2) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        head = b"POST /webhooks/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tok-alertmanager\r\n"
        writer.write(head + b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
        assert await door.bodies() == []


@pytest.mark.parametrize("start", [b"", b"POST /webhooks/alertmanager HTTP/1.1\r\nX-Slow: "])
async def test_a_request_head_that_never_ends_is_hung_up_on(tmp_path: Path, start: bytes) -> None:
    async with open_door(tmp_path, head_timeout=0.2) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        writer.write(start)
        await writer.drain()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing(door: Door) -> None:
    _, writer = await asyncio.open_connection(*door.address)
    head = b"POST /webhooks/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tok-alertmanager\r\n"
    writer.write(head + f"Content-Length: {len(FIRING)}\r\n\r\n".encode() + FIRING[:100].encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await post(door, RESOLVED)).status_code == 202
    assert await door.bodies() == [RESOLVED]


async def test_a_request_head_over_its_limit_is_refused_and_hung_up_on(door: Door) -> None:
    reader, writer = await asyncio.open_connection(*door.address)
    writer.write(b"POST /webhooks/alertmanager HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * (HEAD_BYTES + 1))
    await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        await reader.read()
    writer.close()
    assert (await post(door, FIRING)).status_code == 202


async def test_a_connection_too_many_is_hung_up_on_and_the_others_are_served(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.webhooks.server._ImpatientProtocol.most", 2)
    held = [await asyncio.open_connection(*door.address) for _ in range(2)]
    reader, writer = await asyncio.open_connection(*door.address)
    try:
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await reader.read() == b""
    finally:
        for one in (writer, *(writer for _, writer in held)):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()
    async with asyncio.timeout(5):
        while True:
            with suppress(httpx.TransportError):
                assert (await post(door, FIRING)).status_code == 202
                break


async def test_bodies_that_do_not_fit_into_memory_together_are_503_and_fit_later(tmp_path: Path) -> None:
    roomy = SETTINGS.model_copy(update={"max_queue": 1_000})
    async with support.open_door(tmp_path, roomy, held_bytes=LIMIT) as door:
        _, writer = await asyncio.open_connection(*door.address)
        head = b"POST /webhooks/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tok-alertmanager\r\n"
        writer.write(head + f"Content-Length: {LIMIT}\r\n\r\n".encode() + b"x" * (LIMIT - 1))
        await writer.drain()
        async with asyncio.timeout(5):
            while (answer := await post(door, FIRING)).status_code == 202:
                await asyncio.sleep(0)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "15")
            writer.close()
            await writer.wait_closed()
            while (answer := await post(door, FIRING)).status_code != 202:
                assert answer.status_code == 503


async def test_a_source_over_its_quota_is_503_with_its_time_and_no_other_source_is(tmp_path: Path) -> None:
    named = {"alerts_per_second": 0.5, "alerts_burst": 2}
    sources = {name: source.model_copy(update=named) for name, source in SETTINGS.sources.items()}
    settings = SETTINGS.model_copy(update={"sources": sources})
    async with support.open_door(tmp_path, settings) as door:
        assert [(await post(door, FIRING)).status_code for _ in range(2)] == [202, 202]
        refused = await post(door, RESOLVED)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (await door.client.post("/webhooks/second", content=FIRING, headers=BASIC)).status_code == 202
        door.clock.time += timedelta(seconds=2)
        assert (await post(door, RESOLVED)).status_code == 202
        assert len(await door.bodies()) == 4


async def test_load_is_shed_with_503_when_the_queue_is_full(door: Door) -> None:
    answers = [await post(door, FIRING) for _ in range(SETTINGS.max_queue + 1)]
    assert [answer.status_code for answer in answers] == [202] * SETTINGS.max_queue + [503]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert len(await door.bodies()) == SETTINGS.max_queue


async def test_a_busy_store_is_503_and_never_2xx(tmp_path: Path) -> None:
    class Busy:
        async def accept(self, source: str, body: str) -> DeliveryId:
            raise StoreBusy(f"locked while {source} sent {len(body)} characters")

    async with open_door(tmp_path, accepts=Busy()) as door:
        answer = await post(door, FIRING)
    assert answer.status_code == 503
    assert answer.json() == {"error": "The delivery was not stored. Send it again."}


async def test_health_tells_alive_from_ready(tmp_path: Path) -> None:
    problems: list[str] = []

    async def health() -> Sequence[str]:
        return problems

    async with open_door(tmp_path, health=health) as door:
        assert (await door.client.get("/healthz")).status_code == 200
        assert (await door.client.get("/readyz")).json() == {"ready": True, "problems": [], "checkpoints": []}
        problems.append("The database does not answer.")
        answer = await door.client.get("/readyz")
        assert (answer.status_code, answer.json()["problems"]) == (503, problems)
        assert (await door.client.get("/healthz")).status_code == 200


async def test_a_place_of_checkpoints_that_is_away_is_told_and_makes_nothing_unready() -> None:
    away: JsonObject = {"place": "stream AUDIT", "row": 7, "age_seconds": 300, "problem": "It is away."}
    app = webhook_app(SETTINGS, Never(), checkpoints=lambda: [away])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://natsmedic") as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "problems": [], "checkpoints": [away]})


async def test_slack_gets_its_body_and_the_same_limits(tmp_path: Path) -> None:
    async def slack(request: Request) -> Response:
        return PlainTextResponse((await request.body())[::-1])

    async with open_door(tmp_path, slack_handler=slack) as door:
        assert (await door.client.post("/slack/events", content=b"payload")).content == b"daolyap"
        assert (await door.client.post("/slack/events", content=b"x" * (LIMIT + 1))).status_code == 413


async def test_an_address_in_use_is_a_clear_error(door: Door) -> None:
    with pytest.raises(SettingsError, match=r"webhooks\.listen: 127\.0\.0\.1:\d+ cannot be listened on"):
        async with serving(webhook_app(SETTINGS, Never()), f"127.0.0.1:{door.address[1]}"):
            pass


class Never:
    async def accept(self, source: str, body: str) -> DeliveryId:
        raise AssertionError(f"{source} sent {body!r} to a server that must not start")


async def test_stopping_lets_a_request_in_flight_end(tmp_path: Path) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    class Slow:
        async def accept(self, source: str, body: str) -> DeliveryId:
            entered.set()
            await release.wait()
            return DeliveryId(f"dlv_{source}_{len(body)}")

    async with http_client() as client:
        async with serving(webhook_app(SETTINGS, Slow()), SETTINGS.listen) as (host, port):
            url = f"http://{host}:{port}/webhooks/alertmanager"
            sending = asyncio.create_task(client.post(url, content=FIRING, headers=BEARER))
            await entered.wait()
            asyncio.get_running_loop().call_later(0.05, release.set)
        assert (await sending).status_code == 202
