"""The StatefulSet controller: one pass of pkg/controller/statefulset/stateful_set_control.go of Kubernetes 1.20.

The forced-rollback rule follows from it: under OrderedReady a broken pod is waited for before any pod is looked at for its revision, so a pod that
never becomes ready is not replaced by going back to the old template; somebody has to delete it.
"""

import copy
import time
from dataclasses import dataclass, field
from typing import Final

from bot.lab.kubernetes.events import Recorder, Source
from bot.lab.kubernetes.kinds import CLAIM, POD, STATEFUL_SET
from bot.lab.kubernetes.objects import (
    Raw,
    labels_of,
    name_of,
    namespace_of,
    part,
    parts,
    running_and_ready,
    terminating,
)
from bot.lab.kubernetes.refusals import Refused
from bot.lab.kubernetes.registry import Deletion, Registry, Write
from bot.lab.kubernetes.revisions import (
    CONTROLLER,
    REVISION_LABEL,
    Revisions,
    adopt,
    owner_reference,
    revisions_of,
)

POD_NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
_SOURCE: Final = Source("statefulset-controller")
FIRST_RETRY: Final = 0.1
LONGEST_RETRY: Final = 10.0
"""Seconds until a refused write is tried again, doubling; a real controller goes from 0.005 to 1,000."""


@dataclass(slots=True)
class _Counts:
    """What a pass counts for the status."""

    replicas: int = 0
    ready: int = 0
    by_revision: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, revision: str, change: int = 1) -> None:
        self.by_revision[revision] = self.by_revision.get(revision, 0) + change


