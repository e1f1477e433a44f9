"""Whether one node, one zone or one drain takes more servers away than the Raft groups can spare. Pure functions of snapshot and thresholds.

The scheduler spreads pods by what their template asks for; what it did is another question, which their nodes answer (reference/nats.md 1.B).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from bot.model import Finding, Focus, JsonObject, Layer, Snapshot
from bot.model.base import Json
from bot.model.groups import stream_replicas
from bot.model.kubernetes import Budget, Pod, matches
from bot.runbook import Thresholds
from runbooks._audit_views import few
from runbooks._deploy_views import Look, Topic, counted

SPREAD = Topic("DEPLOY_SPREAD", Layer.CLIENTS)
PLACEMENT = Topic("DEPLOY_PLACEMENT", Layer.CLIENTS)
BUDGET = Topic("DEPLOY_BUDGET", Layer.CLIENTS)
"""In the last layer: they say what would break, which explains nothing of what is broken."""

LEAST_ZONES = 2
"""In one zone there is nothing to spread over: where a cluster is, is a decision. Two zones can't carry three members evenly, and that should be known."""


class Rule(NamedTuple):
    """One rule by which the scheduler keeps pods apart."""

    key: str
    required: bool
    where: str


def pods_are_kept_apart(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The template has a rule that keeps the pods on different nodes, and the scheduler must obey it."""

    def judge(look: Look) -> None:
        workload = look.workload
        if workload.replicas < 2:
            return
        rules = list(_rules(look))
        if any(rule.required for rule in rules):
            return
        field = "spec.template.spec.topologySpreadConstraints"
        evidence = look.seen(
            workload, field, [rule._asdict() for rule in rules], "kubernetes.io/hostname, DoNotSchedule"
        )
        if rules:
            named = few([f"{rule.where} by {rule.key}" for rule in rules])
            look.warn(
                f"The pods of {look.name} are kept apart only where it suits ({named} is preferred): a scheduler short of room puts several on one node.",
                evidence,
            )
        else:
            look.warn(f"Nothing keeps the {workload.replicas} pods of {look.name} on different nodes.", evidence)

    return SPREAD.judge(snapshot, judge, "The pods must run on different nodes.")


def no_place_holds_a_majority(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Without any one node, and without any one zone, every Raft group keeps its quorum."""

    def judge(look: Look) -> None:
        pods = look.pods()
        if look.workload.replicas < 2:
            return
        _judge_places(look, "node", _by_place(pods, lambda pod: pod.node_name))
        zones = _by_place(pods, lambda pod: _zone(look, pod))
        if len(zones) >= LEAST_ZONES:
            _judge_places(look, "zone", zones)

    return PLACEMENT.judge(snapshot, judge, "Without any one node every Raft group keeps its quorum.")


def budget_protects_quorum(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """One PodDisruptionBudget selects the pods, and lets one go at a time."""

    def judge(look: Look) -> None:
        budgets = look.known(look.workload.budgets)
        if budgets is None or look.workload.replicas < 2:
            return
        evidence: JsonObject = {"object": f"PodDisruptionBudget {look.facts.namespace}/*", "field": "spec.selector"}
        evidence |= {"value": [budget.name for budget in budgets], "expected": "one that selects the pods"}
        if not budgets:
            look.warn(
                f"No PodDisruptionBudget protects the pods of {look.name}: a drain of several nodes may take all {look.workload.replicas} at once.",
                evidence | {"pod labels": dict(look.workload.pod_labels)},
            )
        elif len(budgets) != 1:
            named = few([budget.name for budget in budgets])
            look.warn(
                f"{len(budgets)} PodDisruptionBudgets select the pods of {look.name} ({named}): the API server then refuses every eviction, and no node can be drained.",
                evidence,
            )
        else:
            _judge_budget(look, budgets[0])

    return BUDGET.judge(snapshot, judge, "A disruption budget lets one pod go at a time.")


# Rules.


def _rules(look: Look) -> Iterator[Rule]:
    """The rules that hold between the pods themselves: those whose selector selects them."""
    labels = look.workload.pod_labels
    for rule in look.workload.spread:
        if matches(rule.selector, labels):
            yield Rule(rule.topology_key, rule.required, "topologySpreadConstraints")
    for rule in look.workload.anti_affinity:
        if matches(rule.selector, labels):
            yield Rule(rule.topology_key, rule.required, "podAntiAffinity")


# Places.


def _by_place(pods: tuple[Pod, ...], place: Callable[[Pod], str]) -> dict[str, list[Pod]]:
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        if name := place(pod):
            found.setdefault(name, []).append(pod)
    return found


def _zone(look: Look, pod: Pod) -> str:
    if not pod.node_name:
        return ""
    node = look.known(look.workload.node_of(pod))
    return node.zone if node else ""


def _judge_places(look: Look, what: str, places: Mapping[str, list[Pod]]) -> None:
    for place, there in sorted(places.items()):
        if len(there) < 2:
            continue
        servers = {name for pod in there if (name := look.server_of(pod))}
        left = look.workload.replicas - len(there)
        meta = left < look.workload.replicas // 2 + 1
        stalled = _stalled(look, servers)
        if not meta and not stalled:
            continue
        if not look.all_told():
            look.complain("the streams of every server, so it is not known which have several members in one place")
        lost = ([f"the meta group ({left} of {look.workload.replicas} servers would be left)"] if meta else []) + (
            [f"{counted(len(stalled), 'stream')} ({few(stalled)})"] if stalled else []
        )
        names = [pod.name for pod in there]
        evidence = look.seen(there[0], "spec.nodeName" if what == "node" else "topology.kubernetes.io/zone", place)
        evidence |= {"pods": names, "meta": meta, "streams": stalled[:50], "count": len(stalled)}
        # One finding for each place, told of the first pod there: what has one subject counts once.
        look.warn(
            f"{what.capitalize()} {place} carries {few(names)}: without it {' and '.join(lost)} would have no quorum.",
            evidence,
            there[0],
        )


def _stalled(look: Look, gone: set[str]) -> list[str]:
    """The streams with three or more replicas that would have no quorum without these servers. Two replicas can spare none, wherever they are."""
    snapshot = look.snapshot
    found: list[str] = []
    for key, views in snapshot.streams(snapshot.rounds - 1).items():
        replicas = stream_replicas(views)
        if replicas > 2 and len(views.keys() & gone) > replicas - (replicas // 2 + 1):
            found.append(str(key))
    return sorted(found)


# The budget.


def _judge_budget(look: Look, budget: Budget) -> None:
    replicas = look.workload.replicas
    allowed = _allowed(budget, replicas)
    field = "spec.minAvailable" if budget.max_unavailable is None else "spec.maxUnavailable"
    value = budget.min_available if budget.max_unavailable is None else budget.max_unavailable
    evidence = look.seen(budget, field, value, "maxUnavailable 1") | {"allowed": allowed, "replicas": replicas}
    written = f"{field.removeprefix('spec.')} {value}"
    if value is None:
        look.warn(
            f"PodDisruptionBudget {budget.name} sets neither maxUnavailable nor minAvailable, and so protects nothing.",
            evidence,
        )
    elif allowed is None:
        look.complain(f"{written} of PodDisruptionBudget {budget.name}")
    elif allowed > 1:
        look.warn(
            f"PodDisruptionBudget {budget.name} lets {allowed} of {replicas} pods go at once ({written}): "
            f"{replicas - allowed} would be left, and groups of three can spare one.",
            evidence,
        )
    elif allowed < 1:
        look.warn(
            f"PodDisruptionBudget {budget.name} lets no pod go ({written} of {replicas}): no node that carries one can be drained, and upgrades of nodes wait for ever.",
            evidence,
        )


def _allowed(budget: Budget, replicas: int) -> int | None:
    """How many pods may be away by choice. Percentages of both fields are rounded up (pkg/controller/disruption, getExpectedPodCount)."""
    if budget.max_unavailable is not None:
        return _count(budget.max_unavailable, replicas)
    kept = _count(budget.min_available, replicas)
    return None if kept is None else max(replicas - kept, 0)


def _count(value: Json, replicas: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    share = value.removesuffix("%") if isinstance(value, str) and value.endswith("%") else ""
    return math.ceil(int(share) * replicas / 100) if share.isascii() and share.isdigit() else None
