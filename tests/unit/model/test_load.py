"""How busy a server is, from what each version tells; and which clients CONNZ shows that may be let go."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.model import Endpoint, JsonObject, Sample, ServerIdentity, Snapshot, SnapshotId
from bot.model.clients import ClientKind, Selection, clients_of, connected, moment_of
from bot.model.load import Load, load_of

NOW = datetime(2026, 11, 27, tzinfo=UTC)
BELOW_ZERO = 18446744073709551598
"""`inflight` of 2.10.25 after a drop (reference/nats.md 1.D, EXP e8)."""


def snapshot(
    varz: JsonObject | None = None, queues: JsonObject | None = None, connz: JsonObject | None = None
) -> Snapshot:
    answers = {Endpoint.VARZ: varz, Endpoint.IPQUEUESZ: queues, Endpoint.CONNZ: connz}
    samples = tuple(Sample("n0", endpoint, NOW, data) for endpoint, data in answers.items() if data is not None)
    servers = (ServerIdentity(name="n0", id="ID", version="2.11.11"),)
    return Snapshot(SnapshotId("snap"), "prod", NOW, "system account", servers, samples)


@pytest.mark.parametrize(
    ("varz", "cpu"),
    [
        ({"cpu": 140.0, "cores": 2}, 0.7),
        ({"cpu": 140.0, "cores": 64, "gomaxprocs": 2}, 0.7),
        ({"cpu": 140.0, "cores": 2, "gomaxprocs": 64}, 0.7),
        ({"cpu": 140.0, "cores": 0}, None),
        ({"cpu": "much", "cores": 2}, None),
        (None, None),
    ],
)
def test_the_cpu_is_a_share_of_what_the_process_may_use(varz: JsonObject | None, cpu: float | None) -> None:
    assert load_of(snapshot(varz), "n0").cpu == cpu


@pytest.mark.parametrize(
    ("varz", "queues", "waiting"),
    [
        ({}, {"Routed JS API Requests": {"pending": 3, "in_progress": 2}, "SendQ": {"pending": 9}}, 5),
        ({}, {"JetStream API queue": {"pending": 3}, "JetStream API info queue": {"pending": 4}}, 7),
        ({"jetstream": {"meta": {"pending": 9}}}, {}, 0),
        ({"jetstream": {"meta": {"pending": 9}}}, None, 9),
        ({"jetstream": {"meta": {"pending": 9, "pending_requests": 2, "pending_infos": 1}}}, None, 3),
        ({"jetstream": {"meta": {"pending": BELOW_ZERO}}}, None, 0),
        ({"jetstream": {"meta": {"leader": "n0"}}}, None, None),
        ({"version": "2.11.11"}, None, 0),
        (None, None, None),
    ],
)
def test_waiting_requests_are_read_where_the_version_has_them(
    varz: JsonObject | None, queues: JsonObject | None, waiting: int | None
) -> None:
    assert load_of(snapshot(varz, queues), "n0").waiting == waiting


@pytest.mark.parametrize(
    ("load", "signs"),
    [
        (Load(0.699, 999), []),
        (Load(0.7, 999), ["uses 70% of its CPU"]),
        (Load(0.699, 1000), ["has 1000 API requests waiting"]),
        (Load(None, None), []),
    ],
)
def test_a_sign_begins_at_its_limit(load: Load, signs: list[str]) -> None:
    assert load.signs(0.7, 1000) == signs


ROW: JsonObject = {
    "cid": 7,
    "kind": "Client",
    "type": "mqtt",
    "account": "APP",
    "mqtt_client": "device-7",
    "start": "2026-11-27T00:00:00.123456789Z",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "SYS"},
        {"account": None},
        {"account": ""},
        {"name": "natsmedic"},
        {"kind": "Leafnode"},
        {"type": "leafnode"},
        {"cid": None},
        {"start": "yesterday"},
    ],
)
def test_what_must_stay_is_no_client_that_may_be_let_go(changes: dict[str, Any]) -> None:
    assert connected(ROW, "SYS") is not None
    assert connected(ROW | changes, "SYS") is None


def test_a_row_without_a_type_is_taken_for_a_nats_client() -> None:
    row = {key: value for key, value in ROW.items() if key != "type"} | {"name": "worker", "mqtt_client": None}
    client = connected(row, "SYS")
    assert client is not None
    assert (client.kind, client.name) == (ClientKind.NATS, "worker")


CONNZ: JsonObject = {"server_id": "ID", "now": "2026-11-27T00:01:00Z", "connections": [ROW]}


def test_a_server_that_does_not_name_its_system_account_has_the_default_one() -> None:
    seen = clients_of(snapshot({}, None, CONNZ | {"connections": [ROW, ROW | {"account": "$SYS", "cid": 8}]}), "n0")
    assert seen is not None
    assert [row.cid for row in seen.rows] == [7]
    assert seen.kinds == {ClientKind.NATS, ClientKind.MQTT}


@pytest.mark.parametrize(("total", "known"), [(1 + 1024, True), (2 + 1024, False)])
def test_a_list_that_lacks_more_than_a_page_is_not_the_whole_one(total: int, known: bool) -> None:
    assert (clients_of(snapshot({}, None, CONNZ | {"total": total}), "n0") is not None) is known


def test_without_varz_nobody_knows_which_account_is_the_systems() -> None:
    assert clients_of(snapshot(None, None, CONNZ), "n0") is None


@pytest.mark.parametrize(("most", "room"), [(100, 60), (40, 0), (30, 0), (-1, math.inf)])
def test_room_is_what_the_limit_leaves(most: int, room: float) -> None:
    seen = clients_of(snapshot({"max_connections": most, "connections": 40}, None, CONNZ), "n0")
    assert seen is not None
    assert seen.room == room


def test_a_selection_is_told_in_words() -> None:
    assert str(Selection()) == "clients"
    assert str(Selection(kinds=(ClientKind.MQTT, ClientKind.NATS))) == "MQTT and NATS clients"
    assert str(Selection(account="A", name="w")) == "clients with account A, name 'w'"


def test_goes_zero_time_is_none() -> None:
    assert moment_of("0001-01-01T00:00:00Z") is None
    assert moment_of("2026-11-27T00:00:00") is None
