"""The delivery probe on real servers: what is lost is lost and nothing else, account by account; what can't be told is unknown (drills.md 2 and 7)."""

import asyncio
import json
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.adapters.archive import read_archive, write_archive
from bot.adapters.nats.delivery import ATTEMPTS, MESSAGES, SETTLE
from bot.errors import BadInput
from bot.flow.ranking import rank
from bot.lab import drills, mesh_drills
from bot.lab.config import APP, HOST, READER, SYS, tenant
from bot.lab.servers import LabCluster
from bot.model import Endpoint, Finding, Focus, Severity, Snapshot, UnknownReason
from bot.model.mesh_pool import slot_of
from bot.settings import ClusterSettings
from runbooks.route_mesh import RUNBOOK
from tests.conftest import LabFactory
from tests.integration.nats_support import NEWEST, credentials, reading, settings_of
from tests.integration.test_diagnose import QUICK, natsmedic, way_in

TENANTS = ("A0", "A1", "A2", "A3", "A4", "A5")
"""Their slots of a pool of three are 0, 2, 1, 0, 1 and 0 (reference/nats.md 1.C)."""

OLD_ENOUGH = RUNBOOK.values({"young": 0.0})
Way = tuple[str, str]


def settings(cluster: LabCluster, *, tenants: tuple[str, ...] = (), **changes: Any) -> ClusterSettings:
    """Logins of the accounts that are probed: SYS, APP and the tenants, whose users may do nothing but that."""
    accounts = {account: {"reader": credentials(tenant(account))} for account in tenants}
    accounts["APP"] = {"reader": credentials(APP)}
    changes = {"system": credentials(SYS), "accounts": accounts} | changes
    return settings_of(cluster, timeout=2.0, **changes)


async def probed(settings: ClusterSettings) -> tuple[Snapshot, list[str]]:
    """The snapshot after a probe, and what it said it would send."""
    told: list[str] = []
    async with reading(settings) as readers:
        snapshot = await readers.gather(RUNBOOK.needs)
        assert snapshot.deliveries == ()
        return await readers.probe_delivery(snapshot, told.append), told


def lost(snapshot: Snapshot) -> dict[str, set[Way]]:
    """The ways that lost messages, by account; fails where anything is unknown, or lost in part."""
    assert [d for d in snapshot.deliveries if d.unknown] == []
    assert [d for d in snapshot.deliveries if d.lost and not d.cut] == []
    found: dict[str, set[Way]] = {d.account: set() for d in snapshot.deliveries}
    for delivery in snapshot.deliveries:
        if delivery.cut:
            assert delivery.sent == MESSAGES + ATTEMPTS
            assert delivery.seconds >= SETTLE
            found[delivery.account].add((delivery.sender, delivery.receiver))
        else:
            assert delivery.sent == MESSAGES
    return found


def both_ways(pairs: frozenset[frozenset[str]]) -> set[Way]:
    return {(a, b) for pair in pairs for a in pair for b in pair - {a}}


def examined(snapshot: Snapshot) -> list[Finding]:
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, OLD_ENOUGH, Focus())]


def delivery_findings(snapshot: Snapshot) -> dict[str | None, Finding]:
    return {f.subject.account: f for f in examined(snapshot) if f.check == "MESH_DELIVERY"}


async def healthy(cluster: LabCluster, settings: ClusterSettings, accounts: set[str]) -> None:
    """Fails unless every message arrived, in every account and on every way."""
    snapshot, _ = await probed(settings)
    ways = len(cluster.names) * (len(cluster.names) - 1)
    assert lost(snapshot) == {account: set() for account in accounts}
    assert len(snapshot.deliveries) == ways * len(accounts)
    assert {f.severity for f in delivery_findings(snapshot).values()} == {Severity.OK}
    findings = examined(snapshot)
    assert RUNBOOK.propose(snapshot, findings, OLD_ENOUGH, Focus()) == []


@pytest.mark.parametrize("version", NEWEST)
async def test_a_wrong_advertise_loses_everything_of_every_account_between_that_pair_and_the_list_heals_it(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version, tenants=TENANTS[:2])
    one = settings(cluster, tenants=TENANTS[:2], servers=[cluster.url("n1")])
    accounts = {"SYS", "APP", "A0", "A1"}
    await mesh_drills.wait_for_mesh(cluster)
    await healthy(cluster, one, accounts)

    broken = await mesh_drills.wrong_advertise(cluster)
    snapshot, told = await probed(one)

    assert lost(snapshot) == dict.fromkeys(accounts, both_ways(broken))
    assert len(told) == len(accounts)
    found = delivery_findings(snapshot)
    assert {f.severity for f in found.values()} == {Severity.CRITICAL}
    sentence = found["APP"].sentence
    assert "on 2 of 6 ways between servers: n1 to n2 100% and n2 to n1 100% (80 of 80 messages" in sentence
    assert "n1 with n2 have no route between them (MESH_PAIRS)" in sentence
    root = rank(examined(snapshot)).root
    assert root is not None
    assert root.check == "MESH_LISTS", "the probe proves a loss; its cause is the list"

    await mesh_drills.repair(cluster)
    await healthy(cluster, one, accounts)


