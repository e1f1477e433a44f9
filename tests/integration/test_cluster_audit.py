"""The cluster audit on real servers: healthy clusters of every version, a dead server, an upgrade, monitoring keys."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.lab import drills
from bot.lab.servers import LabCluster
from bot.model import Finding, Focus, Severity
from runbooks.cluster_audit import RUNBOOK
from tests.integration.nats_support import reading, settings_of
from tests.rounds import always

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
MIXED = ("2.12.8", "2.15.1", "2.15.1")


async def audited(cluster: LabCluster, *, monitoring: bool = False) -> list[Finding]:
    urls = [cluster.monitor_url(name) for name in cluster.answering]
    settings = settings_of(cluster, timeout=3.0, **({"monitoring": urls, "system": None} if monitoring else {}))
    async with reading(settings) as readers:
        snapshot = await readers.gather(RUNBOOK.needs, again=always(2, 0.5))
    values = RUNBOOK.values()
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, Focus())]


def bad(findings: Sequence[Finding]) -> set[tuple[str, Severity]]:
    return {(f.check, f.severity) for f in findings if f.severity is not Severity.OK}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_healthy_cluster_has_nothing_but_the_defects_of_its_version(tmp_path: Path, version: str) -> None:
    async with LabCluster(tmp_path, version) as cluster:
        client = await cluster.connect()
        await drills.create_stream(client, "ORDERS", 3)
        await drills.create_consumer(client, "ORDERS", "worker")
        await drills.publish(client, "ORDERS", 50)
        await client.close()
        assert bad(await audited(cluster)) <= {("AUDIT_DEFECTS", Severity.WARNING)}


async def test_the_monitoring_ports_tell_the_same_as_the_system_account(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, "2.15.1") as cluster:
        client = await cluster.connect()
        await drills.create_stream(client, "ORDERS", 1)
        await client.close()
        assert bad(await audited(cluster)) == {("AUDIT_REPLICAS", Severity.WARNING)}
        assert bad(await audited(cluster, monitoring=True)) == {("AUDIT_REPLICAS", Severity.WARNING)}


async def test_a_stopped_server_is_offline_in_the_meta_group_and_the_audit_says_wait(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, "2.15.1") as cluster:
        await cluster.terminate("n2")
        async with asyncio.timeout(20):
            while ("AUDIT_META_OFFLINE", Severity.CRITICAL) not in bad(findings := await audited(cluster)):
                pass  # every look takes half a second
        (offline,) = [f for f in findings if f.check == "AUDIT_META_OFFLINE" and f.severity is Severity.CRITICAL]
        assert (offline.subject.server, offline.counterpart) == ("n2", "META_001")
        assert "wait until it is back" in offline.sentence
        assert ("AUDIT_SERVERS", Severity.CRITICAL) in bad(findings)


async def test_a_killed_server_is_critical_long_before_the_meta_group_calls_it_offline(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, "2.12.8") as cluster:
        await cluster.kill("n2")
        (silent,) = [f for f in await audited(cluster) if f.check == "AUDIT_SERVERS"]
        assert (silent.severity, silent.subject.server, silent.cause) == (Severity.CRITICAL, "n2", True)


async def test_an_upgrade_under_way_is_a_warning_that_says_wait(tmp_path: Path) -> None:
    async with LabCluster(tmp_path, MIXED) as cluster:
        (found,) = [f for f in await audited(cluster) if f.check == "AUDIT_VERSIONS"]
        assert (found.severity, found.counterpart) == (Severity.WARNING, "SERVER_002")
        assert "2.12.8 (n0), 2.15.1 (n1, n2)" in found.sentence
        assert "wait" in found.sentence


async def test_what_an_owner_asks_for_in_the_metadata_is_judged_on_a_real_server(tmp_path: Path) -> None:
    asked = {"io.nats.monitor.enabled": "true", "io.nats.monitor.unprocessed-critical": "10"}
    async with LabCluster(tmp_path, "2.12.8") as cluster:
        client = await cluster.connect()
        await drills.create_stream(client, "ORDERS", 3)
        await drills.create_consumer(client, "ORDERS", "worker", {"metadata": asked})
        await drills.publish(client, "ORDERS", 9)
        assert ("AUDIT_CONSUMER_MONITOR", Severity.CRITICAL) not in bad(await audited(cluster))
        await drills.publish(client, "ORDERS", 1)
        await client.close()
        (found,) = [f for f in await audited(cluster) if f.check == "AUDIT_CONSUMER_MONITOR"]
        assert (found.severity, found.subject.consumer) == (Severity.CRITICAL, "worker")
        assert "10 messages are not delivered yet" in found.sentence
