"""A sample of the chaos in every `make test`; more of it is `make test-chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Plan, chaos
from tests.exhaustive import chosen

PLANS = [
    Plan(operations=3, replicas=1, sites=1, workers=1, seed=1, calm=True),
    Plan(operations=12, replicas=1, sites=2, workers=2, seed=2),
]


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("plan", chosen(PLANS, PLANS[:1]), ids=lambda plan: "calm" if plan.calm else "chaos")
async def test_no_invariant_is_violated(tmp_path: Path, plan: Plan) -> None:
    told: list[str] = []
    report = await chaos(plan, tmp_path, told.append)
    assert not report.violations, "\n".join((*told, str(report)))
    assert len(report.played) == plan.operations
    assert not any(one.problem for one in report.played), str(report)
