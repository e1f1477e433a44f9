"""What is done about the Kubernetes side, by rising risk: what natsmedic offers to change, and guidance where it does not. Pure.

Who owns an object reverts what others change in it (reference/nats.md 4.5), so each change of the StatefulSet is told as values of its source first.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Finding, Focus, Severity, Snapshot, Subject
from bot.runbook import Proposed, Thresholds
from runbooks import _deploy_repairs as repairs
from runbooks import _deploy_settings as settings
from runbooks._deploy_config import CONFIG, RELOAD
from runbooks._deploy_lifecycle import IMAGE, SHUTDOWN
from runbooks._deploy_offers import offered
from runbooks._deploy_pods import NODES, PODS, ROLLOUT
from runbooks._deploy_probes import KILLS, ORDER, PROBES
from runbooks._deploy_resources import MEMORY, RESOURCES
from runbooks._deploy_routes import ROUTES, SERVICE
from runbooks._deploy_rungs import RUNGS
from runbooks._deploy_size import SIZE
from runbooks._deploy_spread import BUDGET, PLACEMENT, SPREAD
from runbooks._deploy_storage import STORAGE, VOLUMES
from runbooks._deploy_target import Guide, target_of


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001 - the contract's parameters
    """Return guidance in order of risk: what is broken now first, then what rolls no pod, what rolls all, and at last moving data."""
    return guidance(snapshot, findings)


def guidance(snapshot: Snapshot, findings: Sequence[Finding]) -> list[Proposed]:
    """Return what these findings of the Kubernetes side call for; nothing for those of other checks."""
    target = target_of(snapshot)
    sick = [f for f in findings if f.severity in {Severity.WARNING, Severity.CRITICAL}]
    proposed: list[Proposed] = []
    for codes, guide in GUIDES:
        about = sorted((f for f in sick if f.check in codes), key=lambda f: -f.severity.rank)
        if about and target is not None:
            made = offered(snapshot, target.workload, about, guide(target, about))
            ladder = (draft.model_copy(update={"rung": RUNGS[guide]}) for draft in made)
            proposed += [Proposed(Subject(cluster=snapshot.cluster), draft) for draft in ladder]
    return proposed


GUIDES: tuple[tuple[frozenset[str], Guide], ...] = (
    (frozenset({KILLS.code}), repairs.kills),
    (frozenset({PODS.code}), repairs.pods),
    (frozenset({NODES.code}), repairs.nodes),
    (frozenset({CONFIG.code}), repairs.config),
    (frozenset({ROUTES.code}), repairs.routes),
    (frozenset({SERVICE.code}), repairs.service),
    (frozenset({BUDGET.code}), settings.budget),
    (frozenset({ROLLOUT.code}), repairs.rollout),
    (frozenset({PROBES.code}), settings.probes),
    (frozenset({RESOURCES.code, MEMORY.code}), settings.resources),
    (frozenset({SPREAD.code, PLACEMENT.code}), settings.spread),
    (frozenset({SIZE.code}), settings.size),
    (frozenset({SHUTDOWN.code}), settings.shutdown),
    (frozenset({RELOAD.code}), settings.reload),
    (frozenset({IMAGE.code}), settings.image),
    (frozenset({ORDER.code}), settings.order),
    (frozenset({VOLUMES.code}), repairs.volumes),
    (frozenset({STORAGE.code}), repairs.storage),
)
"""Which guide is for which checks: a probe that kills first, since it is a cause, then by rising risk."""
