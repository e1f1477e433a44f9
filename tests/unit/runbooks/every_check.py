"""Every check of every runbook, found as the product finds them, for tests that hold for all of them."""

from collections.abc import Mapping, Sequence

from bot.bootstrap import registry
from bot.model import Finding, Focus, Snapshot
from bot.runbook import Check, Runbook

REGISTRY = registry()

CHECKS: Mapping[str, tuple[Runbook, Check]] = {
    check.code: (runbook, check) for runbook in REGISTRY.runbooks for check in runbook.checks if not check.of_kubernetes
}
"""By code, with a runbook that has it: those that recordings have something to say to. Those of the Kubernetes side are tested in test_deploy_*."""

OPT_IN: Mapping[str, str] = {"MESH_DELIVERY": "judges a probe that somebody must ask for"}
"""Why a check may say nothing at all."""


def examine(snapshot: Snapshot, code: str) -> Sequence[Finding]:
    """What one check finds, straight from it: what it raises is raised."""
    runbook, check = CHECKS[code]
    return check.examine(snapshot, runbook.values(), Focus())
