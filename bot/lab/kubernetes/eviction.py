"""Evicting a pod, which its disruption budget must allow (pkg/registry/core/pod/storage/eviction.go)."""

from bot.lab.kubernetes.kinds import BUDGET, POD
from bot.lab.kubernetes.objects import Raw, labels_of, matches, name_of, part, running_and_ready, stamp, terminating
from bot.lab.kubernetes.refusals import Refused, budget_exceeded
from bot.lab.kubernetes.registry import Deletion, Registry

API_SERVER = "kube-apiserver"


def evict(registry: Registry, namespace: str, name: str, body: Raw, *, dry_run: bool) -> Raw:
    """Deletes the pod if its budget allows it, and returns a Status. Raises `Refused`: 429 where it does not."""
    pod = registry.get(POD, namespace, name)
    options: Raw = part(body, "deleteOptions")
    dry_run = dry_run or options.get("dryRun") == ["All"]
    # A pod that does not run, or goes anyway, costs nothing.
    if part(pod, "status").get("phase") == "Running" and not terminating(pod):
        _spend(registry, pod, namespace, dry_run=dry_run)
    how = Deletion(part(options, "preconditions"), options.get("gracePeriodSeconds"), dry_run=dry_run)
    registry.delete(POD, namespace, name, how)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _spend(registry: Registry, pod: Raw, namespace: str, *, dry_run: bool) -> None:
    budgets = [
        raw for raw in registry.store.list(BUDGET, namespace) if matches(raw["spec"].get("selector"), labels_of(pod))
    ]
    if len(budgets) > 1:
        words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise Refused(500, "InternalError", words)
    for budget in budgets:
        status: Raw = budget["status"]
        if status.get("observedGeneration", 0) < budget["metadata"]["generation"]:
            raise budget_exceeded(f"The disruption budget {name_of(budget)} is still being processed by the server.")
        if status["disruptionsAllowed"] <= 0:
            needs, has = status["desiredHealthy"], status["currentHealthy"]
            why = f"The disruption budget {name_of(budget)} needs {needs} healthy pods and has {has} currently"
            raise budget_exceeded(why)
        if dry_run:
            return
        gone = part(status, "disruptedPods") | {name_of(pod): stamp(registry.store.clock())}
        spent = status | {"disruptionsAllowed": status["disruptionsAllowed"] - 1, "disruptedPods": gone}
        registry.write_status(BUDGET, budget, spent, API_SERVER)


def budget_status(budget: Raw, pods: list[Raw]) -> Raw:
    """What the disruption controller reports: its budget against the pods that are there (pkg/controller/disruption)."""
    spec: Raw = budget["spec"]
    expected = len(pods)
    disrupted: Raw = part(budget, "status", "disruptedPods")
    waiting = {
        name: at for name, at in disrupted.items() if any(name_of(p) == name and not terminating(p) for p in pods)
    }
    healthy = sum(running_and_ready(p) and not terminating(p) and name_of(p) not in waiting for p in pods)
    if "maxUnavailable" in spec:
        desired = expected - _share(spec["maxUnavailable"], expected)
    else:
        desired = _share(spec.get("minAvailable", 1), expected)
    desired = max(desired, 0)
    return {
        "observedGeneration": budget["metadata"]["generation"],
        "disruptionsAllowed": max(healthy - desired, 0) if expected else 0,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        **({"disruptedPods": waiting} if waiting else {}),
    }


def _share(value: int | str, whole: int) -> int:
    """A number, or a percentage rounded up."""
    if isinstance(value, int):
        return value
    return -(-whole * int(value.removesuffix("%")) // 100)
