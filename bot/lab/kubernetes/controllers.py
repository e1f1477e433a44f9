"""The other controllers: scheduler, volume binder, endpoints, disruption budgets, garbage collector, namespaces."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Final

from bot.lab.kubernetes.defaults import without_empty
from bot.lab.kubernetes.events import Recorder, Source
from bot.lab.kubernetes.eviction import budget_status
from bot.lab.kubernetes.faults import Faults
from bot.lab.kubernetes.kinds import (
    BUDGET,
    CLAIM,
    ENDPOINTS,
    EVENT,
    KINDS,
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    SLICE,
    STORAGE_CLASS,
    VOLUME,
    Kind,
)
from bot.lab.kubernetes.kubelet import Kubelet
from bot.lab.kubernetes.objects import (
    Raw,
    condition,
    labels_of,
    matches,
    name_of,
    namespace_of,
    part,
    parts,
    quantity,
    running_and_ready,
    stamp,
    terminating,
    uid_of,
)
from bot.lab.kubernetes.registry import Deletion, Registry, Write
from bot.lab.kubernetes.revisions import CONTROLLER, owner_reference
from bot.lab.kubernetes.statefulset import StatefulSets

PASS_INTERVAL: Final = 0.02
"""Seconds between two passes: what a change is followed by is seen as a sequence, as on a real cluster."""
IDLE_INTERVAL: Final = 0.2
"""Seconds after which a pass is made though nothing has changed."""
DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
_SCHEDULER: Final = Source("default-scheduler")


class Controllers:
    """All controllers in one loop over the store, which rests while the API server is away."""

    def __init__(self, registry: Registry, recorder: Recorder, kubelet: Kubelet, faults: Faults) -> None:
        self._registry = registry
        self._store = registry.store
        self._recorder = recorder
        self._kubelet = kubelet
        self._faults = faults
        self._sets = StatefulSets(registry, recorder)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            seen = self._store.revision
            if not self._faults.down:
                self.sync()
            await asyncio.sleep(PASS_INTERVAL)
            try:
                # Before Python 3.12, wait_for may swallow the cancellation that ends this loop.
                async with asyncio.timeout(IDLE_INTERVAL):
                    await self._store.after(seen)
            except TimeoutError:
                continue

    def sync(self) -> None:
        """One pass of each."""
        self._sets.sync()
        bind_claims(self._registry)
        self._schedule()
        self._kubelet.sync()
        write_endpoints(self._registry)
        self._budgets()
        self._collect()
        self._end_namespaces()

    def _schedule(self) -> None:
        for pod in self._store.list(POD):
            if pod["spec"].get("nodeName") or terminating(pod):
                continue
            node, why = self._node_for(pod)
            if node is None:
                self._cannot_schedule(pod, why)
                continue
            bound = pod | {"spec": pod["spec"] | {"nodeName": node}, "metadata": dict(pod["metadata"])}
            bound = self._store.replace(POD, bound)
            words = f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {node}"
            self._recorder.record(bound, "Normal", "Scheduled", words, _SCHEDULER)

    def _node_for(self, pod: Raw) -> tuple[str | None, str]:
        """The emptiest node that it may run on, or why there is none."""
        nodes = self._store.list(NODE)
        for volume in parts(pod, "spec", "volumes"):
            claim = part(volume, "persistentVolumeClaim").get("claimName")
            found = self._store.get(CLAIM, namespace_of(pod), claim) if claim else None
            if claim and (found is None or found["status"].get("phase") != "Bound"):
                words = "pod has unbound immediate PersistentVolumeClaims"
                return None, f"0/{len(nodes)} nodes are available: {len(nodes)} {words}."
        others = [p for p in self._store.list(POD) if p["spec"].get("nodeName")]
        free = [n for n in nodes if condition(n, "Ready") and not n["spec"].get("unschedulable")]
        wanted = part(pod, "spec", "nodeSelector")
        free = [node for node in free if matches({"matchLabels": wanted}, labels_of(node))]
        apart = [node for node in free if not _repelled(pod, node, others, nodes)]
        fitting = [node for node in apart if not _crowded(pod, node, others, nodes)]
        if not fitting:
            words = (
                "didn't match pod topology spread constraints" if apart else "didn't match pod affinity/anti-affinity"
            )
            words = f"{len(free)} node(s) {words}" if free else "no node is ready and matches"
            return None, f"0/{len(nodes)} nodes are available: {words}."
        load = {name_of(n): sum(p["spec"]["nodeName"] == name_of(n) for p in others) for n in fitting}
        return min(load, key=lambda name: (load[name], name)), ""

    def _cannot_schedule(self, pod: Raw, why: str) -> None:
        known = parts(pod, "status", "conditions")
        if any(one["type"] == "PodScheduled" and one["message"] == why for one in known):
            return
        time = stamp(self._store.clock())
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
        told |= {"lastProbeTime": None, "lastTransitionTime": time}
        self._registry.write_status(POD, pod, pod["status"] | {"conditions": [told]}, "kube-scheduler")
        self._recorder.record(pod, "Warning", "FailedScheduling", why, _SCHEDULER)

    def _budgets(self) -> None:
        for budget in self._store.list(BUDGET):
            pods = self._store.list(POD, namespace_of(budget))
            chosen = [pod for pod in pods if matches(budget["spec"].get("selector"), labels_of(pod))]
            self._registry.write_status(BUDGET, budget, budget_status(budget, chosen), CONTROLLER)

    def _collect(self) -> None:
        """Deletes what its owners have left behind, and lets go of it where they said so."""
        living = {uid_of(raw): raw for kind in KINDS for raw in self._store.list(kind)}
        for kind, raw in self._dependents():
            references: list[Raw] = raw["metadata"]["ownerReferences"]
            ends = [_end_of(living.get(reference["uid"])) for reference in references]
            if "orphan" in ends:
                left = [reference for reference, end in zip(references, ends, strict=True) if end != "orphan"]
                freed = raw | {"metadata": raw["metadata"] | {"ownerReferences": left}}
                self._store.replace(kind, without_empty(freed))
            elif not terminating(raw) and all(ends):
                self._registry.delete(kind, namespace_of(raw), name_of(raw), Deletion({}))
        for kind in KINDS:
            for raw in self._store.list(kind):
                self._let_go(kind, raw)

    def _dependents(self) -> Iterator[tuple[Kind, Raw]]:
        for kind in KINDS:
            for raw in self._store.list(kind):
                if raw["metadata"].get("ownerReferences"):
                    yield kind, raw

    def _let_go(self, kind: Kind, raw: Raw) -> None:
        """Takes the collector's finalizers away once nothing depends on it."""
        finalizers: list[str] = parts(raw, "metadata", "finalizers")
        ours = {"orphan", "foregroundDeletion"} & set(finalizers)
        if not ours or not terminating(raw):
            return
        uid = uid_of(raw)
        if any(
            uid == owner["uid"] for _, other in self._dependents() for owner in other["metadata"]["ownerReferences"]
        ):
            return
        left = [one for one in finalizers if one not in ours]
        if left:
            self._store.replace(kind, raw | {"metadata": raw["metadata"] | {"finalizers": left}})
        else:
            self._store.remove(kind, namespace_of(raw), name_of(raw))

    def _end_namespaces(self) -> None:
        for namespace in self._store.list(NAMESPACE):
            if not terminating(namespace):
                continue
            name, left = name_of(namespace), 0
            for kind in (kind for kind in KINDS if kind.namespaced and kind is not EVENT):
                for raw in self._store.list(kind, name):
                    left += 1
                    if not terminating(raw):
                        self._registry.delete(kind, name, name_of(raw), Deletion({}, policy="Background"))
            if not left:
                for event in self._store.list(EVENT, name):
                    self._store.remove(EVENT, name, name_of(event))
                self._store.remove(NAMESPACE, "", name)


