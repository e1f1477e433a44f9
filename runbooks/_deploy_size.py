"""Whether the number of servers is one that helps: an even one tolerates no more losses than one server less (reference/nats.md 4.3). Pure."""

from __future__ import annotations

from bot.actions.kubernetes_scale_out import even_size
from bot.model import Finding, Focus, Layer, Snapshot
from bot.runbook import Thresholds
from runbooks._deploy_views import Look, Topic

SIZE = Topic("DEPLOY_SIZE", Layer.CLIENTS)


def number_is_odd(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """There is one server, or an odd number of them."""

    def judge(look: Look) -> None:
        replicas = look.workload.replicas
        if even := even_size(replicas) if replicas else "":
            look.warn(
                f"StatefulSet {look.name} has an even number of servers. {even}",
                look.seen(look.workload, "spec.replicas", replicas, replicas + 1),
            )

    return SIZE.judge(snapshot, judge, "The number of servers is odd.")
