"""Gathering and reading on real servers."""

import asyncio
import io
import time
import zipfile

import pytest

from bot.adapters.archive import read_archive, write_archive
from bot.adapters.nats.collector import SystemCollector
from bot.errors import BadInput, ReadDenied, Unreachable, Unreadable
from bot.lab import drills
from bot.lab.config import APP, READER, WRITER
from bot.lab.servers import LabCluster
from bot.model import TRENDS, ConsumerKey, Endpoint, StreamKey, UnknownReason
from bot.ports import Readers
from tests.conftest import LabFactory
from tests.integration.nats_support import ALL, VERSIONS, WallClock, credentials, reading, settings_of
from tests.rounds import always

WORKER = ConsumerKey("APP", "ORDERS", "worker")

TOLD = 10.0
"""Seconds in which a client hears of a denial."""


async def furnish(cluster: LabCluster) -> None:
    """An R3 stream and an R1 stream, one durable on each."""
    client = await cluster.connect()
    try:
        await drills.create_stream(client, "ORDERS", 3)
        await drills.create_consumer(client, "ORDERS", "worker")
        await drills.create_stream(client, "SINGLE", 1)
        await drills.create_consumer(client, "SINGLE", "only")
        await drills.publish(client, "ORDERS", 5)
    finally:
        await client.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_one_pass_sees_every_server_and_every_view_of_a_consumer(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    await furnish(cluster)
    async with reading(settings_of(cluster)) as readers:
        await readers.gather(ALL)
        start = time.monotonic()
        snapshot = await readers.gather(ALL, again=always(2, 0.1))
        took = time.monotonic() - start

    assert snapshot.via == "system account"
    assert snapshot.expected == frozenset(cluster.names)
    assert {s.name: s.version for s in snapshot.servers} == dict.fromkeys(cluster.names, version)
    assert [s for s in snapshot.samples if s.unknown] == []
    assert len(snapshot.samples) == 3 * (len(ALL) + len(TRENDS))
    assert snapshot.unknown == ()
    for round_ in (0, 1):
        views = snapshot.consumers(round_)[WORKER]
        assert set(views) == set(cluster.names)
        assert all(view.num_pending == 5 for view in views.values() if view.group and view.group.leader == view.server)
    assert len(snapshot.consumers()[ConsumerKey("APP", "SINGLE", "only")]) == 1
    assert snapshot.rounds == 2
    # Evidence of the stuck-consumer runbook: every member of the group has a Raft node for it.
    for server, view in snapshot.consumers()[WORKER].items():
        raftz = snapshot.data(server, Endpoint.RAFTZ)
        assert raftz is not None
        assert "_meta_" in raftz["SYS"]
        assert view.raft_group in raftz["APP"]
    assert took < 0.1 + 0.5


async def test_a_killed_server_is_unknown_and_the_others_are_known_quickly(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    await cluster.kill("n2")
    async with reading(settings_of(cluster)) as readers:
        start = time.monotonic()
        snapshot = await readers.gather(ALL)
        took = time.monotonic() - start
    assert snapshot.expected == frozenset(cluster.names)
    assert {s.name for s in snapshot.servers} == {"n0", "n1"}
    assert {(s.server, s.endpoint) for s in snapshot.samples if s.unknown} == {("n2", e) for e in ALL}
    assert {s.unknown.reason for s in snapshot.samples if s.unknown} == {UnknownReason.UNREACHABLE}
    assert took < 2.0


@pytest.mark.parametrize("version", ["2.10.26", "2.15.1"])
async def test_a_frozen_server_is_unknown_and_holds_nobody_up_beyond_the_time_out(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    await furnish(cluster)
    async with reading(settings_of(cluster, timeout=2.0)) as readers:
        await readers.gather(ALL)
        await cluster.freeze("n1")
        start = time.monotonic()
        snapshot = await readers.gather(ALL)
        took = time.monotonic() - start
        await cluster.thaw("n1")
    assert {(s.server, s.endpoint) for s in snapshot.samples if s.unknown} == {("n1", e) for e in ALL}
    assert set(snapshot.consumers()[WORKER]) == {"n0", "n2"}
    # The time-out, and at most one second each for finding the old connection and the first new one dead.
    assert took < 2.0 + 2.0


@pytest.mark.parametrize("version", ["2.10.26", "2.15.1"])
async def test_monitoring_addresses_give_the_same_facts(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    await furnish(cluster)
    urls = [cluster.monitor_url(name) for name in cluster.names]
    async with reading(settings_of(cluster, system=None, monitoring=urls)) as readers:
        over_http = await readers.gather(ALL, again=always(2))
    async with reading(settings_of(cluster)) as readers:
        over_sys = await readers.gather(ALL, again=always(2))
    assert over_http.via == "monitoring"
    assert {s.endpoint for s in over_http.samples if s.unknown} == {Endpoint.STATSZ}
    assert [s for s in over_sys.samples if s.unknown] == []
    assert {(s.server, s.endpoint, s.round) for s in over_http.samples} == {
        (s.server, s.endpoint, s.round) for s in over_sys.samples
    }
    assert over_http.servers == over_sys.servers
    assert over_http.streams().keys() == over_sys.streams().keys()
    for key, views in over_sys.consumers().items():
        assert {n: (v.config, v.raft_group) for n, v in views.items()} == {
            n: (v.config, v.raft_group) for n, v in over_http.consumers()[key].items()
        }
    for name in cluster.names:
        one, other = over_http.data(name, Endpoint.RAFTZ), over_sys.data(name, Endpoint.RAFTZ)
        assert one is not None
        assert other is not None
        assert {a: set(groups) for a, groups in one.items()} == {a: set(groups) for a, groups in other.items()}
        queues, same = over_http.data(name, Endpoint.IPQUEUESZ), over_sys.data(name, Endpoint.IPQUEUESZ, 1)
        assert queues is not None
        assert same is not None
        # Only queues that hold something are told, so which there are is a matter of the moment.
        assert all("pending" in queue for told in (queues, same) for queue in told.values())
        for endpoint in (Endpoint.CONNZ, Endpoint.ACCOUNTZ, Endpoint.GATEWAYZ, Endpoint.LEAFZ):
            ours, theirs = over_http.data(name, endpoint), over_sys.data(name, endpoint)
            assert ours is not None
            assert theirs is not None
            assert ours.keys() == theirs.keys()


async def test_a_server_without_a_monitoring_address_is_expected_and_unknown(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    async with reading(settings_of(cluster, system=None, monitoring=[cluster.monitor_url("n0")])) as readers:
        snapshot = await readers.gather(ALL)
    assert snapshot.expected == frozenset(cluster.names)
    unknown = {s.server: s.unknown.reason for s in snapshot.samples if s.unknown and s.endpoint is not Endpoint.STATSZ}
    assert unknown == dict.fromkeys(("n1", "n2"), UnknownReason.NOT_CONFIGURED)


async def test_account_users_alone_see_lists_and_say_what_they_cannot_see(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    async with reading(settings_of(cluster, system=None)) as readers:
        snapshot = await readers.gather(ALL)
    assert snapshot.samples == ()
    assert {s["config"]["name"] for s in snapshot.api["APP:$JS.API.STREAM.LIST"]["streams"]} == {"ORDERS", "SINGLE"}
    assert [c["name"] for c in snapshot.api["APP:$JS.API.CONSUMER.LIST.ORDERS"]["consumers"]] == ["worker"]
    assert snapshot.unknown[0].reason is UnknownReason.NOT_CONFIGURED


async def test_a_system_user_that_is_none_is_named_at_once(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    # APP's unlimited user is no system user at all: even discovery finds nobody.
    async with reading(settings_of(cluster, system=credentials(APP), accounts={})) as readers:
        with pytest.raises(Unreachable, match="not in the system account"):
            await readers.gather(ALL)
    # A reader of the application account may not publish there.
    async with reading(settings_of(cluster, system=credentials(READER), accounts={})) as readers:
        start = time.monotonic()
        with pytest.raises(ReadDenied, match=r"\$SYS\.REQ\.SERVER\.PING"):
            await readers.gather(ALL)
        assert time.monotonic() - start < 1.0


async def test_what_monitoring_can_still_tell_is_told_when_the_system_user_cannot_log_in(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    wrong = {"user": "sysreader", "password": "not-the-password-42"}
    urls = [cluster.monitor_url(name) for name in cluster.names]
    async with reading(settings_of(cluster, system=wrong, monitoring=urls)) as readers:
        snapshot = await readers.gather(ALL)
    assert snapshot.via == "monitoring"
    assert snapshot.unknown[0].reason is UnknownReason.DENIED
    assert "not-the-password-42" not in snapshot.unknown[0].detail


async def test_more_accounts_than_a_page_are_read_completely(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    async with reading(settings_of(cluster)) as readers:
        assert readers._system is not None
        # One account and pages of one: the first page is full, the second is empty.
        snapshot = await SystemCollector("lab", readers._system, WallClock(), page=1).gather(ALL, None)
    assert [s for s in snapshot.samples if s.unknown] == []
    assert set(snapshot.streams()) == {StreamKey("APP", "ORDERS"), StreamKey("APP", "SINGLE")}
    assert set(snapshot.consumers()[WORKER]) == set(cluster.names)


async def test_reads_tell_absent_from_denied(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26")
    await furnish(cluster)
    async with reading(settings_of(cluster)) as readers:
        stream = await readers.stream_info("APP", "ORDERS")
        assert stream is not None
        assert stream["state"]["messages"] == 5
        consumer = await readers.consumer_info("APP", "ORDERS", "worker")
        assert consumer is not None
        assert consumer["num_pending"] == 5
        assert await readers.stream_info("APP", "NOPE") is None
        assert await readers.consumer_info("APP", "ORDERS", "nope") is None
        assert await readers.consumer_info("APP", "NOPE", "nope") is None
        with pytest.raises(ReadDenied, match=r"nats\.accounts\.OTHER\.reader"):
            await readers.stream_info("OTHER", "ORDERS")
        for name in ("a.b", "*", ">", "", "a b", "a/b", "a\\b", "a\r\nPUB x 0\r\n\r\n"):
            with pytest.raises(BadInput):
                await readers.stream_info("APP", name)
            with pytest.raises(BadInput):
                await readers.consumer_info("APP", "ORDERS", name)


async def test_a_wrong_password_is_a_denial_that_names_the_user_and_not_the_password(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.15.1")
    wrong = credentials(READER, password="not-the-password-42")
    accounts = {"APP": {"reader": wrong, "writer": credentials(WRITER)}}
    async with reading(settings_of(cluster, accounts=accounts)) as readers:
        start = time.monotonic()
        with pytest.raises(ReadDenied) as caught:
            await readers.stream_info("APP", "ORDERS")
        assert time.monotonic() - start < 2.0
    assert "user reader" in str(caught.value)
    assert "not-the-password-42" not in repr(caught.value)


async def test_an_unreachable_cluster_is_named_with_its_servers_and_recovers_without_a_restart(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    async with reading(settings_of(cluster)) as readers:
        assert await readers.stream_info("APP", "ORDERS") is not None
        await cluster.stop()
        with pytest.raises(Unreachable) as caught:
            await readers.stream_info("APP", "ORDERS")
        for url in cluster.urls:
            assert url in str(caught.value)
        with pytest.raises(Unreachable):
            await readers.gather(ALL)
        await cluster.start()
        assert (await readers.gather(ALL)).expected == frozenset(cluster.names)
        async with asyncio.timeout(
            30
        ):  # the stream elects its leader after the cluster is whole, and answers nobody until then
            while not await _answers(readers):
                await asyncio.sleep(0.2)


async def _answers(readers: Readers) -> bool:
    try:
        return await readers.stream_info("APP", "ORDERS") is not None
    except Unreadable:
        return False


async def test_another_user_of_the_account_cannot_read_the_answers(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    # `app` may subscribe to everything; a default-inbox subscriber such as an ordinary application sees nothing of the bot.
    snoop = await cluster.connect(APP)
    try:
        heard = await snoop.subscribe("_INBOX.>")
        async with reading(settings_of(cluster)) as readers:
            assert await readers.consumer_info("APP", "ORDERS", "worker") is not None
        await snoop.flush()
        assert heard.pending_msgs == 0
        # A limited user can't even ask for another user's inbox.
        errors: asyncio.Queue[str] = asyncio.Queue()

        async def note(error: Exception) -> None:
            errors.put_nowait(str(error))

        limited = await cluster.connect(WRITER, on_error=note)
        try:
            await limited.subscribe(f"{READER.inbox_prefix}.>")
            async with asyncio.timeout(TOLD):
                while "permissions violation for subscription" not in await errors.get():
                    pass
        finally:
            await limited.close()
    finally:
        await snoop.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_client_is_seen_with_its_account_over_all_pages(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    clients = [await cluster.connect() for _ in range(12)]
    cids: dict[str, int] = {}
    async with reading(settings_of(cluster)) as readers:
        assert readers._system is not None  # pyright: ignore[reportPrivateUsage] - small pages are no setting
        small = SystemCollector(cluster.name, readers._system, WallClock(), page=2)  # pyright: ignore[reportPrivateUsage]
        snapshot = await small.gather(frozenset({Endpoint.CONNZ}), None)
    for name in cluster.names:
        connz = snapshot.data(name, Endpoint.CONNZ)
        assert connz is not None
        assert connz["num_connections"] == len(connz["connections"]) == connz["total"]
        cids[name] = sum(c["account"] == "APP" and c["authorized_user"] == "app" for c in connz["connections"])
    assert sum(cids.values()) == len(clients)
    for client in clients:
        await client.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_real_servers_say_survives_the_archive(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    await furnish(cluster)
    async with reading(settings_of(cluster)) as readers:
        snapshot = await readers.gather(ALL, again=always(2, 0.1))
    archive = write_archive(snapshot)
    assert read_archive(archive) == snapshot
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = set(opened.namelist())
    for name in cluster.names:
        for artifact in (
            "variables",
            "jetstream_info",
            "health",
            "routes",
            "connections",
            "accounts",
            "gateways",
            "leafs",
        ):
            assert f"capture/clusters/{cluster.name}/{name}/{artifact}/0001.json" in names
