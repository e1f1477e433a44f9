"""Rollouts on a real Kubernetes: pods go one at a time, each only when every Raft group can spare its server; what goes wrong is undone."""

from pathlib import Path

import pytest

from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import compose_probe
from bot.model import ExecutionState, ProposalState
from bot.model.probes import ENABLED_ONLY, ProbeKind
from tests.integration.kubernetes_support import IMAGE
from tests.integration.rollout_scene import open_scene, under_load

pytestmark = [pytest.mark.kubernetes]

LEADERLESS = 10.0
"""Seconds an election may take (4 to 9, reference/nats.md 1.0), and a look."""


async def test_a_changed_probe_rolls_the_pods_one_at_a_time_and_loses_no_acknowledged_message(tmp_path: Path) -> None:
    async with open_scene(tmp_path, IMAGE) as scene, under_load(scene) as (_, watch):
        await scene.whole()
        workload = await scene.workload()
        old = workload.update_revision
        change = ProbeChange(path=ENABLED_ONLY)
        plan = await scene.offer(compose_probe(await scene.look(), workload, ProbeKind.READINESS, change))
        assert [stage.kind for stage in plan.stages] == ["kubernetes.probe"] + ["kubernetes.roll_pod"] * 3
        assert "js-enabled-only" in plan.stages[0].preview.diff
        execution, proposal = await scene.run(await scene.approved(plan))
        assert (execution.state, proposal.state) == (ExecutionState.DONE, ProposalState.DONE), execution.sentence
        after = await scene.workload()
        new = after.update_revision
        assert after.nats.readiness is not None
        assert after.nats.readiness.path == ENABLED_ONLY
        assert (after.partition, after.update_strategy, after.ready_replicas) == (0, "RollingUpdate", 3)
        assert watch.revisions == [(old, old, old), (old, old, new), (old, new, new), (new, new, new)]
        assert (watch.away, watch.fewest) == (1, 2)
        assert watch.leaderless < LEADERLESS
