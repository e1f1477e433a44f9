"""Events: what happened to an object, counted where it happens again (client-go/tools/record)."""

import secrets
from dataclasses import dataclass

from bot.lab.kubernetes.kinds import EVENT, NAMESPACE
from bot.lab.kubernetes.objects import Raw, name_of, namespace_of, stamp, terminating, uid_of
from bot.lab.kubernetes.registry import Registry, Write


@dataclass(frozen=True, slots=True)
class Source:
    """Who tells."""

    component: str
    host: str = ""

    def raw(self) -> Raw:
        return {"component": self.component} | ({"host": self.host} if self.host else {})


class Recorder:
    """Writes events."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def record(self, about: Raw, kind: str, reason: str, message: str, source: Source, container: str = "") -> None:
        """`kind` is `Normal` or `Warning`; `container` is the part of a pod that it is about."""
        namespace = namespace_of(about) or "default"
        place = self._registry.store.get(NAMESPACE, "", namespace)
        if place is None or terminating(place):
            return  # nothing new is told of a namespace that goes
        involved: Raw = {
            "kind": about["kind"],
            "namespace": namespace,
            "name": name_of(about),
            "uid": uid_of(about),
            "apiVersion": about["apiVersion"],
            "resourceVersion": about["metadata"].get("resourceVersion", ""),
        }
        if container:
            involved["fieldPath"] = f"spec.containers{{{container}}}"
        time = stamp(self._registry.store.clock())
        for old in self._registry.store.list(EVENT, namespace):
            if self._same(old, involved, reason, message):
                again = old | {"count": old["count"] + 1, "lastTimestamp": time}
                self._registry.update(EVENT, namespace, name_of(old), again, Write(source.component))
                return
        body: Raw = {
            "metadata": {"name": f"{name_of(about)}.{secrets.token_hex(8)}"},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": source.raw(),
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": "",
            "reportingInstance": "",
        }
        self._registry.create(EVENT, namespace, body, Write(source.component))

    @staticmethod
    def _same(old: Raw, involved: Raw, reason: str, message: str) -> bool:
        about: Raw = old["involvedObject"]
        same = all(about.get(key) == involved.get(key) for key in ("kind", "name", "uid", "fieldPath"))
        return same and (old["reason"], old["message"]) == (reason, message)