def _crowded(pod: Raw, node: Raw, others: list[Raw], nodes: list[Raw]) -> bool:
    """Tells whether a pod on this node would break a spread that its template insists on."""
    for constraint in parts(pod, "spec", "topologySpreadConstraints"):
        if constraint["whenUnsatisfiable"] != "DoNotSchedule":
            continue
        key, place_of = constraint["topologyKey"], {name_of(one): labels_of(one) for one in nodes}
        counts = {labels[key]: 0 for labels in place_of.values() if key in labels}
        for other in others:
            place = place_of.get(other["spec"]["nodeName"], {}).get(key)
            same = namespace_of(other) == namespace_of(pod) and not terminating(other)
            if place is not None and same and matches(constraint.get("labelSelector"), labels_of(other)):
                counts[place] += 1
        here = labels_of(node).get(key)
        if here is None or counts[here] + 1 - min(counts.values()) > constraint["maxSkew"]:
            return True
    return False


def _end_of(owner: Raw | None) -> str:
    """How an owner ends, for what it owns: `gone`, by its finalizer `orphan` or `foregroundDeletion`; empty while it stays."""
    if owner is None:
        return "gone"
    finalizers = parts(owner, "metadata", "finalizers") if terminating(owner) else []
    return next((one for one in ("orphan", "foregroundDeletion") if one in finalizers), "")


