"""Grafana, PagerDuty and generic senders over real sockets: the same refusals for each, replays, rotation, and incidents from each."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from bot.flow.audit import verify
from bot.model import AlertState, IncidentState
from bot.settings import WebhookSettings
from tests.integration.store_records import NOW
from tests.integration.webhook_support import Door, hmac_hex, open_door

PAYLOADS = Path(__file__).parent / "payloads"


def payload(name: str) -> str:
    return (PAYLOADS / f"{name}.json").read_text(encoding="utf-8").strip()


MAPPING = {
    "name": "data.check",
    "fingerprint": "data.id",
    "state": "data.status",
    "started_at": "data.since",
    "firing": ["critical", "warning"],
    "resolved": ["ok"],
    "labels": {"cluster": "data.cluster", "consumer": "data.objects.0.name", "origin": "source"},
}
CHECK = {
    "check": "NatsConsumerStuck",
    "id": 17,
    "status": "critical",
    "since": "2026-11-21T07:58:00Z",
    "cluster": "prod",
    "objects": [{"name": "worker1"}],
}
EVENT = {"specversion": "1.0", "id": "A234-1", "source": "/shop/checks", "type": "com.example.check", "data": CHECK}
BODIES = {
    "grafana": payload("grafana_firing"),
    "pagerduty": payload("pagerduty_triggered"),
    "signed": json.dumps({"data": CHECK}),
    "bearer": json.dumps({"data": CHECK}),
    "basic": json.dumps({"data": CHECK}),
    "alertmanager": payload("alertmanager_0.25_firing"),
}
SIGNING = ("grafana", "pagerduty", "signed")
LIMIT = 64 * 1024
SETTINGS = WebhookSettings.model_validate(
    {
        "listen": "127.0.0.1:0",
        "max_body_bytes": LIMIT,
        "max_queue": 5,
        "sources": {
            "grafana": {"kind": "grafana", "hmac_secret": "tok-grafana", "timestamp_header": "X-Grafana-Time"},
            "pagerduty": {"kind": "pagerduty", "hmac_secret": "tok-pagerduty", "previous": "tok-pagerduty-old"},
            "signed": {
                "kind": "generic",
                "hmac_secret": "tok-signed",
                "signature_header": "X-Shop-Signature",
                "timestamp_header": "X-Shop-Time",
                "mapping": MAPPING,
            },
            "bearer": {"kind": "generic", "bearer": "tok-bearer", "mapping": MAPPING},
            "basic": {"kind": "generic", "username": "shop", "password": "tok-basic", "mapping": MAPPING},
            "alertmanager": {"bearer": "tok-alertmanager"},
        },
    }
)


def proof(source: str, body: str | bytes, secret: str | None = None, at: int = int(NOW.timestamp())) -> dict[str, str]:
    """Return the headers with which this source proves itself."""
    raw = body.encode() if isinstance(body, str) else body
    key = f"tok-{source}" if secret is None else secret
    if source == "pagerduty":
        return {"X-PagerDuty-Signature": "v1=" + hmac_hex(key, raw)}
    signature = hmac_hex(key, f"{at}:".encode() + raw)
    if source == "grafana":
        return {"X-Grafana-Alerting-Signature": signature, "X-Grafana-Time": str(at)}
    if source == "signed":
        return {"X-Shop-Signature": signature, "X-Shop-Time": str(at)}
    if source == "basic":
        return {"Authorization": "Basic " + base64.b64encode(f"shop:{key}".encode()).decode()}
    return {"Authorization": f"Bearer {key}".strip()}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncGenerator[Door]:
    async with open_door(tmp_path, SETTINGS) as opened:
        yield opened


async def post(door: Door, source: str, body: str | bytes, **headers: str) -> httpx.Response:
    return await door.client.post(f"/webhooks/{source}", content=body, headers=proof(source, body) | headers)


async def fold(door: Door) -> None:
    await door.intake.drain()


async def untouched(door: Door) -> bool:
    return not (await door.bodies() or await door.store.audit_entries())


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
async def test_the_documented_payload_is_a_durable_row_before_202(door: Door, source: str) -> None:
    answer = await post(door, source, BODIES[source])
    assert answer.status_code == 202
    (delivery,) = await door.store.unprocessed_deliveries()
    assert answer.json() == {"delivery": delivery.id}
    assert (delivery.source, delivery.body) == (source, BODIES[source])


async def test_signatures_made_by_openssl_are_accepted(door: Door) -> None:
    """`printf '%s' TEXT | openssl dgst -sha256 -hmac KEY` over the payload files."""
    pagerduty = "905260ba3a3d89b4cf65c0c4ec8328d13ba0d6d6821e417ed102205a79ef01f2"
    grafana = "363a4994ee338e5bc2cd8407e8e3e4b999d79f471acac901f5f361792a7aeecf"
    for source, headers in {
        "grafana": {"X-Grafana-Alerting-Signature": grafana, "X-Grafana-Time": "1795248000"},
        "pagerduty": {"X-PagerDuty-Signature": f"v1={pagerduty}"},
    }.items():
        answer = await door.client.post(f"/webhooks/{source}", content=BODIES[source], headers=headers)
        assert answer.status_code == 202, source


Strange = Callable[[str], dict[str, str]]
STRANGE: dict[str, Strange] = {
    "none": lambda _: {},
    "empty": lambda source: dict.fromkeys(proof(source, BODIES[source]), ""),
    "empty secret": lambda source: proof(source, BODIES[source], secret=""),
    "wrong": lambda source: proof(source, BODIES[source], secret="tok-wrong"),
    "longer": lambda source: proof(source, BODIES[source], secret=f"tok-{source}x"),
    "other source's secret": lambda source: proof(
        source, BODIES[source], secret="tok-bearer" if source != "bearer" else "tok-signed"
    ),
    "other source's headers": lambda source: (
        proof("alertmanager", "") if source in {*SIGNING, "basic"} else proof("pagerduty", BODIES[source])
    ),
    "its own secret by another scheme": lambda source: (
        {"Authorization": f"Basic tok-{source}" if source in {"bearer", "alertmanager"} else f"Bearer tok-{source}"}
    ),
    "another body's": lambda source: proof(source, "{}") if source in SIGNING else {"Authorization": "Bearer"},
    "not latin": lambda source: dict.fromkeys(proof(source, BODIES[source]), "Bearer tök"),
}


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
@pytest.mark.parametrize("case", sorted(STRANGE))
async def test_without_the_sources_own_proof_nothing_is_stored(door: Door, source: str, case: str) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in STRANGE[case](source).items()]
    answer = await door.client.post(f"/webhooks/{source}", content=BODIES[source], headers=raw)
    assert answer.status_code == 401
    assert "realm" in answer.headers["WWW-Authenticate"]
    assert "tok-" not in answer.text
    assert await untouched(door)


@pytest.mark.parametrize("source", ["grafana", "signed"])
@pytest.mark.parametrize("seconds", [-3600, -301, 301, 3600])
async def test_a_signed_time_too_far_from_ours_is_refused(door: Door, source: str, seconds: int) -> None:
    headers = proof(source, BODIES[source], at=int(NOW.timestamp()) + seconds)
    answer = await door.client.post(f"/webhooks/{source}", content=BODIES[source], headers=headers)
    assert answer.status_code == 401
    assert await untouched(door)


@pytest.mark.parametrize("source", ["grafana", "signed"])
async def test_a_captured_request_with_a_signed_time_is_worthless_after_five_minutes(door: Door, source: str) -> None:
    statuses: list[int] = []
    captured = proof(source, BODIES[source])
    for after in (timedelta(0), timedelta(seconds=1), timedelta(hours=1), timedelta(days=29)):
        door.clock.time = NOW + after
        answer = await door.client.post(f"/webhooks/{source}", content=BODIES[source], headers=captured)
        statuses.append(answer.status_code)
        await fold(door)
    assert statuses == [202, 202, 401, 401]
    assert len(await door.store.incidents()) == 1


async def test_a_replayed_pagerduty_event_is_answered_and_has_no_effect(door: Door) -> None:
    first = await post(door, "pagerduty", BODIES["pagerduty"])
    await fold(door)
    (incident,) = await door.store.incidents()
    entries = await door.store.audit_entries()
    for after in (timedelta(seconds=1), timedelta(hours=1), timedelta(days=29)):
        door.clock.time = NOW + after
        again = await post(door, "pagerduty", BODIES["pagerduty"])
        assert (again.status_code, again.json()) == (202, first.json())
        await fold(door)
    assert await door.store.incidents() == [incident]
    assert len(await door.store.alerts(incident.id)) == 1
    assert await door.store.audit_entries() == entries
    assert await door.bodies() == []


async def test_a_replay_is_known_after_a_restart(tmp_path: Path) -> None:
    async with open_door(tmp_path, SETTINGS) as before:
        first = await post(before, "pagerduty", BODIES["pagerduty"])
    async with open_door(tmp_path, SETTINGS) as after:
        again = await post(after, "pagerduty", BODIES["pagerduty"])
        assert again.json() == first.json()
        assert len(await after.bodies()) == 1


async def test_a_hundred_copies_at_once_are_one_delivery(tmp_path: Path) -> None:
    async with open_door(tmp_path, SETTINGS.model_copy(update={"max_queue": 1000})) as door:
        answers = await asyncio.gather(*(post(door, "pagerduty", BODIES["pagerduty"]) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["delivery"] for answer in answers}) == 1
        assert len(await door.bodies()) == 1


async def test_the_same_event_id_of_another_source_is_another_event(door: Door) -> None:
    await post(door, "bearer", BODIES["bearer"])
    (other,) = await door.store.unprocessed_deliveries()
    async with door.store.begin() as tx:
        assert await tx.first_delivery("other", "01GNATSMEDICTRIGGERED0001", other.id) == other.id
    assert (await post(door, "pagerduty", BODIES["pagerduty"])).json() != {"delivery": other.id}
    assert len(await door.bodies()) == 2


async def test_a_pagerduty_secret_is_rotated_without_losing_a_request(door: Door) -> None:
    for secret, name in (("tok-pagerduty-old", "pagerduty_triggered"), ("tok-pagerduty", "pagerduty_resolved")):
        body = payload(name)
        answer = await door.client.post("/webhooks/pagerduty", content=body, headers=proof("pagerduty", body, secret))
        assert answer.status_code == 202
    both = {"X-PagerDuty-Signature": f"v1={'0' * 64},v1={hmac_hex('tok-pagerduty', payload('pagerduty_reopened'))}"}
    answer = await door.client.post("/webhooks/pagerduty", content=payload("pagerduty_reopened"), headers=both)
    assert answer.status_code == 202


BAD: dict[str, tuple[str | bytes, int, str]] = {
    "empty": ("", 400, "not JSON"),
    "list": ("[]", 400, "not an object"),
    "other payload": ('{"hello": "CANARY"}', 400, ""),
    "same key twice": ('{"version":"1","version":"1"}', 400, "same key twice"),
    "NaN": ('{"x":NaN}', 400, "NaN"),
    "too deep": ('{"x":' + "[" * 50_000, 400, "nested deeper than 32"),
    "not UTF-8": (b'{"x":"\xff"}', 400, "not UTF-8"),
    "too large": (b"x" * (LIMIT + 1), 413, "larger"),
}


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
@pytest.mark.parametrize("case", sorted(BAD))
async def test_a_malformed_body_is_refused_with_a_sentence_and_not_stored(door: Door, source: str, case: str) -> None:
    body, status, expected = BAD[case]
    answer = await post(door, source, body)
    assert answer.status_code == status
    assert expected in answer.json()["error"]
    assert "CANARY" not in answer.text
    assert await untouched(door)


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
async def test_a_compressed_body_is_refused_unopened(door: Door, source: str) -> None:
    assert (await post(door, source, BODIES[source], **{"Content-Encoding": "gzip"})).status_code == 415
    assert await untouched(door)


@pytest.mark.parametrize("source", SIGNING)
async def test_an_unsigned_stranger_is_refused_before_the_body_is_read(door: Door, source: str) -> None:
    reader, writer = await asyncio.open_connection(*door.address)
    writer.write(f"POST /webhooks/{source} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n".encode())
    await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("source", SIGNING)
async def test_a_body_that_drips_below_a_plausible_signature_is_given_up(tmp_path: Path, source: str) -> None:
    async with open_door(tmp_path, SETTINGS, read_timeout=0.2) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        head = f"POST /webhooks/{source} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in proof(source, "{}").items())
        writer.write(f"{head}\r\n{{".encode())
        await writer.drain()
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
        assert await untouched(door)


@pytest.mark.parametrize("source", sorted(SETTINGS.sources))
async def test_load_is_shed_with_503(door: Door, source: str) -> None:
    for number in range(SETTINGS.max_queue):
        body = BODIES["pagerduty"].replace("TRIGGERED0001", f"TRIGGERED{number:04}X")
        assert (await post(door, "pagerduty", body)).status_code == 202
    answer = await post(door, source, BODIES[source])
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_pagerduty_and_a_grafana_alert_each_open_an_incident(door: Door) -> None:
    for source in ("pagerduty", "grafana"):
        assert (await post(door, source, BODIES[source])).status_code == 202
    await fold(door)
    found = {incident.source: incident for incident in await door.store.incidents()}
    assert {source: (i.title, i.cluster, i.channel, i.state) for source, i in found.items()} == dict.fromkeys(
        ("pagerduty", "grafana"), ("NatsConsumerStuck", "prod", "C0PROD", IncidentState.OPEN)
    )
    assert found["grafana"].labels["consumer"] == "worker1"
    assert found["pagerduty"].labels == {"title": "NatsConsumerStuck", "service": "nats-prod", "urgency": "high"}
    assert sorted(door.engine.diagnoses) == sorted(f"{incident.id}/alert" for incident in found.values())
    assert verify(await door.store.audit_entries()).intact


async def test_a_pagerduty_incident_is_cleared_and_reopened_by_its_events(door: Door) -> None:
    states: list[IncidentState] = []
    for name in ("triggered", "resolved", "reopened"):
        await post(door, "pagerduty", payload(f"pagerduty_{name}"))
        await fold(door)
        (incident,) = await door.store.incidents()
        states.append(incident.state)
    assert states == [IncidentState.OPEN, IncidentState.CLEARED, IncidentState.OPEN]


async def test_structured_and_binary_cloudevents_open_the_same_incident_and_repeats_have_no_effect(door: Door) -> None:
    structured = await post(
        door, "bearer", json.dumps(EVENT), **{"Content-Type": "application/cloudevents+json; charset=utf-8"}
    )
    headers = {f"ce-{name}": str(value) for name, value in EVENT.items() if name != "data"}
    binary = await post(door, "bearer", json.dumps(CHECK), **headers)
    assert (structured.status_code, binary.status_code) == (202, 202)
    assert structured.json() == binary.json(), "the same source and id is the same event"
    await fold(door)
    later = await post(door, "bearer", json.dumps(CHECK | {"status": "ok"}), **(headers | {"ce-id": "A234-2"}))
    assert later.json() != binary.json()
    await fold(door)
    (incident,) = await door.store.incidents()
    assert incident.labels == {"cluster": "prod", "consumer": "worker1", "origin": "/shop/checks"}
    states = sorted(
        alert.state for alert in await door.store.alerts(incident.id)
    )  # received in the same instant of the test's clock
    assert states == [AlertState.FIRING, AlertState.RESOLVED]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"ce-specversion": "0.3", "ce-id": "1", "ce-source": "s", "ce-type": "t"}, 400),
        ({"ce-specversion": "1.0", "ce-source": "s", "ce-type": "t"}, 400),
        ({"ce-specversion": "1.0", "ce-id": "%ff", "ce-source": "s", "ce-type": "t"}, 400),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-data": "{}"}, 400),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-a_b": "x"}, 400),
        ({"Content-Type": "application/cloudevents-batch+json"}, 415),
    ],
)
async def test_a_malformed_cloudevent_is_refused(door: Door, headers: dict[str, str], status: int) -> None:
    assert (await post(door, "bearer", json.dumps(CHECK), **headers)).status_code == status
    assert await untouched(door)


async def test_attributes_that_no_signature_covers_are_refused(door: Door) -> None:
    headers = {f"ce-{name}": str(value) for name, value in EVENT.items() if name != "data"}
    assert (await post(door, "signed", json.dumps(CHECK), **headers)).status_code == 415
    assert (await post(door, "signed", json.dumps(EVENT))).status_code == 202
    assert len(await door.bodies()) == 1


async def test_a_path_that_finds_nothing_is_named_to_the_sender(door: Door) -> None:
    body = json.dumps({"data": {key: value for key, value in CHECK.items() if key != "since"}})
    answer = await post(door, "bearer", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "The path `data.since` finds nothing in the body.")
