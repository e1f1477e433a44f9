"""The readiness runbook on real servers: load, a frozen server, a hung disk and a lost quorum are told apart, and probe paths mean what the model says."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from bot.flow.examination import look
from bot.flow.ranking import rank
from bot.lab import readiness_drills as drills
from bot.lab.http import http_client
from bot.lab.servers import LabCluster
from bot.model import Endpoint, Finding, Focus, Severity, Snapshot
from bot.model.groups import latest
from bot.model.probes import (
    ENABLED_ONLY,
    FULL,
    NOT_CURRENT,
    SERVER_ONLY,
    ProbeOutcome,
    health,
    probe_outcome,
    read_probe,
)
from bot.runbook import Proposed
from runbooks._audit_versions import version_of
from runbooks.readiness import RUNBOOK
from tests.integration.nats_support import VERSIONS, reading, settings_of

LabFactory = Callable[..., Awaitable[LabCluster]]

LAB = {"settle": 1.0, "young": 0.0}
QUICK = RUNBOOK.values(LAB)
"""The lab's servers are seconds old, and broken for good all the same."""

PATIENCE = 30.0
"""Seconds in which a state must be seen or be over; a loaded lab needs a few, and one that misses them gets a second run (`TimeoutError`)."""

PATHS = (
    FULL,
    SERVER_ONLY,
    ENABLED_ONLY,
    "/healthz?js-meta-only=true",
    "/",
    "/healthz/",
    "/healthz?js-server-only",
    "/healthz?js-enabled-only",
    "/healthz?js-enabled-only=yes",
    "/healthz?js-enabled=1",
    "/healthz?details=true",
    "/healthz?js-server-only=false&js-server-only=true",
    "/healthz?js-meta-only=true&js-server-only=true",
    "/healthz?account=APP",
    "/healthz?stream=ORDERS",
)


async def gathered(cluster: LabCluster, *, once: bool = False) -> Snapshot:
    """What an incident's diagnosis reads: once, and again what the first look leaves open."""
    async with reading(settings_of(cluster, timeout=4.0)) as readers:
        if once:
            return await readers.gather(RUNBOOK.needs)
        snapshot, _ = await look(readers, (RUNBOOK,), {RUNBOOK.code: LAB}, Focus())
        return snapshot


def examined(snapshot: Snapshot) -> list[Finding]:
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, QUICK, Focus())]


def proposed(snapshot: Snapshot) -> list[Proposed]:
    return list(RUNBOOK.propose(snapshot, examined(snapshot), QUICK, Focus()))


def titles(snapshot: Snapshot) -> list[str]:
    return [p.draft.title for p in proposed(snapshot)]


def sick(findings: list[Finding], *severities: Severity) -> list[str]:
    return [f"{f.check} {f.severity}: {f.sentence}" for f in findings if f.severity in severities]


def trends(findings: list[Finding]) -> set[str]:
    return {str(f.evidence["trend"]) for f in findings if f.severity is not Severity.OK and "trend" in f.evidence}


async def becomes_healthy(cluster: LabCluster) -> None:
    """Fails with the last findings where the first look does not find everything right in time; nothing is proposed then."""
    until = time.monotonic() + PATIENCE
    while True:
        snapshot = await gathered(cluster)
        if snapshot.rounds == snapshot.readings(Endpoint.RAFTZ) == 1:
            break
        assert time.monotonic() < until, sick(examined(snapshot), *set(Severity) - {Severity.OK})
    assert sick(examined(snapshot), *set(Severity) - {Severity.OK}) == []
    assert titles(snapshot) == []


async def seen_under_load(cluster: LabCluster, made: drills.Load, wanted: Callable[[list[Finding]], bool]) -> Snapshot:
    """Gathers until the findings are wanted; at no time may any of them be critical."""
    until = time.monotonic() + PATIENCE
    while True:
        before = made.changes
        snapshot = await gathered(cluster)
        findings = examined(snapshot)
        assert sick(findings, Severity.CRITICAL) == []
        if wanted(findings):
            return snapshot
        if time.monotonic() > until:
            raise TimeoutError(f"{made.changes - before} changes, and not seen: {[f.sentence for f in findings]}")


@asynccontextmanager
async def probed(cluster: LabCluster, *paths: str) -> AsyncGenerator[dict[str, list[str]]]:
    """Asks every server for these paths all the time, once all are ready; gives the error texts by path."""
    failures: dict[str, list[str]] = {path: [] for path in paths}
    await cluster.wait_ready()
    async with http_client(PATIENCE) as http:

        async def ask() -> None:
            while True:
                for name in cluster.names:
                    for path in paths:
                        answer = await http.get(cluster.monitor_url(name) + path)
                        if not answer.is_success:
                            failures[path].append(answer.json()["error"])
                await asyncio.sleep(0.05)

        asking = asyncio.create_task(ask())
        try:
            yield failures
        finally:
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


