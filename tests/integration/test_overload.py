"""The overload runbook on real servers: a flooded JetStream API, a burst that drains, MQTT clients that crowd one server, and healthy twins of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bot.flow.ranking import rank
from bot.lab import overload_drills
from bot.lab.servers import LabCluster
from bot.model import Finding, Focus, Severity, Snapshot
from runbooks.overload import RUNBOOK
from tests.integration.nats_support import VERSIONS, reading, settings_of
from tests.rounds import always

LabFactory = Callable[..., Awaitable[LabCluster]]
VALUES = RUNBOOK.values()
PATIENCE = 20.0
DROPS = "limit reached, dropping"


async def gathered(cluster: LabCluster, rounds: int = 3) -> Snapshot:
    """A snapshot over the system account; rounds lie closer together than in earnest, for a drill lasts seconds."""
    async with reading(settings_of(cluster, timeout=3.0)) as readers:
        return await readers.gather(RUNBOOK.needs, again=always(rounds, 0.7))


def examined(snapshot: Snapshot) -> list[Finding]:
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, VALUES, Focus())]


def sick(findings: list[Finding]) -> list[str]:
    return [f"{f.check} {f.severity}: {f.sentence}" for f in findings if f.severity is not Severity.OK]


def api_queue_of(server: str, findings: list[Finding]) -> Finding:
    """The root, which must be this server's API queue."""
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.subject.server) == ("OVERLOAD_API_QUEUE", server), sick(findings)
    return root


def titles(snapshot: Snapshot, findings: list[Finding]) -> list[str]:
    return [p.draft.title for p in RUNBOOK.propose(snapshot, findings, VALUES, Focus())]


async def becomes_healthy(cluster: LabCluster) -> None:
    """Fails with the last findings where something is still wrong after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while found := sick(examined(await gathered(cluster, rounds=1))):
        assert time.monotonic() < until, found
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_loop_that_outruns_the_meta_leader_is_found_there_and_its_client_is_named(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    await becomes_healthy(cluster)
    async with overload_drills.api_flood(cluster, backlog=3000, growth=800) as flood:
        snapshot = await gathered(cluster)
    findings = examined(snapshot)
    root = api_queue_of(flood.meta_leader, findings)
    assert root.severity is Severity.CRITICAL
    assert root.evidence["course"] == "lasting"
    assert len(root.evidence["lengths"]) == 3
    assert root.evidence["answers a second"] > 0
    (feeder,) = [
        p.draft
        for p in RUNBOOK.propose(snapshot, findings, VALUES, Focus())
        if p.draft.title.startswith("Find who floods")
    ]
    assert any("name 'lab-app'" in line for line in feeder.guidance)
    assert "Wait until the queues are empty" not in titles(snapshot, findings)
    await becomes_healthy(cluster)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_queue_near_its_limit_is_critical_at_first_sight_and_then_the_server_drops_it(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    async with overload_drills.api_flood(cluster, backlog=7000, growth=700) as flood:
        findings = examined(await gathered(cluster, rounds=1))
        async with asyncio.timeout(PATIENCE):
            while DROPS not in cluster.log(flood.meta_leader):
                await asyncio.sleep(0.1)
    root = api_queue_of(flood.meta_leader, findings)
    assert root.severity is Severity.CRITICAL
    assert "At 10000 it drops all that wait" in root.sentence


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_burst_that_is_worked_off_is_a_warning_and_waiting_is_the_first_advice(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    async with overload_drills.api_burst(cluster, 4000) as burst:
        snapshot = await gathered(cluster)
    findings = examined(snapshot)
    root = api_queue_of(burst.meta_leader, findings)
    assert root.severity is Severity.WARNING
    assert root.evidence["course"] in {"draining", "drained"}
    assert titles(snapshot, findings)[0] == "Wait until the queues are empty"
    await becomes_healthy(cluster)


@pytest.mark.parametrize("version", VERSIONS)
async def test_mqtt_clients_that_all_hang_on_one_server_are_the_root(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version, mqtt=True)
    await becomes_healthy(cluster)
    async with overload_drills.mqtt_devices(cluster, {"n0": 120}):
        snapshot = await gathered(cluster)
        findings = examined(snapshot)
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.subject.server) == ("OVERLOAD_MQTT_CLIENTS", "n0"), sick(findings)
    assert "120 of 120 MQTT clients (n1 0, n2 0); its share is 40" in root.sentence
    (assets,) = [f for f in findings if f.check == "OVERLOAD_MQTT_ASSETS"]
    assert assets.severity is Severity.OK
    assert assets.sentence.startswith("MQTT keeps 120 sessions")
    # How busy this machine is must not decide whether the other servers may take clients.
    first, *_ = RUNBOOK.propose(snapshot, findings, {**VALUES, "hot_cpu": 100.0}, Focus())
    assert first.draft.title == "Spread the MQTT clients over the servers, in slices"
    assert [(kind, len(params["cids"])) for kind, params in first.draft.stages] == [("clients.shed", 80)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_even_mqtt_population_is_healthy_and_its_sessions_are_a_burden_once_it_has_gone(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version, mqtt=True)
    async with overload_drills.mqtt_devices(cluster, dict.fromkeys(cluster.names, 40)):
        await becomes_healthy(cluster)
    async with asyncio.timeout(PATIENCE):
        while not (found := sick(examined(await gathered(cluster, rounds=1)))):
            await asyncio.sleep(0.2)
    assert len(found) == 1
    assert "120 of 120 MQTT sessions of account APP have no client connected" in found[0]
