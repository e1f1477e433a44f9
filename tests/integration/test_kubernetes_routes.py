"""Routes of a real cluster in a real Kubernetes are made explicit by reload: no pod restarts, and every pair has every connection afterwards."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from bot.actions._servers import mesh_among
from bot.actions.mesh_repair import compose_routes
from bot.errors import Refused
from bot.model import ExecutionState, Outcome, StageState
from tests.integration.kubernetes_nats import ONE_NAME, PASSWORD, Nats, nats_conf, open_nats
from tests.integration.kubernetes_support import IMAGE, NEWER_IMAGE, until

pytestmark = pytest.mark.kubernetes

SETTLED = 4.0
"""Seconds after which a young server has dialled what it knows by gossip (reference/drills.md 1)."""
SERVERS = ("nats-0", "nats-1", "nats-2", "nats-3")
LISTED = "".join(f'\n    "nats://route:{PASSWORD}@{name}.nats-headless:6222",' for name in SERVERS).rstrip(",") + "\n  "


async def uneven(nats: Nats) -> None:
    """Start servers anew until their mesh lacks connections: behind one name that is a matter of one or two tries (reference/drills.md 2)."""
    for _ in range(6):
        await asyncio.sleep(SETTLED)
        snapshot, _ = await nats.look()
        seen = mesh_among(snapshot, SERVERS)
        print(seen.sentence)
        if seen.outcome is Outcome.FAILED and len(snapshot.servers) == len(SERVERS):
            return
        if seen.outcome is Outcome.CANNOT_TELL:
            continue
        old = await nats.lives()
        for name in SERVERS[1:]:
            await nats.cluster.delete("Pod", name, nats.namespace)
        gone = [life for name, life in old.items() if name != "nats-0"]
        await until("new pods", partial(nats.ready, len(SERVERS), without=gone))
    raise AssertionError("the mesh is complete in spite of its one route")


@pytest.mark.parametrize("image", [IMAGE, NEWER_IMAGE])
async def test_an_uneven_mesh_is_completed_by_reloads_and_no_pod_restarts(tmp_path: Path, image: str):
    async with open_nats(tmp_path, image, 4, nats_conf(ONE_NAME)) as nats:
        await uneven(nats)
        before, lives = await nats.conf(), await nats.lives()
        snapshot, workload = await nats.look()
        repair = compose_routes(snapshot, workload)
        assert [kind for kind, _ in repair.stages] == ["kubernetes.routes", *["nats.reload"] * 4]
        async with nats.quick_kubelet():
            ended = await nats.desk.carry_out(repair.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert {run.state for run in ended.stages} == {StageState.VERIFIED}
        assert await nats.conf() == before.replace(f"[ {ONE_NAME} ]", f"[{LISTED}]")
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
        print([(run.sentence, run.ended_at) for run in ended.stages])
