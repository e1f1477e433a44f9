"""The history of a StatefulSet's pod template: ControllerRevisions (pkg/controller/history, pkg/controller/statefulset)."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from bot.lab.kubernetes.kinds import POD, REVISION, Kind
from bot.lab.kubernetes.objects import (
    Raw,
    Value,
    controller_of,
    labels_of,
    matches,
    name_of,
    namespace_of,
    part,
    parts,
    terminating,
    uid_of,
)
from bot.lab.kubernetes.registry import Registry, Write

CONTROLLER: Final = "kube-controller-manager"
HASH_LABEL: Final = "controller.kubernetes.io/hash"
REVISION_LABEL: Final = "controller-revision-hash"
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Letters that form no words (apimachinery `rand.SafeEncodeString`)."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """The template that pods have, and the one that they are to get."""

    current: Raw
    update: Raw


def owner_reference(raw: Raw) -> Raw:
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "name": name_of(raw),
        "uid": uid_of(raw),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(raw: Raw, owner: Raw) -> bool:
    reference = controller_of(raw)
    return reference is not None and reference["uid"] == uid_of(owner)


def adopt(registry: Registry, kind: Kind, workload: Raw) -> list[Raw]:
    """The objects of a kind that belong to a workload. One that nobody owns and its selector selects becomes its own (controller_ref_manager.go)."""
    found: list[Raw] = []
    for raw in registry.store.list(kind, namespace_of(workload)):
        if owned_by(raw, workload):
            found.append(raw)
        elif controller_of(raw) is None and not terminating(raw) and _selected(kind, raw, workload):
            references = [*(parts(raw, "metadata", "ownerReferences")), owner_reference(workload)]
            meta = raw["metadata"] | {"ownerReferences": references}
            found.append(registry.store.replace(kind, raw | {"metadata": meta}))
    return found


def _selected(kind: Kind, raw: Raw, workload: Raw) -> bool:
    named = kind is not POD or re.fullmatch(rf"{re.escape(name_of(workload))}-\d+", name_of(raw)) is not None
    return named and not terminating(workload) and matches(workload["spec"]["selector"], labels_of(raw))


def revisions_of(registry: Registry, workload: Raw) -> Revisions:
    """Finds or makes the revision of the present template. A template that was there before keeps its revision, with a new number."""
    namespace = namespace_of(workload)
    found = sorted(adopt(registry, REVISION, workload), key=lambda raw: raw["revision"])
    data = {"spec": {"template": {**workload["spec"]["template"], "$patch": "replace"}}}
    number = found[-1]["revision"] + 1 if found else 1
    update = next((raw for raw in reversed(found) if raw["data"] == data), None)
    if update is None:
        update = registry.create(REVISION, namespace, _new(workload, data, number), Write(CONTROLLER))
    elif update is not found[-1]:
        update = registry.update(REVISION, namespace, name_of(update), update | {"revision": number}, Write(CONTROLLER))
    named = part(workload, "status").get("currentRevision")
    current = next((raw for raw in found if name_of(raw) == named), update)
    if name_of(current) == name_of(update):
        current = update
    _forget(registry, workload, found, {name_of(current), name_of(update)})
    return Revisions(current, update)


def _new(workload: Raw, data: Value, number: int) -> Raw:
    labels = part(workload, "spec", "template", "metadata", "labels")
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()
    code = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])
    return {
        "metadata": {
            "name": f"{name_of(workload)}-{code}",
            "labels": labels | {HASH_LABEL: code},
            "ownerReferences": [owner_reference(workload)],
        },
        "data": data,
        "revision": number,
    }


def _forget(registry: Registry, workload: Raw, found: list[Raw], live: set[str]) -> None:
    """Keeps `revisionHistoryLimit` revisions that nobody uses."""
    pods = [pod for pod in registry.store.list(POD, namespace_of(workload)) if owned_by(pod, workload)]
    live |= {labels_of(pod).get(REVISION_LABEL, "") for pod in pods}
    unused = [raw for raw in found if name_of(raw) not in live]
    for raw in unused[: max(len(unused) - workload["spec"]["revisionHistoryLimit"], 0)]:
        registry.store.remove(REVISION, namespace_of(raw), name_of(raw))
