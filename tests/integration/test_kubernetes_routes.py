"""Routes of a real cluster in a real Kubernetes are made explicit by reload: no pod restarts, and every pair has every connection afterwards."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from bot.actions import nats_reload
from bot.actions._servers import mesh_among, runs_with
from bot.actions.kubernetes_routes import FORMER
from bot.actions.mesh_repair import compose_routes
from bot.errors import Refused
from bot.model import ExecutionState, Outcome, ProposalState, StageState
from bot.model.mesh import read_mesh
from tests.integration.kubernetes_nats import ONE_NAME, PASSWORD, Nats, addresses, login, nats_conf, open_nats
from tests.integration.kubernetes_support import IMAGE, NEWER_IMAGE, until

pytestmark = pytest.mark.kubernetes

SETTLED = 4.0
"""Seconds after which a young server has dialled what it knows by gossip (reference/drills.md 1)."""
SERVERS = ("nats-0", "nats-1", "nats-2", "nats-3")


async def uneven(nats: Nats) -> None:
    """Start servers anew until their mesh lacks connections: behind one name that is a matter of one or two tries (reference/drills.md 2)."""
    for _ in range(6):
        await asyncio.sleep(SETTLED)
        snapshot, _ = await nats.look()
        seen = mesh_among(snapshot, SERVERS)
        if seen.outcome is Outcome.FAILED:
            return
        if seen.outcome is Outcome.CANNOT_TELL:
            continue
        old = await nats.lives()
        for name in SERVERS[1:]:
            await nats.cluster.delete("Pod", name, nats.namespace)
        gone = [life for name, life in old.items() if name != "nats-0"]
        await until("new pods", partial(nats.ready, len(SERVERS), without=gone))
    raise AssertionError("the mesh is complete in spite of its one route")


async def refused_after_an_edit(nats: Nats) -> None:
    """Somebody edits the file between approval and execution: nothing is written, and the field is named."""
    desk = nats.desk
    execution = await desk.approved(await desk.plan(compose_routes(*await nats.look()).stages))
    edited = (await nats.conf()).replace("port: 4222\n", "port: 4222\ndebug: false\n")
    await nats.write("nats.conf", edited)
    ended = await desk.run(execution)
    assert ended.state is ExecutionState.REFUSED
    assert "configmap.nats.conf was " in ended.sentence
    assert "nats.conf in ConfigMap nats-config was edited since" in ended.sentence
    assert (await desk.proposal_of(ended)).state is ProposalState.SUPERSEDED
    assert await nats.conf() == edited


@pytest.mark.parametrize("image", [IMAGE, NEWER_IMAGE])
async def test_an_uneven_mesh_is_completed_by_reloads_and_no_pod_restarts(tmp_path: Path, image: str):
    async with open_nats(tmp_path, image, len(SERVERS), nats_conf(ONE_NAME)) as nats:
        await uneven(nats)
        if image == NEWER_IMAGE:
            await refused_after_an_edit(nats)
        before, lives = await nats.conf(), await nats.lives()
        repair = compose_routes(*await nats.look())
        assert [kind for kind, _ in repair.stages] == ["kubernetes.routes", *["nats.reload"] * 4]
        async with nats.quick_kubelet():
            ended = await nats.desk.carry_out(repair.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert {run.state for run in ended.stages} == {StageState.VERIFIED}
        assert await nats.conf() == before.replace(f" {ONE_NAME} ", addresses(4))
        assert await nats.lives() == lives
        snapshot, workload = await nats.look()
        seen = mesh_among(snapshot, SERVERS)
        assert (seen.outcome, seen.numbers["complete pairs"]) == (Outcome.VERIFIED, 6)
        assert {seen.numbers[f"routes of {name}"] for name in SERVERS} == {12}
        with pytest.raises(Refused, match="the mesh is complete"):
            compose_routes(snapshot, workload)
        proposal = (await nats.desk.proposal_of(ended)).model_dump_json()
        assert "nats-3.nats-headless:6222" in proposal
        written = json.dumps([entry.model_dump(mode="json") for entry in await nats.desk.audit()])
        assert PASSWORD not in written + proposal + ended.model_dump_json()


async def becomes_incomplete(folder: Path) -> bool:
    """Have the repair break the mesh and be taken back; False where every connection was one that a change of the list leaves alone (server/reload.go,
    `routesOption.Apply` closes what was dialled by a removed address, and who dials whom behind one name is chance).
    """
    async with open_nats(folder, IMAGE, 3, nats_conf(ONE_NAME)) as nats:
        await asyncio.sleep(SETTLED)
        before, lives = await nats.conf(), await nats.lives()
        execution = await nats.desk.approved(await nats.desk.plan(compose_routes(*await nats.look()).stages))
        # The second file of the configuration: with it each server that loads it refuses the others' login.
        await nats.write("routes-login.conf", login("another"))
        async with nats.quick_kubelet():
            ended = await nats.desk.run(execution)
        if ended.state is ExecutionState.DONE:
            snapshot, _ = await nats.look()
            assert mesh_among(snapshot, SERVERS[:3]).outcome is Outcome.VERIFIED
            return False
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        assert "pairs of servers lack connections" in ended.sentence
        assert await nats.conf() == before
        raw = await nats.cluster.get("ConfigMap", "nats-config", nats.namespace)
        assert FORMER not in raw["metadata"]["annotations"]
        snapshot, _ = await nats.look()
        mesh = read_mesh(snapshot)
        assert all(runs_with(mesh, server.name, ("nats-headless:6222",)) for server in snapshot.servers)
        assert await nats.lives() == lives
        return True


async def test_a_mesh_that_does_not_become_complete_gets_its_former_routes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nats_reload.ACTION, "patience", 10.0)
    for attempt in range(5):
        (folder := tmp_path / str(attempt)).mkdir()
        if await becomes_incomplete(folder):
            return
    raise AssertionError("the mesh stayed complete five times")
