"""The `scale` subresource of a StatefulSet: its replicas, without the rest (autoscaling/v1)."""

from typing import Final

from bot.lab.kubernetes.kinds import STATEFUL_SET, Kind
from bot.lab.kubernetes.objects import Raw, Value, part
from bot.lab.kubernetes.patches import PatchType, json_patch, merge, strategic
from bot.lab.kubernetes.refusals import Cause, Refused, invalid
from bot.lab.kubernetes.registry import Registry, Write

_SCALE: Final = Kind("Scale", "scales", "autoscaling")
_KEPT: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(raw: Raw) -> Raw:
    labels: dict[str, str] = part(raw, "spec", "selector", "matchLabels")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: raw["metadata"][key] for key in _KEPT if key in raw["metadata"]},
        "spec": {"replicas": replicas} if (replicas := raw["spec"]["replicas"]) else {},
        "status": {
            "replicas": raw["status"].get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def write_scale(
    registry: Registry, namespace: str, name: str, change: Value, write: Write, how: PatchType | None
) -> Raw:
    """Sets the replicas from a whole Scale (`how` None) or a patch of it. Raises `Refused`."""
    old = registry.get(STATEFUL_SET, namespace, name)
    scale = change
    if how is PatchType.APPLY:
        raise Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if how is not None:
        patched = {PatchType.JSON: json_patch, PatchType.MERGE: merge, PatchType.STRATEGIC: strategic}
        scale = patched[how](scale_of(old), change)
    replicas = part(scale, "spec").get("replicas", 0)
    if replicas < 0:
        cause = Cause(
            "FieldValueInvalid", f"Invalid value: {replicas}: must be greater than or equal to 0", "spec.replicas"
        )
        raise invalid(_SCALE, name, [cause])
    sent: Raw = part(scale, "metadata")
    meta = old["metadata"] | {key: sent[key] for key in ("uid", "resourceVersion") if sent.get(key)}
    new = old | {"metadata": meta, "spec": old["spec"] | {"replicas": replicas}}
    return scale_of(registry.update(STATEFUL_SET, namespace, name, new, write))