class StatefulSets:
    """Brings the pods of StatefulSets to what their specs say, one small stage at a time."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._refused: dict[str, tuple[float, float]] = {}
        """By uid: when a workload that was refused something is looked at again, and how long it waited."""

    def sync(self) -> None:
        """One pass over all of them."""
        for workload in self._registry.store.list(STATEFUL_SET):
            uid, now = workload["metadata"]["uid"], time.monotonic()
            again_at, waited = self._refused.get(uid, (now, 0.0))
            if now < again_at:
                continue
            try:
                fine = _Pass(self._registry, self._recorder, workload).run()
            except Refused:
                fine = False  # something of its predecessor is not cleared away yet
            if fine:
                self._refused.pop(uid, None)
            else:
                wait = min(max(2 * waited, FIRST_RETRY), LONGEST_RETRY)
                self._refused[uid] = now + wait, wait


class _Pass:
    """One pass over one StatefulSet."""

    def __init__(self, registry: Registry, recorder: Recorder, workload: Raw) -> None:
        self._registry = registry
        self._recorder = recorder
        self._workload = workload
        self._spec: Raw = workload["spec"]
        self._counts = _Counts()
        self._ordered = self._spec["podManagementPolicy"] == "OrderedReady"
        self._revisions: Revisions = revisions_of(registry, workload)
        self._refused = False

    def run(self) -> bool:
        """Tells whether every write was accepted."""
        pods = adopt(self._registry, POD, self._workload)
        by_ordinal = {self._ordinal(pod): pod for pod in pods}
        replicas = [by_ordinal.get(ordinal) for ordinal in range(self._spec["replicas"])]
        condemned = [by_ordinal[ordinal] for ordinal in sorted(by_ordinal) if ordinal >= self._spec["replicas"]]
        for pod in pods:
            self._count(pod)
        if not terminating(self._workload) and self._fill(replicas) and self._shrink(replicas, condemned):
            self._roll(replicas)
        self._report()
        return not self._refused

    def _ordinal(self, pod: Raw) -> int:
        return int(name_of(pod).rpartition("-")[2])

    def _count(self, pod: Raw) -> None:
        self._counts.replicas += 1
        self._counts.ready += running_and_ready(pod)
        if not terminating(pod):
            self._counts.add(_revision(pod))

    def _fill(self, replicas: list[Raw | None]) -> bool:
        """Creates what is missing. Tells whether there is nothing to wait for."""
        for ordinal, pod in enumerate(replicas):
            if pod is not None and part(pod, "status").get("phase") in ("Failed", "Succeeded"):
                self._delete(pod)
                return False
            if pod is None:
                created = self._create(ordinal)
                replicas[ordinal] = created
                if self._ordered or created is None:
                    return False
            elif self._ordered and (terminating(pod) or not running_and_ready(pod)):
                return False
        return True

    def _shrink(self, replicas: list[Raw | None], condemned: list[Raw]) -> bool:
        """Takes away what is too much, the highest first. Tells whether there is nothing to wait for."""
        sick = [pod for pod in (*replicas, *condemned) if pod is not None and not _healthy(pod)]
        first_sick = min(sick, key=self._ordinal, default=None)
        for pod in reversed(condemned):
            if terminating(pod):
                if self._ordered:
                    return False
                continue
            if self._ordered and not running_and_ready(pod) and pod is not first_sick:
                return False
            self._delete(pod)
            if self._ordered:
                return False
        return True

    def _roll(self, replicas: list[Raw | None]) -> None:
        """Ends the highest pod of another revision, once those above it are healthy."""
        if self._spec["updateStrategy"]["type"] == "OnDelete":
            return
        for pod in reversed(replicas[self._partition :]):
            if pod is None:
                return
            if _revision(pod) != name_of(self._revisions.update) and not terminating(pod):
                self._delete(pod)
                return
            if not _healthy(pod):
                return

    @property
    def _partition(self) -> int:
        return part(self._spec["updateStrategy"], "rollingUpdate").get("partition") or 0

    def _create(self, ordinal: int) -> Raw | None:
        """Makes a pod and the claims that it needs; None where the API server refuses it."""
        rolling = self._spec["updateStrategy"]["type"] == "RollingUpdate"
        old = rolling and ordinal < self._partition
        revision = self._revisions.current if old else self._revisions.update
        raw = self._pod(ordinal, revision)
        namespace, workload = namespace_of(self._workload), name_of(self._workload)
        try:
            for claim in self._claims(ordinal):
                if self._registry.store.get(CLAIM, namespace, name_of(claim)) is None:
                    self._registry.create(CLAIM, namespace, claim, Write(CONTROLLER))
                    words = f"create Claim {name_of(claim)} Pod {name_of(raw)} in StatefulSet {workload} success"
                    self._tell("Normal", "SuccessfulCreate", words)
            created = self._registry.create(POD, namespace, raw, Write(CONTROLLER))
        except Refused as refused:
            words = f"create Pod {name_of(raw)} in StatefulSet {workload} failed error: {refused.message}"
            self._tell("Warning", "FailedCreate", words)
            self._refused = True
            return None
        self._tell("Normal", "SuccessfulCreate", f"create Pod {name_of(raw)} in StatefulSet {workload} successful")
        self._counts.replicas += 1
        self._counts.add(_revision(created))
        return created

    def _pod(self, ordinal: int, revision: Raw) -> Raw:
        template = copy.deepcopy(revision["data"]["spec"]["template"])
        name = f"{name_of(self._workload)}-{ordinal}"
        labels = part(template, "metadata", "labels") | {REVISION_LABEL: name_of(revision), POD_NAME_LABEL: name}
        meta = {"name": name, "generateName": f"{name_of(self._workload)}-", "labels": labels}
        if annotations := template["metadata"].get("annotations"):
            meta["annotations"] = annotations
        spec: Raw = template["spec"] | {"hostname": name, "subdomain": self._spec.get("serviceName") or ""}
        claimed = {claim["metadata"]["name"] for claim in parts(self._spec, "volumeClaimTemplates")}
        volumes = [volume for volume in parts(spec, "volumes") if volume["name"] not in claimed]
        volumes += [{"name": c, "persistentVolumeClaim": {"claimName": f"{c}-{name}"}} for c in sorted(claimed)]
        if volumes:
            spec["volumes"] = volumes
        return {"metadata": meta | {"ownerReferences": [owner_reference(self._workload)]}, "spec": spec}

    def _claims(self, ordinal: int) -> list[Raw]:
        labels = part(self._spec["selector"], "matchLabels")
        made: list[Raw] = []
        for template in parts(self._spec, "volumeClaimTemplates"):
            name = f"{template['metadata']['name']}-{name_of(self._workload)}-{ordinal}"
            meta = template["metadata"] | {"name": name, "labels": part(template, "metadata", "labels") | labels}
            made.append({"metadata": meta, "spec": copy.deepcopy(template["spec"])})
        return made

    def _delete(self, pod: Raw) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        self._registry.delete(POD, namespace, name, Deletion({"uid": pod["metadata"]["uid"]}))
        self._tell(
            "Normal", "SuccessfulDelete", f"delete Pod {name} in StatefulSet {name_of(self._workload)} successful"
        )
        self._counts.add(_revision(pod), -1)

    def _report(self) -> None:
        counts, current, update = self._counts, name_of(self._revisions.current), name_of(self._revisions.update)
        updated = max(counts.by_revision.get(update, 0), 0)
        status: Raw = {
            "observedGeneration": self._workload["metadata"]["generation"],
            "replicas": counts.replicas,
            "readyReplicas": counts.ready,
            "currentReplicas": max(counts.by_revision.get(current, 0), 0),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": update,
            "collisionCount": 0,
        }
        rolling = self._spec["updateStrategy"]["type"] == "RollingUpdate"
        if rolling and updated == counts.replicas == counts.ready:
            status |= {"currentRevision": update, "currentReplicas": updated}
        # Go leaves out zeros.
        kept = {k: v for k, v in status.items() if v or k in ("replicas", "collisionCount")}
        self._registry.write_status(STATEFUL_SET, self._workload, kept, CONTROLLER)

    def _tell(self, kind: str, reason: str, message: str) -> None:
        self._recorder.record(self._workload, kind, reason, message, _SOURCE)


def _revision(pod: Raw) -> str:
    return labels_of(pod).get(REVISION_LABEL, "")


def _healthy(pod: Raw) -> bool:
    return running_and_ready(pod) and not terminating(pod)
