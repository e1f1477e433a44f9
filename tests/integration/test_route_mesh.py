"""The route-mesh runbook on real servers: broken meshes are found with the right pairs, decoys and repaired meshes are not."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bot.flow.ranking import rank
from bot.lab import mesh_drills
from bot.lab.config import ClusterBlock
from bot.lab.servers import LabCluster
from bot.model import Finding, Focus, Severity, Snapshot
from bot.model.mesh import read_mesh
from bot.runbook import Proposed
from runbooks.route_mesh import RUNBOOK, route_list
from tests.integration.nats_support import VERSIONS, reading, settings_of

LabFactory = Callable[..., Awaitable[LabCluster]]
OLD_ENOUGH = RUNBOOK.values({"young": 0.0})
"""Servers of a test are seconds old, and broken for good all the same."""
PATIENCE = 10.0


async def gathered(cluster: LabCluster, *, system: bool = True) -> Snapshot:
    """A snapshot over the system account, or over every server's monitoring port."""
    monitoring = [cluster.monitor_url(name) for name in cluster.names]
    settings = settings_of(cluster, timeout=1.0, **({} if system else {"system": None, "monitoring": monitoring}))
    async with reading(settings) as readers:
        return await readers.gather(RUNBOOK.needs)


def examined(snapshot: Snapshot) -> list[Finding]:
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, OLD_ENOUGH, Focus())]


def sick(findings: list[Finding]) -> list[str]:
    return [f"{f.check} {f.severity}: {f.sentence}" for f in findings if f.severity is not Severity.OK]


def pairs(findings: list[Finding], check: str) -> set[frozenset[str]]:
    return {frozenset(f.evidence["pair"]) for f in findings if f.check == check and f.severity is Severity.CRITICAL}


def proposals(snapshot: Snapshot, findings: list[Finding]) -> list[Proposed]:
    return list(RUNBOOK.propose(snapshot, findings, OLD_ENOUGH, Focus()))


