"""Changes on real servers: what is certain, what is unknown, and that nothing of a configuration gets lost."""

import asyncio
import time
from pathlib import Path

import pytest

from bot.adapters.nats import NatsReaders
from bot.errors import (
    ApiRefused,
    BadInput,
    NoResponders,
    NotApplied,
    OutcomeUnknown,
    ServerRefused,
    Unreadable,
    WriteDenied,
)
from bot.lab import drills, mesh_drills
from bot.lab.config import APP, READER, SYS, WRITER
from bot.lab.http import http_client
from bot.lab.mqtt import MqttClient
from bot.lab.servers import LabCluster
from bot.model import Endpoint, JsonObject
from bot.model.clients import ClientKind, clients_of
from tests.conftest import LabFactory
from tests.integration.nats_support import VERSIONS, connected, credentials, settings_of

CONFIG: JsonObject = {
    "name": "worker",
    "durable_name": "worker",
    "ack_policy": "explicit",
    "deliver_policy": "all",
    "filter_subject": "ORDERS.new",
    "metadata": {"natsmedic.op": "op_1"},
}


async def with_stream(cluster: LabCluster, **config: object) -> None:
    client = await cluster.connect()
    try:
        await drills.create_stream(client, "ORDERS", 3, dict(config))
    finally:
        await client.close()


async def led(readers: NatsReaders) -> None:
    async with asyncio.timeout(30):
        while not (await leader_of_consumer(readers)):
            await asyncio.sleep(0.1)