@pytest.mark.parametrize("version", NEWEST)
async def test_a_missing_slot_loses_the_accounts_on_it_although_all_servers_are_connected(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version, tenants=TENANTS)
    async with mesh_drills.missing_slot(cluster) as pair:
        everybody = settings(cluster, tenants=TENANTS)
        snapshot, _ = await probed(everybody)
        hit = {account for account, ways in lost(snapshot).items() if ways}
        (slot,) = {slot_of(account, 3) for account in hit}
        assert hit == {account for account in (*TENANTS, "APP") if slot_of(account, 3) == slot}
        assert {frozenset(ways) for ways in lost(snapshot).values() if ways} == {
            frozenset(both_ways(frozenset({pair})))
        }
        found = delivery_findings(snapshot)
        assert {a for a, f in found.items() if f.severity is Severity.CRITICAL} == hit
        assert "n0 with n1 lack the connection that carries it (MESH_SLOTS)" in found[min(hit)].sentence
        assert found[None].severity is Severity.OK

        # One account of a slot proves the loss of the others on it.
        only = min(hit)
        alone = {only: {"reader": credentials(tenant(only) if only in TENANTS else APP)}}
        snapshot, _ = await probed(settings(cluster, accounts=alone))
        companions = delivery_findings(snapshot)[only].evidence["accounts on the same connection"]
        assert set(companions) - {"$G"} == hit - {only}

        await mesh_drills.repair(cluster)
        await healthy(cluster, everybody, {*TENANTS, "APP", "SYS"})