async def becomes_healthy(cluster: LabCluster) -> None:
    """Fails with the last findings where the mesh is not found whole in time; a young one takes a moment."""
    until = time.monotonic() + PATIENCE
    while found := sick(examined(await gathered(cluster, system=False))):
        assert time.monotonic() < until, found
        await asyncio.sleep(0.1)
    overview = await gathered(cluster)
    findings = examined(overview)
    assert sick(findings) == []
    assert proposals(overview, findings) == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_seed_with_a_wrong_advertised_address_is_found_and_the_explicit_list_heals_it(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    await becomes_healthy(cluster)
    broken = await mesh_drills.wrong_advertise(cluster)
    snapshot = await gathered(cluster, system=False)
    findings = examined(snapshot)
    assert pairs(findings, "MESH_PAIRS") == broken
    verdict = rank(findings)
    assert verdict.root is not None
    assert (verdict.severity, verdict.root.check) == (Severity.CRITICAL, "MESH_LISTS")
    assert [p.draft.title for p in proposals(snapshot, findings)] == ["List every server in cluster.routes and reload"]
    addresses = {name: cluster.route_address(name) for name in cluster.names}
    assert route_list(read_mesh(snapshot)) == addresses
    await mesh_drills.repair(cluster)
    await becomes_healthy(cluster)


async def test_a_missing_pair_is_found_over_the_system_account_whichever_server_is_asked(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.11.11")
    broken = await mesh_drills.wrong_advertise(cluster)
    for name in cluster.names:
        async with reading(settings_of(cluster, timeout=1.0, servers=[cluster.url(name)])) as readers:
            findings = examined(await readers.gather(RUNBOOK.needs))
        assert pairs(findings, "MESH_PAIRS") == broken, name


@pytest.mark.parametrize("version", VERSIONS)
async def test_islands_are_found_with_their_servers_and_joined_by_the_list(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version, size=5)
    await becomes_healthy(cluster)
    broken = await mesh_drills.islands(cluster)
    findings = examined(await gathered(cluster, system=False))
    root = rank(findings).root
    assert root is not None
    assert root.check == "MESH_ISLANDS"
    assert root.evidence["islands"] == [["n2", "n3", "n4"], ["n0", "n1"]]
    assert {frozenset(pair) for pair in root.evidence["pairs without a route"]} == broken
    await mesh_drills.repair(cluster)
    await becomes_healthy(cluster)


async def test_a_route_that_was_cut_for_a_moment_is_found_and_the_list_heals_it(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    async with mesh_drills.cut_route(cluster) as broken:
        findings = examined(await gathered(cluster, system=False))
        assert pairs(findings, "MESH_PAIRS") == broken
        await mesh_drills.repair(cluster)
        await becomes_healthy(cluster)


@pytest.mark.skipif(bool(mesh_drills.headless_impossible()), reason=mesh_drills.headless_impossible() or "possible")
async def test_one_name_for_all_routes_is_found_with_every_incomplete_pair(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26")
    seen = await mesh_drills.headless(cluster)
    snapshot = await gathered(cluster, system=False)
    findings = examined(snapshot)
    incomplete = {frozenset({a, b}) for a in seen for b in seen if a != b and seen[a].get(b, 0) < 4}
    assert pairs(findings, "MESH_PAIRS") | pairs(findings, "MESH_SLOTS") >= incomplete
    root = rank(findings).root
    assert root is not None
    assert root.check == "MESH_LISTS"
    assert "Behind one name" in root.sentence
    addresses = [address.partition(":")[0] for address in route_list(read_mesh(snapshot)).values()]
    assert addresses == ["n0.nats-headless", "n1.nats-headless", "n2.nats-headless"]
    await mesh_drills.repair(cluster)
    await becomes_healthy(cluster)


@pytest.mark.parametrize("version", VERSIONS)
async def test_servers_that_pool_differently_on_purpose_and_no_advertise_are_left_alone(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    await mesh_drills.pool_off(cluster)
    await becomes_healthy(cluster)
    await mesh_drills.no_advertise(cluster)
    await becomes_healthy(cluster)


async def test_a_pinned_account_is_expected_where_all_servers_pin_it(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    pinning = ClusterBlock(accounts=("APP",))
    await cluster.reform(dict.fromkeys(cluster.names, pinning))
    await becomes_healthy(cluster)
    mesh = read_mesh(await gathered(cluster))
    assert {p.expected.pinned for p in mesh.pairs if p.expected} == {frozenset({"APP", "SYS"})}
    assert [p.slots for p in mesh.pairs] == [3, 3, 3]


async def test_pool_sizes_that_an_old_server_refuses_are_named_as_the_reason(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.10.26")
    await cluster.reform({"n2": ClusterBlock(pool_size=1)})
    snapshot = await gathered(cluster, system=False)
    findings = examined(snapshot)
    told = [f.sentence for f in findings if f.check == "MESH_PAIRS"]
    assert len(told) == 2
    assert all("versions before 2.11.2 refuse that" in sentence for sentence in told)
    assert "Give all servers the same cluster.pool_size" in [p.draft.title for p in proposals(snapshot, findings)]


async def test_another_cluster_name_is_the_root(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await cluster.reform({"n2": ClusterBlock(name="other")})
    snapshot = await gathered(cluster, system=False)
    findings = examined(snapshot)
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.subject.server) == ("MESH_CLUSTER_NAME", "n2")
    assert [p.draft.title for p in proposals(snapshot, findings)] == ["Give server n2 the cluster's name"]


async def test_another_route_password_breaks_the_pairs_of_that_server(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.15.1")
    blocks = {name: ClusterBlock(authorization=("r", "secret" if name != "n2" else "other")) for name in cluster.names}
    await cluster.reform(blocks)
    await asyncio.sleep(1)
    findings = examined(await gathered(cluster, system=False))
    assert {frozenset({"n0", "n2"}), frozenset({"n1", "n2"})} <= pairs(findings, "MESH_PAIRS")
    assert not any("secret" in str(f) for f in findings)