def _repelled(pod: Raw, node: Raw, others: list[Raw], nodes: list[Raw]) -> bool:
    """Tells whether a required anti-affinity keeps a pod away from a node."""
    affinity: Raw = part(pod, "spec", "affinity", "podAntiAffinity")
    by_name = {name_of(one): one for one in nodes}
    for term in parts(affinity, "requiredDuringSchedulingIgnoredDuringExecution"):
        key = term["topologyKey"]
        place = labels_of(node).get(key)
        for other in others:
            same = labels_of(by_name.get(other["spec"]["nodeName"], node)).get(key) == place
            if (
                same
                and namespace_of(other) == namespace_of(pod)
                and matches(term.get("labelSelector"), labels_of(other))
            ):
                return True
    return False


def bind_claims(registry: Registry) -> None:
    """Gives each claim a volume: one that lies ready, or a new one of its class; and lets volumes grow."""
    store = registry.store
    for volume in store.list(VOLUME):
        reference: Raw = part(volume, "spec", "claimRef")
        claim = store.get(CLAIM, reference.get("namespace", ""), reference.get("name", "")) if reference else None
        if reference and (claim is None or uid_of(claim) != reference.get("uid")):
            _release(registry, volume)
    for claim in store.list(CLAIM):
        kind = store.get(STORAGE_CLASS, "", _class_of(registry, claim))
        if claim["status"].get("phase") == "Bound":
            _grow(registry, claim, kind)
        elif not terminating(claim):
            _bind(registry, claim, kind)


def _class_of(registry: Registry, claim: Raw) -> str:
    named = claim["spec"].get("storageClassName")
    if named is not None:
        return str(named)
    classes = registry.store.list(STORAGE_CLASS)
    return next((name_of(c) for c in classes if part(c, "metadata", "annotations").get(DEFAULT_CLASS) == "true"), "")


def _bind(registry: Registry, claim: Raw, kind: Raw | None) -> None:
    store, wanted = registry.store, claim["spec"]["resources"]["requests"]["storage"]
    name = _class_of(registry, claim)
    free = (
        v for v in store.list(VOLUME) if not v["spec"].get("claimRef") and v["spec"].get("storageClassName", "") == name
    )
    volume = next((v for v in free if quantity(v["spec"]["capacity"]["storage"]) >= quantity(wanted)), None)
    if volume is None and kind is not None and kind["provisioner"] != NO_PROVISIONER:
        volume = _provision(registry, claim, kind)
    if volume is None:
        return
    reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace_of(claim)}
    reference |= {"name": name_of(claim), "uid": uid_of(claim)}
    spec = volume["spec"] | {"claimRef": reference}
    store.replace(VOLUME, volume | {"spec": spec, "status": {"phase": "Bound"}})
    bound = {
        "phase": "Bound",
        "accessModes": claim["spec"]["accessModes"],
        "capacity": dict(volume["spec"]["capacity"]),
    }
    spec = claim["spec"] | {"volumeName": name_of(volume), "storageClassName": name}
    store.replace(CLAIM, claim | {"spec": spec, "status": bound})