@pytest.mark.skipif(bool(mesh_drills.headless_impossible()), reason=mesh_drills.headless_impossible() or "possible")
async def test_one_name_for_all_routes_loses_some_accounts_and_not_others(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26", size=5, tenants=TENANTS)
    everybody = settings(cluster, tenants=TENANTS, monitoring=monitors(cluster))
    while True:  # such a mesh is always uneven, and nearly always hits accounts differently
        seen = await mesh_drills.headless(cluster)
        async with reading(settings(cluster, system=None, monitoring=monitors(cluster))) as readers:
            shown = await readers.gather(RUNBOOK.needs)  # the system account may be one of those that lose messages
        async with reading(everybody) as readers:
            snapshot = await readers.probe_delivery(shown, lambda _: None)
        ways = lost(snapshot)
        if len({frozenset(found) for found in ways.values()}) > 1:
            break
    short = {(a, b) for a in seen for b in seen if a != b and min(seen[a].get(b, 0), seen[b].get(a, 0)) < 4}
    assert set[Way]().union(*ways.values()) <= short, "nothing is lost where ROUTEZ shows all connections"
    assert ways["A0"] == ways["A3"] == ways["A5"], "accounts of one slot share their fate"
    assert ways["A2"] == ways["A4"] == ways["APP"]
    found = delivery_findings(snapshot)
    hit = {account for account, those in ways.items() if those}
    assert {account for account, f in found.items() if f.severity is Severity.CRITICAL} == hit
    assert [f.sentence for f in found.values() if "ROUTEZ shows nothing" in f.sentence] == []
    await mesh_drills.repair(cluster)
    await healthy(cluster, everybody, {*TENANTS, "APP", "SYS"})


async def test_islands_lose_everything_between_them_even_where_only_one_is_seen(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11", size=5)
    broken = await mesh_drills.islands(cluster)
    async with reading(settings(cluster, servers=[cluster.url("n3")])) as readers:
        seen = await readers.gather(RUNBOOK.needs)
    assert {s.name for s in seen.servers} == {"n2", "n3", "n4"}
    # The configured addresses lead to the servers that the one asked does not know of.
    async with reading(settings(cluster)) as readers:
        snapshot = await readers.probe_delivery(seen, lambda _: None)
    assert lost(snapshot) == {"SYS": both_ways(broken), "APP": both_ways(broken)}
    assert {f.severity for f in delivery_findings(snapshot).values()} == {Severity.CRITICAL}
    await mesh_drills.repair(cluster)
    await healthy(cluster, settings(cluster), {"SYS", "APP"})


@pytest.mark.parametrize("version", NEWEST)
async def test_decoys_lose_nothing(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version, tenants=TENANTS)
    everybody = settings(cluster, tenants=TENANTS)
    await mesh_drills.pool_off(cluster)
    await healthy(cluster, everybody, {*TENANTS, "APP", "SYS"})
    await mesh_drills.no_advertise(cluster)
    await healthy(cluster, everybody, {*TENANTS, "APP", "SYS"})


async def test_a_denied_publish_is_denied_and_not_lost(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    reader = {"APP": {"reader": credentials(READER)}}
    snapshot, told = await probed(settings(cluster, accounts=reader, system=None, monitoring=monitors(cluster)))
    assert len(told) == 1
    assert len(snapshot.deliveries) == 6
    assert {(d.unknown.reason, d.unknown.detail) for d in snapshot.deliveries if d.unknown} == {
        (UnknownReason.DENIED, "user reader may not publish to _INBOX_reader.natsmedic.probe.>")
    }
    (found,) = delivery_findings(snapshot).values()
    assert found.severity is Severity.UNKNOWN
    assert "user reader may not publish to _INBOX_reader.natsmedic.probe.>" in found.sentence


async def test_a_denied_subscription_is_denied_and_not_lost(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    elsewhere = {"APP": {"reader": credentials(READER, inbox_prefix="_INBOX_other")}}
    snapshot, _ = await probed(settings(cluster, accounts=elsewhere, system=None, monitoring=monitors(cluster)))
    assert {d.unknown.detail for d in snapshot.deliveries if d.unknown} == {
        "user reader may not subscribe to _INBOX_other.natsmedic.probe.>"
    }
    assert all(d.unknown for d in snapshot.deliveries)


async def test_a_wrong_password_is_denied_and_not_lost(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    wrong = {"APP": {"reader": credentials(APP, password="nonsense")}}
    snapshot, told = await probed(settings(cluster, accounts=wrong))
    of_app = [d for d in snapshot.deliveries if d.account == "APP"]
    assert {d.unknown.reason for d in of_app if d.unknown} == {UnknownReason.DENIED}
    assert all(d.unknown for d in of_app)
    assert [sentence.partition(":")[0] for sentence in told] == ["account SYS"], "who cannot log in sends nothing"
    assert "nonsense" not in str(snapshot.deliveries)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_server_that_is_gone_or_stands_still_is_unknown_and_not_a_loss(
    lab_cluster: LabFactory, fault: str
) -> None:
    cluster = await lab_cluster("2.11.11")
    async with reading(settings(cluster)) as readers:
        snapshot = await readers.gather(RUNBOOK.needs)
        await getattr(cluster, fault)("n2")
        snapshot = await readers.probe_delivery(snapshot, lambda _: None)
    unknown = {(d.sender, d.receiver): d.unknown for d in snapshot.deliveries if d.unknown}
    assert unknown.keys() == {("n0", "n2"), ("n2", "n0"), ("n1", "n2"), ("n2", "n1")}
    assert {u.reason for u in unknown.values()} == {UnknownReason.UNREACHABLE}
    assert all(u.detail.startswith("n2 is not reachable directly") for u in unknown.values())
    assert [d.received for d in snapshot.deliveries if not d.unknown] == [MESSAGES] * 4
    assert {f.severity for f in delivery_findings(snapshot).values()} == {Severity.UNKNOWN}


async def test_a_server_that_stops_in_the_middle_is_unknown_and_not_a_loss(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    frozen = asyncio.Event()
    async with reading(settings(cluster, system=None, monitoring=monitors(cluster))) as readers:
        snapshot = await readers.gather(RUNBOOK.needs)

        def freeze(_: str) -> None:
            """Called when all are connected, before anything is sent."""
            freezing.append(asyncio.ensure_future(cluster.freeze("n2")))
            frozen.set()

        freezing: list[asyncio.Future[None]] = []
        snapshot = await readers.probe_delivery(snapshot, freeze)
        await asyncio.gather(*freezing)
    assert frozen.is_set()
    known = {(d.sender, d.receiver): d for d in snapshot.deliveries if d.unknown is None}
    assert known.keys() == {("n0", "n1"), ("n1", "n0")}
    assert [d.lost for d in known.values()] == [0, 0]
    reasons = {d.unknown.reason for d in snapshot.deliveries if d.unknown}
    assert reasons <= {UnknownReason.TIMED_OUT, UnknownReason.UNREACHABLE}


async def test_one_address_that_leads_to_another_server_each_time_reaches_all(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await mesh_drills.no_advertise(cluster)  # so that no server tells a client where the others are
    targets = cycle(int(url.rpartition(":")[2]) for url in cluster.urls)

    async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, next(targets))
        await asyncio.gather(mesh_drills.pump(reader, far_writer), mesh_drills.pump(far_reader, writer))

    service = await asyncio.start_server(lead_on, HOST, 0)
    async with service:
        url = f"nats://{HOST}:{service.sockets[0].getsockname()[1]}"
        async with reading(settings(cluster, servers=[url], accounts={})) as readers:
            told_nothing = await readers.gather(frozenset({Endpoint.ROUTEZ}))
            snapshot = await readers.probe_delivery(told_nothing, lambda _: None)
    assert lost(snapshot) == {"the system account": set()}
    assert len(snapshot.deliveries) == 6


async def test_a_stream_that_would_store_the_messages_stops_the_probe_of_its_account(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    client = await cluster.connect()
    try:
        await drills.create_stream(client, "EVERYTHING", 1)
        config = {"name": "CATCH", "subjects": ["_INBOX.*.probe.>"], "storage": "memory"}
        answer = await client.request("$JS.API.STREAM.CREATE.CATCH", json.dumps(config).encode(), timeout=5)
        assert "error" not in json.loads(answer.data)
    finally:
        await client.close()
    snapshot, told = await probed(settings(cluster))
    assert [sentence.partition(":")[0] for sentence in told] == ["account SYS"]
    of_app = {d.unknown.detail for d in snapshot.deliveries if d.account == "APP" and d.unknown}
    assert of_app == {"stream CATCH of account APP would store the messages, for it takes in _INBOX.natsmedic.probe.>"}
    async with reading(settings(cluster)) as readers:
        info = await readers.stream_info("APP", "CATCH")
    assert info is not None
    assert info["state"]["messages"] == 0


async def test_more_servers_than_the_limit_are_not_probed(
    lab_cluster: LabFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.nats.delivery.MOST_SERVERS", 2)
    cluster = await lab_cluster("2.11.11")
    # An account user knows of no server before it has connected to them.
    async with reading(settings(cluster, system=None)) as readers:
        snapshot = await readers.probe_delivery(await readers.gather(RUNBOOK.needs), pytest.fail)
    assert {d.unknown.detail for d in snapshot.deliveries if d.unknown} == {
        "3 servers were found, a probe goes up to 2"
    }
    assert len(snapshot.deliveries) == 6


async def test_without_a_login_there_is_nothing_to_probe_with(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    with pytest.raises(BadInput, match="no NATS login"):
        await probed(settings(cluster, accounts={}, system=None, monitoring=monitors(cluster)))


async def test_what_was_seen_is_judged_again_from_the_archive(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await mesh_drills.wrong_advertise(cluster)
    snapshot, _ = await probed(settings(cluster))
    again = read_archive(write_archive(snapshot))
    assert again.deliveries == snapshot.deliveries
    assert delivery_findings(again) == delivery_findings(snapshot)


async def test_a_person_probes_and_is_told_what_is_sent(lab_cluster: LabFactory, tmp_path: Path) -> None:
    cluster = await lab_cluster("2.15.1")
    await mesh_drills.wrong_advertise(cluster)
    old_enough = tmp_path / "old_enough.yaml"
    nobody = {"name": "nobody", "channel": "C0LAB", "nats": {"servers": ["nats://127.0.0.1:1"]}}
    thresholds = QUICK | {"ROUTE_MESH": {"young": 0.0}}
    old_enough.write_text(yaml.safe_dump({"clusters": [nobody], "thresholds": thresholds}), encoding="utf-8")
    # Behind n0, which has a route to both others: elsewhere JetStream may have no meta leader to list an account's streams with.
    way = [cluster.url("n0") if part == ",".join(cluster.urls) else part for part in way_in(cluster, APP)]
    only = ["--runbook", "ROUTE_MESH", "--format", "json", "--config", str(old_enough)]
    quiet = await natsmedic("diagnose", *way, *only)
    assert "MESH_DELIVERY" not in {f["code"] for f in quiet.document["findings"]}
    assert "probe" not in quiet.err

    ran = await natsmedic("diagnose", *way, *only, "--probe-delivery")
    assert ran.code == 2
    assert "delivery probe: account APP: publishing up to 40 messages of a few bytes on each of 3 servers" in ran.err
    (found,) = [f for f in ran.document["findings"] if f["code"] == "MESH_DELIVERY"]
    assert (found["severity"], found["subject"]) == ("critical", "APP")

    archive = tmp_path / "audit.zip"
    gathered = await natsmedic("gather", "-o", archive, *way_in(cluster, SYS), *only[-2:], "--probe-delivery")
    judged = await natsmedic("diagnose", "--archive", archive, *only)
    assert (gathered.code, judged.code) == (0, 2)
    assert [f["subject"] for f in judged.document["findings"] if f["code"] == "MESH_DELIVERY"] == ["SYS"]
    for refused in (
        await natsmedic("diagnose", "--archive", archive, "--probe-delivery"),
        await natsmedic("diagnose", "--monitoring", cluster.monitor_url("n0"), "--probe-delivery"),
    ):
        assert refused.code == 3
        assert "probe" in refused.err


def monitors(cluster: LabCluster) -> list[str]:
    return [cluster.monitor_url(name) for name in cluster.names]
