"""What the guides of the Kubernetes side share: the StatefulSet that commands are for, and who would revert a change of it. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from bot.model import JsonObject, Snapshot, canonical_json
from bot.model.kubernetes import Workload
from runbooks._audit_views import few

AGAIN = "Then diagnose again: natsmedic diagnose --runbook DEPLOYMENT"
HEALTHY = (
    "Before each pod that goes, every server and every stream with replicas must be current: nats server report health"
)
ROLLS = "It changes the pod template, so all pods are restarted one by one; Kubernetes waits for Ready only, which does not know Raft."

_PLAIN = re.compile(r"[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Target:
    """The StatefulSet that commands are for; placeholders where there is not exactly one."""

    namespace: str
    name: str
    workload: Workload | None

    @property
    def where(self) -> str:
        return f"-n {shlex.quote(self.namespace)}"

    @property
    def object(self) -> str:
        return f"statefulset/{self.name}" if self.workload is None else shlex.quote(f"statefulset/{self.name}")

    @property
    def container(self) -> str:
        return self.workload.nats.name if self.workload else "nats"

    def owner(self) -> list[str]:
        """Return who would revert a change of the live object, and where it is made instead."""
        owners = self.workload.owners if self.workload else ()
        if not owners:
            return []
        named = few([f"{owner.kind.value} {owner.name}" for owner in owners])
        return [
            f"The StatefulSet belongs to {named}: make the change there, for a change of the live object is reverted."
        ]

    def patch(self, container: JsonObject) -> str:
        """Return the command that tries a change of one container of the template and applies nothing."""
        body = canonical_json({"spec": {"template": {"spec": {"containers": [container]}}}})
        return f"kubectl patch {self.object} {self.where} --type strategic -p {shlex.quote(body)} --dry-run=server"


def target_of(snapshot: Snapshot) -> Target | None:
    facts = snapshot.kubernetes
    if facts is None:
        return None
    found = facts.workload
    if isinstance(found, Workload):
        return Target(facts.namespace, found.name, found)
    return Target(facts.namespace, "<statefulset>", None)


def plain(name: str) -> str:
    """Return a name where it is safe to copy into a configuration file, a placeholder otherwise: it comes from the cluster."""
    return name if _PLAIN.fullmatch(name) else "<pod>.<service>"
