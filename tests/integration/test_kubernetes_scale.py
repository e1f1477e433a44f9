"""A real cluster in a real Kubernetes grows by one server at a time, and gets its disruption budget."""

from functools import partial
from pathlib import Path

import pytest

from bot.actions import kubernetes_scale_out
from bot.actions._servers import mesh_among
from bot.actions.kubernetes_budget import compose_budget
from bot.actions.kubernetes_scale_out import ScaleOutParams
from bot.actions.scale import compose_scale_out, scale_in_guidance
from bot.model import ExecutionState, Outcome, StageState
from bot.model.groups import meta_standing
from tests.integration.kubernetes_nats import Nats, addresses, nats_conf, open_nats
from tests.integration.kubernetes_support import NEWER_IMAGE, until

pytestmark = pytest.mark.kubernetes


async def healthy(nats: Nats) -> bool:
    """Ready pods say nothing of the meta group, which elects its leader some seconds later."""
    snapshot, _ = await nats.look()
    return len(snapshot.servers) == 3 and meta_standing(snapshot).whole


async def the_budget_is_made_and_taken_back(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later stage of the same proposal can't be: the pods are not seven."""
    monkeypatch.setattr(kubernetes_scale_out.ACTION, "half_way", 1.0)
    snapshot, workload = await nats.look()
    (budget,) = compose_budget(snapshot, workload).stages
    impossible = ScaleOutParams(
        workload="nats", workload_uid=workload.uid, replicas=7, servers=("nats-0",), server="nats-7", routes=()
    )
    ended = await nats.desk.carry_out([budget, ("kubernetes.scale_out", impossible.model_dump(mode="json"))])
    assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
    assert "asks for 3 pods, not for 7" in ended.sentence
    assert [run.state for run in ended.stages] == [StageState.ROLLED_BACK, StageState.NOT_APPLIED]
    assert ended.stages[0].sentence == "Disruption budget nats is deleted."
    assert (await nats.look())[1].budgets == ()


async def test_three_servers_become_five_and_each_joins_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with open_nats(tmp_path, NEWER_IMAGE, 3, nats_conf(addresses(3))) as nats:
        await until("a complete meta group", partial(healthy, nats))
        await the_budget_is_made_and_taken_back(nats, monkeypatch)
        (stage,) = compose_budget(*await nats.look()).stages
        ended = await nats.desk.carry_out([stage])
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert "protects 3 pods; 1 may be evicted now" in ended.sentence

        lives = await nats.lives()
        growth = compose_scale_out(*await nats.look(), target=5)
        assert [kind for kind, _ in growth.stages] == [
            "kubernetes.routes",
            *["nats.reload"] * 3,
            *["kubernetes.scale_out"] * 2,
        ]
        plan = await nats.desk.plan(growth.stages)
        assert "4 servers tolerate the loss of 1, and so do 3: the quorum of 4 is 3." in plan.stages[4].preview.effects
        assert "+  replicas: 4" in plan.stages[4].preview.diff
        async with nats.quick_kubelet():
            ended = await nats.desk.run(await nats.desk.approved(plan))
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert [run.after.get("meta peers") for run in ended.stages[4:]] == [4, 5]
        snapshot, workload = await nats.look()
        servers = tuple(f"nats-{i}" for i in range(5))
        meta = meta_standing(snapshot)
        assert (meta.whole, meta.replicas, sorted(meta.members)) == (True, 5, list(servers))
        assert mesh_among(snapshot, servers).outcome is Outcome.VERIFIED
        assert {name: life for name, life in (await nats.lives()).items() if name in lives} == lives
        told = scale_in_guidance(snapshot, workload, 3)
        assert f"kubectl -n {nats.namespace} scale statefulset nats --replicas 4" in told