def _provision(registry: Registry, claim: Raw, kind: Raw) -> Raw:
    spec = {
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "accessModes": claim["spec"]["accessModes"],
        "storageClassName": name_of(kind),
        "persistentVolumeReclaimPolicy": kind["reclaimPolicy"],
        "csi": {"driver": kind["provisioner"], "volumeHandle": f"pvc-{uid_of(claim)}"},
    }
    return registry.create(VOLUME, "", {"metadata": {"name": f"pvc-{uid_of(claim)}"}, "spec": spec}, Write(CONTROLLER))


def _grow(registry: Registry, claim: Raw, kind: Raw | None) -> None:
    wanted, has = claim["spec"]["resources"]["requests"]["storage"], claim["status"]["capacity"]["storage"]
    volume = registry.store.get(VOLUME, "", claim["spec"].get("volumeName", ""))
    if quantity(wanted) <= quantity(has) or volume is None or not (kind or {}).get("allowVolumeExpansion"):
        return
    capacity = {"storage": wanted}
    registry.store.replace(VOLUME, volume | {"spec": volume["spec"] | {"capacity": capacity}})
    registry.store.replace(CLAIM, claim | {"status": claim["status"] | {"capacity": capacity}})


def _release(registry: Registry, volume: Raw) -> None:
    if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
        registry.store.remove(VOLUME, "", name_of(volume))
    elif volume["status"].get("phase") != "Released":
        registry.store.replace(VOLUME, volume | {"status": {"phase": "Released"}})


def write_endpoints(registry: Registry) -> None:
    """Writes Endpoints and one EndpointSlice for each service with a selector."""
    store = registry.store
    for service in store.list(SERVICE):
        selector = service["spec"].get("selector")
        if not selector:
            continue
        pods = [p for p in store.list(POD, namespace_of(service)) if matches({"matchLabels": selector}, labels_of(p))]
        pods = [p for p in pods if part(p, "status").get("podIP") and not terminating(p)]
        _ensure(registry, ENDPOINTS, service, name_of(service), {"subsets": _subsets(service, pods)}, {})
        labels = {"kubernetes.io/service-name": name_of(service), "endpointslice.kubernetes.io/managed-by": "lab"}
        suffix = hashlib.sha256(uid_of(service).encode()).hexdigest()[:5]
        _ensure(registry, SLICE, service, f"{name_of(service)}-{suffix}", _slice(service, pods), labels)


def _ensure(registry: Registry, kind: Kind, service: Raw, name: str, content: Raw, labels: dict[str, str]) -> None:
    namespace = namespace_of(service)
    meta: Raw = {"name": name, "labels": labels_of(service) | labels}
    old = registry.store.get(kind, namespace, name)
    if old is None:
        if terminating(service) or terminating(registry.get(NAMESPACE, "", namespace)):
            return
        meta["ownerReferences"] = [owner_reference(service)]
        registry.create(kind, namespace, {"metadata": meta, **content}, Write(CONTROLLER))
    elif any(old.get(key) != value for key, value in content.items()):
        new = {**old, **content}
        registry.update(kind, namespace, name, new, Write(CONTROLLER))


def _is_ready(service: Raw, pod: Raw) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses")) or running_and_ready(pod)


def _subsets(service: Raw, pods: list[Raw]) -> list[Raw]:
    found: dict[str, list[Raw]] = {"addresses": [], "notReadyAddresses": []}
    for pod in pods:
        address: Raw = {"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": _reference(pod)}
        if pod["spec"].get("subdomain") == name_of(service):
            address["hostname"] = pod["spec"]["hostname"]
        found["addresses" if _is_ready(service, pod) else "notReadyAddresses"].append(address)
    if not pods:
        return []
    return [{**{key: value for key, value in found.items() if value}, "ports": _ports(service)}]


def _slice(service: Raw, pods: list[Raw]) -> Raw:
    endpoints: list[Raw] = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": _is_ready(service, pod)},
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": _reference(pod),
        }
        for pod in pods
    ]
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": _ports(service)}


def _reference(pod: Raw) -> Raw:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def _ports(service: Raw) -> list[Raw]:
    return [
        {"name": port.get("name", ""), "port": port["port"], "protocol": port["protocol"]}
        for port in parts(service, "spec", "ports")
    ]