async def becomes_true(condition: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        await asyncio.sleep(0.05)


def flapping(found: list[Finding]) -> bool:
    """Whether load is all that is left to see: the server that crashed is a member again."""
    return "comes and goes" in trends(found) and not any(
        f.check == "META_MARGIN" and f.severity is not Severity.OK for f in found
    )


async def test_churn_after_a_crash_on_2_10_is_a_gap_that_comes_and_goes_and_the_probe_is_too_strict(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.10.26")
    async with drills.load(cluster) as made:
        await drills.crash(cluster, down=3.0)
        async with probed(cluster, SERVER_ONLY, ENABLED_ONLY) as failures:
            snapshot = await seen_under_load(cluster, made, flapping)
            await becomes_true(lambda: NOT_CURRENT in failures[SERVER_ONLY], "no readiness probe ever failed")
    assert failures[ENABLED_ONLY] == []
    findings = examined(snapshot)
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.severity) == ("META_GAP", Severity.WARNING), root
    assert SERVER_ONLY in next(f for f in findings if f.evidence.get("trend") == "comes and goes").sentence
    assert [title for title in titles(snapshot) if not title.startswith("Wait")] == [
        "Let the readiness probe ask /healthz?js-enabled-only=true",
        "Upgrade nats-server to 2.11 or later",
        "Give the meta group less to do, or more to do it with",
    ]
    await becomes_healthy(cluster)


async def test_the_same_load_without_churn_is_no_incident(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26")
    async with drills.load(cluster, churn=0) as made:
        await drills.crash(cluster, down=3.0)
        await seen_under_load(cluster, made, lambda found: not sick(found, Severity.WARNING, Severity.UNKNOWN))
        assert made.messages > 1_000


async def test_the_same_churn_on_2_11_needs_no_other_probe(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    async with drills.load(cluster) as made:
        await drills.crash(cluster, down=3.0)
        async with probed(cluster, SERVER_ONLY, FULL) as failures:
            snapshot = await seen_under_load(
                cluster, made, lambda found: any("again and again" in f.sentence for f in found)
            )
            await becomes_true(lambda: NOT_CURRENT in failures[FULL], "the full check never failed")
        assert failures[SERVER_ONLY] == []
        (gap,) = [f for f in examined(snapshot) if "again and again" in f.sentence]
        assert gap.severity is Severity.OK
        assert not [title for title in titles(snapshot) if "probe" in title or "Upgrade" in title or "Restart" in title]


async def test_a_frozen_follower_is_found_by_what_the_leader_hears(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    async with drills.frozen(cluster) as victim:
        snapshot = await gathered(cluster, once=True)
        findings = examined(snapshot)
        root = rank(findings).root
        assert root is not None
        assert (root.check, root.subject.server, root.severity) == ("META_PEERS", victim, Severity.CRITICAL)
        assert root.evidence["active"] > 10
        assert root.evidence["frozen"] is True
        assert latest(snapshot, victim, Endpoint.JSZ) is None
        assert titles(snapshot) == [f"Restart server {victim}"]
    await becomes_healthy(cluster)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_follower_that_applies_nothing_is_stuck_though_its_leader_calls_it_current(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    async with drills.stuck_apply(cluster) as victim:
        snapshot = await gathered(cluster)
        findings = examined(snapshot)
        root = rank(findings).root
        assert root is not None
        assert (root.check, root.subject.server, root.severity) == ("META_GAP", victim, Severity.CRITICAL)
        assert root.evidence["trend"] == "stuck"
        assert "counts it as current" in root.sentence
        assert "operation of its disk" in root.sentence
        assert titles(snapshot) == [f"Restart server {victim}"]
        # One reading alone accuses nobody.
        once = examined(await gathered(cluster, once=True))
        assert sick(once, Severity.CRITICAL) == []
        assert trends(once) == {"unsettled"}
        await paths_mean_what_the_model_says(cluster, victim)
    await becomes_healthy(cluster)


async def paths_mean_what_the_model_says(cluster: LabCluster, server: str) -> None:
    """Every path answers on the sick server, and on a sound one, as `bot.model.probes` foretells from the full health check."""
    sound = next(name for name in cluster.names if name != server)
    async with httpx.AsyncClient(timeout=5.0, follow_redirects=True) as http:
        for name in (server, sound):
            now = health((await http.get(f"{cluster.monitor_url(name)}/healthz?details=true")).json())
            for path in PATHS:
                foretold = probe_outcome(read_probe(path, version_of(cluster.version(name))), now)
                passed = (await http.get(cluster.monitor_url(name) + path)).is_success
                assert foretold is (ProbeOutcome.PASSES if passed else ProbeOutcome.FAILS), (name, path)


async def test_without_a_quorum_the_probes_are_left_alone(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26")
    survivor = await drills.lose_quorum(cluster)
    snapshot = await gathered(cluster)
    root = rank(examined(snapshot)).root
    assert root is not None
    assert (root.check, root.severity) == ("META_MARGIN", Severity.CRITICAL)
    assert "leave the probes alone" in root.sentence
    assert titles(snapshot) == ["Bring the meta leader back and leave the probes alone"]
    told = next(f for f in examined(snapshot) if f.check == "READINESS_PROBES" and f.subject.server == survivor)
    assert told.evidence["probes"] == {"startup": "fails", "readiness": "fails", "liveness": "passes"}
    await cluster.start()
    await becomes_healthy(cluster)


async def test_a_server_that_is_away_is_missed_and_waited_for(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.15.1")
    victim = await drills.follower(cluster)
    await cluster.kill(victim)
    until = time.monotonic() + PATIENCE
    while not (margin := only(snapshot := await gathered(cluster, once=True), "META_MARGIN", Severity.WARNING)):
        assert time.monotonic() < until, f"nobody missed {victim}"
        await asyncio.sleep(0.2)
    assert (margin[0].evidence["absent"], margin[0].evidence["may fail"]) == ([victim], 0)
    assert sick(examined(snapshot), Severity.CRITICAL) == []
    assert titles(snapshot) == ["Wait until the meta group has caught up"]
    await cluster.restart(victim)
    await becomes_healthy(cluster)


def only(snapshot: Snapshot, check: str, severity: Severity) -> list[Finding]:
    return [f for f in examined(snapshot) if (f.check, f.severity) == (check, severity)]