async def leader_of_consumer(readers: NatsReaders) -> str:
    try:
        info = await readers.consumer_info("APP", "ORDERS", "worker")
    except Unreadable:
        return ""
    assert info is not None
    return info["cluster"].get("leader", "")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_consumer_is_created_once_read_back_stepped_down_and_deleted(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    await with_stream(cluster)
    async with connected(settings_of(cluster)) as (readers, writers):
        both = await asyncio.gather(
            writers.create_consumer("APP", "ORDERS", CONFIG),
            writers.create_consumer("APP", "ORDERS", CONFIG | {"description": "another"}),
            return_exceptions=True,
        )
        refused = [answer for answer in both if isinstance(answer, ApiRefused)]
        assert [error.err_code for error in refused] == [10148]
        await led(readers)  # a consumer answers nobody until its group has a leader
        info = await readers.consumer_info("APP", "ORDERS", "worker")
        assert info is not None
        assert info["config"]["filter_subject"] == "ORDERS.new"
        await writers.step_down_consumer("APP", "ORDERS", "worker")
        await led(readers)  # a delete while the consumer elects its leader is answered by nobody
        await writers.delete_consumer("APP", "ORDERS", "worker")
        assert await readers.consumer_info("APP", "ORDERS", "worker") is None
        with pytest.raises(ApiRefused) as gone:
            await writers.delete_consumer("APP", "ORDERS", "worker")
        assert gone.value.err_code == 10014


async def test_a_denied_write_is_reported_as_denied_at_once_and_not_as_a_time_out(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await with_stream(cluster)
    # The reader's credential used for writing: it lacks CONSUMER.CREATE.
    accounts = {"APP": {"reader": credentials(READER), "writer": credentials(READER)}}
    async with connected(settings_of(cluster, accounts=accounts)) as (readers, writers):
        start = time.monotonic()
        with pytest.raises(WriteDenied) as denied:
            await writers.create_consumer("APP", "ORDERS", CONFIG)
        assert time.monotonic() - start < 1.0
        assert "user reader" in str(denied.value)
        assert await readers.consumer_info("APP", "ORDERS", "worker") is None
        with pytest.raises(WriteDenied, match="user reader"):
            await writers.update_stream("APP", "ORDERS", {"name": "ORDERS"})
        with pytest.raises(WriteDenied, match=r"nats\.accounts\.OTHER\.writer"):
            await writers.delete_consumer("OTHER", "ORDERS", "worker")


async def test_an_inbox_that_the_user_may_not_subscribe_to_is_a_denial_and_not_a_time_out(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.11.11")
    await with_stream(cluster)
    accounts = {"APP": {"reader": credentials(READER), "writer": credentials(WRITER, inbox_prefix="_INBOX_other")}}
    async with connected(settings_of(cluster, accounts=accounts)) as (_, writers):
        start = time.monotonic()
        with pytest.raises((WriteDenied, OutcomeUnknown), match="may not subscribe"):
            await writers.create_consumer("APP", "ORDERS", CONFIG)
        assert time.monotonic() - start < 1.0


@pytest.mark.parametrize("version", ["2.10.26", "2.15.1"])
async def test_a_write_to_a_frozen_leader_is_unknown_and_not_sent_again(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    await with_stream(cluster)
    leader = await cluster.wait_ready()
    other = next(name for name in cluster.names if name != leader)
    settings = settings_of(cluster, timeout=1.5, servers=[cluster.url(other)])
    async with connected(settings) as (_, writers):
        await cluster.freeze(leader)
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await writers.create_consumer("APP", "ORDERS", CONFIG)
        assert 1.4 < time.monotonic() - start < 3.0
        await cluster.thaw(leader)


async def test_a_write_whose_connection_breaks_is_unknown_at_once(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await with_stream(cluster)
    leader = await cluster.wait_ready()
    other = next(name for name in cluster.names if name != leader)
    async with connected(settings_of(cluster, timeout=10.0, servers=[cluster.url(other)])) as (_, writers):
        await cluster.freeze(leader)
        pending = asyncio.ensure_future(writers.create_consumer("APP", "ORDERS", CONFIG))
        await asyncio.sleep(0.5)
        await cluster.kill(other)
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="lost"):
            await pending
        assert time.monotonic() - start < 2.0
        with pytest.raises(NotApplied, match="not sent"):
            await writers.create_consumer("APP", "ORDERS", CONFIG)
        await cluster.thaw(leader)


async def test_nobody_serving_jetstream_is_a_definite_no(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    # The system account has no JetStream of its own; a user of it may publish the request and nobody serves it.
    accounts = {"SYS": {"reader": credentials(READER), "writer": {"user": "sys", "password": "sys"}}}
    async with connected(settings_of(cluster, accounts=accounts)) as (_, writers):
        with pytest.raises((NoResponders, ApiRefused)) as said:
            await writers.create_consumer("SYS", "ORDERS", CONFIG)
        assert isinstance(said.value, NotApplied)


async def test_a_wrong_password_of_the_writer_applies_nothing_and_shows_no_secret(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await with_stream(cluster)
    wrong = credentials(WRITER, password="not-the-password-42")
    accounts = {"APP": {"reader": credentials(READER), "writer": wrong}}
    async with connected(settings_of(cluster, accounts=accounts)) as (_, writers):
        with pytest.raises(WriteDenied) as denied:
            await writers.create_consumer("APP", "ORDERS", CONFIG)
    assert "not-the-password-42" not in repr(denied.value)


@pytest.mark.parametrize("version", VERSIONS)
async def test_fields_that_no_client_library_knows_survive(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    await with_stream(cluster)
    config = CONFIG | {
        "max_batch": 7,
        "max_expires": 3_000_000_001,
        "max_bytes": 4096,
        "deliver_policy": "by_start_time",
        "opt_start_time": "2024-05-06T07:08:09.123456789Z",
        "backoff": [1_000_000_001, 2_000_000_003],
        "max_deliver": 5,
    }
    if version != "2.10.26":
        config |= {"priority_groups": ["A"], "priority_policy": "overflow"}
    async with connected(settings_of(cluster)) as (readers, writers):
        await writers.create_consumer("APP", "ORDERS", config)
        info = await readers.consumer_info("APP", "ORDERS", "worker")
        assert info is not None
        assert {key: info["config"].get(key) for key in config if key not in ("metadata", "max_bytes")} == {
            key: value for key, value in config.items() if key not in ("metadata", "max_bytes")
        }
        assert info["config"]["max_bytes"] == 4096
        assert info["config"]["metadata"].items() >= {"natsmedic.op": "op_1"}.items()
        # The round trip: what was read is what recreates it.
        await writers.delete_consumer("APP", "ORDERS", "worker")
        await writers.create_consumer("APP", "ORDERS", info["config"])
        again = await readers.consumer_info("APP", "ORDERS", "worker")
        assert again is not None
        assert again["config"] == info["config"]


async def test_a_field_that_this_server_does_not_know_is_sent_unchanged(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.15.1")
    await with_stream(cluster)
    client = await cluster.connect(APP)
    try:
        sent = await client.subscribe("$JS.API.CONSUMER.CREATE.>")
        await client.flush()
        async with connected(settings_of(cluster)) as (_, writers):
            # 2.12 and later read strictly: the unknown field reaches the server, which names it.
            with pytest.raises(ApiRefused) as refused:
                await writers.create_consumer("APP", "ORDERS", CONFIG | {"field_of_2031": {"deep": [1]}})
            assert "field_of_2031" in refused.value.description
            message = await sent.next_msg(timeout=2)
            assert b'"field_of_2031":{"deep":[1]}' in message.data
            assert message.subject == "$JS.API.CONSUMER.CREATE.ORDERS.worker.ORDERS.new"
    finally:
        await client.close()


async def test_names_that_would_change_the_subject_are_refused_before_anything_is_sent(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    async with connected(settings_of(cluster)) as (_, writers):
        for name in ("a.b", "*", ">", "", "a b", "x\r\ny"):
            with pytest.raises(BadInput):
                await writers.delete_consumer("APP", "ORDERS", name)
            with pytest.raises(BadInput):
                await writers.create_consumer("APP", name, CONFIG)
            with pytest.raises(BadInput):
                await writers.create_consumer("APP", "ORDERS", CONFIG | {"name": name, "durable_name": name})
        with pytest.raises(BadInput, match="both"):
            await writers.create_consumer("APP", "ORDERS", CONFIG | {"name": "other"})
        with pytest.raises(BadInput):
            await writers.create_consumer("APP", "ORDERS", CONFIG | {"filter_subject": "a b"})


async def test_a_server_on_another_island_is_reloaded_through_another_connection(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, "2.11.11", 4) as cluster:
        await mesh_drills.islands(cluster)
        before = await varz(cluster, "config_load_time")
        ids = await varz(cluster, "server_id")
        async with connected(settings_of(cluster, system_writer=credentials(SYS))) as (_, writers):
            for name in ("n0", "n3", "n1", "n2"):
                await writers.reload_server(ids[name])
            with pytest.raises(NoResponders):
                await writers.reload_server("NOBODY")
        after = await varz(cluster, "config_load_time")
        assert all(after[name] > before[name] for name in cluster.names)


async def test_each_island_is_seen_by_looking_elsewhere(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, "2.11.11", 4) as cluster:
        await mesh_drills.islands(cluster)
        async with connected(settings_of(cluster)) as (readers, _), asyncio.timeout(60):
            seen: set[frozenset[str]] = set()
            while len(seen) < 2:
                snapshot = await readers.gather(frozenset({Endpoint.VARZ}))
                seen.add(frozenset(server.name for server in snapshot.servers))
                await readers.look_elsewhere()
        assert seen == {frozenset({"n0", "n1"}), frozenset({"n2", "n3"})}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_is_warned_and_let_go_and_the_server_remembers_why(tmp_path: Path, version: str) -> None:
    async with LabCluster(tmp_path, version, mqtt=True) as cluster:
        await cluster.wait_ready()
        client = await cluster.connect(name="n1")
        device = await MqttClient.open(cluster.mqtt_address("n1"), "device", APP)
        writer = credentials(SYS)
        async with connected(settings_of(cluster, system_writer=writer)) as (readers, writers):
            snapshot = await readers.gather(frozenset({Endpoint.VARZ, Endpoint.CONNZ}))
            own = clients_of(snapshot, "n1")
            assert own is not None
            cids = {row.kind: row.cid for row in own.rows}
            await writers.warn_client(own.server_id, cids[ClientKind.NATS])
            with pytest.raises(ServerRefused, match="does not support Lame Duck Mode"):
                await writers.warn_client(own.server_id, cids[ClientKind.MQTT])
            assert not {row["cid"] for row in await readers.closed_clients(own.server_id)} & set(cids.values())
            for cid in cids.values():
                await writers.kick_client(own.server_id, cid)
            closed = {row["cid"]: row["reason"] for row in await readers.closed_clients(own.server_id)}
            assert [closed.get(cid) for cid in cids.values()] == ["Kicked", "Kicked"]
            with pytest.raises(ServerRefused, match="no such client"):
                await writers.kick_client(own.server_id, cids[ClientKind.MQTT])
        async with connected(settings_of(cluster, system_writer=None)) as (_, writers):
            with pytest.raises(WriteDenied, match=r"add `nats.system_writer` to ask a server to disconnect client 1"):
                await writers.kick_client(own.server_id, 1)
        device.abort()
        await client.close()


async def varz(cluster: LabCluster, field: str) -> dict[str, str]:
    async with http_client() as http:
        return {n: (await http.get(f"{cluster.monitor_url(n)}/varz")).json()[field] for n in cluster.names}
