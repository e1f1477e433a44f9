"""What the guides of the Kubernetes side share: the StatefulSet that commands are for, who would revert a change of it, and one way to write guidance. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.model import Finding, JsonObject, Snapshot, canonical_json
from bot.model.kubernetes import Workload
from bot.runbook import Draft
from runbooks._audit_views import few

AGAIN = "Then diagnose again: natsmedic diagnose --runbook DEPLOYMENT"
HEALTHY = (
    "Before each pod that goes, every server and every stream with replicas must be current: nats server report health"
)
ROLLS = "It changes the pod template, so all pods are restarted one by one; Kubernetes waits for Ready only, which does not know Raft."

MONITOR = "monitor"
"""Name of the monitoring port in the official chart (reference/nats.md 4.1)."""

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

    @property
    def port(self) -> int | str:
        """The monitoring port, as one of the present probes names it."""
        nats = self.workload.nats if self.workload else None
        probes = (nats.liveness, nats.readiness, nats.startup) if nats else ()
        return next((probe.port for probe in probes if probe and probe.path and probe.port), MONITOR)

    def owner(self) -> tuple[str, ...]:
        """Return who would revert a change of the live object, and where it is made instead."""
        owners = self.workload.owners if self.workload else ()
        if not owners:
            return ()
        named = few([f"{owner.kind.value} {owner.name}" for owner in owners])
        return (
            f"The StatefulSet belongs to {named}: make the change there, for a change of the live object is reverted.",
        )

    def patch(self, container: JsonObject) -> str:
        """Return the command that tries a change of one container of the template and applies nothing."""
        body = canonical_json({"spec": {"template": {"spec": {"containers": [container]}}}})
        return f"kubectl patch {self.object} {self.where} --type strategic -p {shlex.quote(body)} --dry-run=server"

    def change(self, found: Sequence[Finding], title: str, *lines: str, cautions: Sequence[str] = ()) -> Draft:
        """Return guidance for a change of the StatefulSet or of what belongs to it: first who owns it, at last to diagnose again."""
        return look_into(found, title, *self.owner(), *lines, AGAIN, cautions=cautions)

    def roll(self, found: Sequence[Finding], title: str, *lines: str, cautions: Sequence[str] = ()) -> Draft:
        """Return guidance for a change of the pod template, which restarts all pods."""
        return self.change(found, title, *lines, HEALTHY, cautions=(ROLLS, *cautions))


Guide = Callable[[Target, Sequence[Finding]], Draft]
"""What people do about findings of one problem."""


def look_into(found: Sequence[Finding], title: str, *lines: str, cautions: Sequence[str] = ()) -> Draft:
    """Return guidance whose reason is the worst of these findings, which comes first."""
    return Draft(title=title, why=found[0].sentence, guidance=lines, cautions=tuple(cautions))


def target_of(snapshot: Snapshot) -> Target | None:
    """Return the StatefulSet of the snapshot; None where Kubernetes was not read."""
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
