"""The lab's servers are real, come up in every supported version, and break the way the drills say."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats.errors import TimeoutError as NatsTimeout

from bot.lab.binaries import OFFLINE_VARIABLE, SUPPORTED_VERSIONS, BinaryUnavailable, nats_server_binary
from bot.lab.config import READER, SYS, SYSREADER, SYSTEM_ENDPOINTS, WRITER, Login
from bot.lab.drills import (
    create_consumer,
    create_stream,
    fetch,
    ghost_split,
    leaderless_single,
    paused,
    publish,
    remove_decoys,
    scale,
    stuck_ack_pending,
    until,
)
from bot.lab.jetstream import ApiRefused, consumer_views, health_errors, request, stream_views
from bot.lab.servers import LabCluster, LabError, ServerDied

LabFactory = Callable[..., Awaitable[LabCluster]]

VERSION = "2.11.2"


def exists(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


async def enter_and_leave(cluster: LabCluster) -> None:
    async with cluster:
        pass


async def denials(cluster: LabCluster, login: Login, subject: str) -> list[str]:
    """What the server says on the error callback when `login` sends a request it gets no answer to."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(error: Exception) -> None:
        heard.put_nowait(str(error))

    client = await cluster.connect(login, on_error=hear)
    try:
        with pytest.raises(NatsTimeout):
            await client.request(subject, b"{}", timeout=0.3)
        return [heard.get_nowait() for _ in range(heard.qsize())]
    finally:
        await client.close()


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
async def test_a_cluster_of_every_supported_version_is_ready_for_replicated_streams(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    client = await cluster.connect()
    await create_stream(client, "S", replicas=3)
    await publish(client, "S", 3)
    assert client.connected_server_version.major == int(version.split(".", maxsplit=1)[0])
    assert f"Version:  {version}" in cluster.log("n0")
    assert set(await stream_views(cluster, "S")) == {"n0", "n1", "n2"}
    await client.close()


async def test_a_killed_server_is_gone_and_a_restarted_one_is_current_again(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    meta_leader = await cluster.wait_ready()
    victim = next(name for name in cluster.names if name != meta_leader)
    pid = cluster.pid(victim)
    assert exists(pid)
    await cluster.kill(victim)
    assert not exists(pid)
    assert cluster.answering == tuple(name for name in cluster.names if name != victim)
    await cluster.restart(victim)
    assert await cluster.wait_ready() == meta_leader
    assert cluster.answering == cluster.names
    assert cluster.pid(victim) != pid


async def test_a_frozen_server_keeps_its_connections_and_answers_nothing_until_thawed(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    client = await cluster.connect(name="n1")
    await cluster.freeze("n1")
    with pytest.raises(NatsTimeout):
        await client.flush(timeout=1)
    assert client.is_connected
    await cluster.thaw("n1")
    await cluster.wait_ready()
    await client.close()
    thawed = await cluster.connect(name="n1")
    await thawed.flush(timeout=5)
    await thawed.close()


async def test_a_wiped_server_gets_its_replicas_back_from_the_others(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    client = await cluster.connect(name="n0")
    await create_stream(client, "S", replicas=3)
    await publish(client, "S", 10)
    with pytest.raises(LabError, match="is running"):
        await cluster.wipe_store("n2")
    await cluster.kill("n2")
    await cluster.wipe_store("n2")
    await cluster.restart("n2")

    async def caught_up() -> bool:
        views = await stream_views(cluster, "S")
        return "n2" in views and views["n2"].state.messages == 10

    await until(caught_up, "n2 did not catch up")
    await client.close()


async def test_a_server_that_refuses_its_configuration_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match=r"(?s)ended with code 1.*no_such_key"):
        await enter_and_leave(LabCluster(tmp_path, VERSION, jetstream={"no_such_key": 1}))


async def test_leaving_the_context_by_an_error_leaves_no_process_behind(tmp_path: Path) -> None:
    pids: list[int | None] = []

    async def fail_inside() -> None:
        async with LabCluster(tmp_path, VERSION) as cluster:
            await cluster.freeze("n2")
            pids.extend(cluster.pid(name) for name in cluster.names)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await fail_inside()
    assert len(pids) == 3
    assert not any(exists(pid) for pid in pids)


async def test_a_version_that_does_not_exist_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BinaryUnavailable, match=rf"9\.9\.9.*{OFFLINE_VARIABLE}"):
        await nats_server_binary("9.9.9", tmp_path)
    with pytest.raises(BinaryUnavailable, match="reads like"):
        await nats_server_binary("../2.11.2", tmp_path)


async def test_a_binary_can_be_supplied_without_a_package_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supplied = tmp_path / "7.7.7" / "nats-server"
    supplied.parent.mkdir()
    supplied.write_bytes(b"#!/bin/sh\n")
    supplied.chmod(0o755)
    monkeypatch.setenv(OFFLINE_VARIABLE, str(tmp_path))
    assert await nats_server_binary("7.7.7") == supplied
    assert os.access(supplied, os.X_OK)


async def test_the_limited_users_may_do_their_work_and_nothing_more(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    owner, reader, writer = await cluster.connect(), await cluster.connect(READER), await cluster.connect(WRITER)
    sysreader, system = await cluster.connect(SYSREADER), await cluster.connect(SYS)
    await create_stream(owner, "S", replicas=3)
    await create_consumer(writer, "S", "c")
    await request(reader, "CONSUMER.INFO.S.c")
    await request(reader, "STREAM.LIST")
    await scale(writer, "S", 3)
    await request(writer, "CONSUMER.DELETE.S.c")
    for endpoint in SYSTEM_ENDPOINTS:
        answer = await sysreader.request(f"$SYS.REQ.SERVER.PING.{endpoint}", b"", timeout=2)
        assert b'"server"' in answer.data
    server_id = (await system.request("$SYS.REQ.SERVER.PING.IDZ", b"", timeout=2)).data.decode().split('"id":"')[1][:56]
    for client in (owner, reader, writer, sysreader, system):
        await client.close()

    refused = (
        (READER, "$JS.API.CONSUMER.CREATE.S.c"),
        (READER, "$JS.API.STREAM.UPDATE.S"),
        (WRITER, "$JS.API.STREAM.DELETE.S"),
        (WRITER, "$JS.API.STREAM.PURGE.S"),
        (WRITER, "S.new"),
        (SYSREADER, f"$SYS.REQ.SERVER.{server_id}.RELOAD"),
        (SYSREADER, f"$SYS.REQ.SERVER.{server_id}.KICK"),
        (SYSREADER, "$SYS.REQ.SERVER.PING.PROFILEZ"),
        (SYSREADER, "$JS.API.META.LEADER.STEPDOWN"),
    )
    for login, subject in refused:
        heard = await denials(cluster, login, subject)
        assert any("permissions violation" in text.lower() for text in heard), (login.user, subject, heard)


async def test_a_ghost_split_outlives_its_cause_and_ends_with_recreation_at_the_floor(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION, max_ha_assets={"n1": 4})
    drill = await ghost_split(cluster)
    worker = drill.worker
    missing = f"JetStream consumer 'APP > ORDERS > {worker.name}' is not current: group node missing"

    assert missing in [found.error for found in await health_errors(cluster, "n1")]
    assert "Maximum HA Assets limit reached: 4" in cluster.log("n1")
    views = await consumer_views(cluster, drill.stream, worker.name)
    assert {name: view.leader for name, view in views.items()} == {"n0": "n0", "n1": "n1", "n2": "n0"}
    assert [views[name].ack_floor.stream_seq for name in ("n0", "n1", "n2")] == [worker.floor, 0, worker.floor]

    await remove_decoys(cluster, drill)
    await asyncio.sleep(2)
    assert missing in [found.error for found in await health_errors(cluster, "n1")]

    client = await cluster.connect(name="n0")
    await request(client, f"CONSUMER.DELETE.{drill.stream}.{worker.name}")
    start = {"deliver_policy": "by_start_sequence", "opt_start_seq": worker.floor + 1}
    await create_consumer(client, drill.stream, worker.name, start)

    async def led_by_one() -> bool:
        views = await consumer_views(cluster, drill.stream, worker.name)
        return set(views) == {"n0", "n1", "n2"} and len({view.leader for view in views.values()} - {""}) == 1

    await until(led_by_one, "the recreated consumer got no single leader")
    delivered = await fetch(client, drill.stream, worker.name, drill.published)
    assert sorted(delivered) == list(range(worker.floor + 1, drill.published + 1))
    await client.close()


async def test_a_ghost_split_needs_a_server_with_a_limit(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    with pytest.raises(LabError, match="max_ha_assets"):
        await ghost_split(cluster)


async def test_an_unreplicated_consumer_is_unreachable_while_its_only_server_is_down(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    drill = await leaderless_single(cluster)
    holder = drill.sick[0]
    client = await cluster.connect(name=cluster.answering[0])
    with pytest.raises(NatsTimeout):
        await client.request(f"$JS.API.CONSUMER.INFO.{drill.stream}.{drill.worker.name}", b"", timeout=1)
    await cluster.restart(holder)

    async def back() -> bool:
        return holder in await consumer_views(cluster, drill.stream, drill.worker.name)

    await until(back, "the holder did not come back")
    views = await consumer_views(cluster, drill.stream, drill.worker.name)
    assert views[holder].ack_floor.stream_seq == drill.worker.floor
    await client.close()


async def test_a_client_that_never_acknowledges_stops_its_consumer_on_healthy_servers(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    drill = await stuck_ack_pending(cluster, max_ack_pending=10)
    client = await cluster.connect(name="n0")
    assert await fetch(client, drill.stream, drill.worker.name, 1, wait=0.5) == {}
    assert len(drill.worker.unacked) == 10
    assert [await health_errors(cluster, name) for name in cluster.names] == [[], [], []]
    await client.close()


async def test_a_paused_consumer_delivers_nothing_and_2_10_cannot_pause(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster(VERSION)
    drill = await paused(cluster)
    client = await cluster.connect()
    assert await fetch(client, drill.stream, drill.worker.name, 1, wait=0.5) == {}
    with pytest.raises(ApiRefused):
        await create_consumer(client, drill.stream, drill.worker.name, {"description": "action create refuses a twin"})
    await client.close()
    old = await lab_cluster("2.10.26")
    with pytest.raises(LabError, match=r"2\.11"):
        await paused(old)
