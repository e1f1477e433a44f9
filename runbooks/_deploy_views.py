"""What the checks of the Kubernetes side share: one look at a StatefulSet, with the objects that could not be read noted by name. Pure.

Facts of the charts and their defaults: reference/nats.md 1.A, 1.B and 4. A pod and the server in it are told to be the same by `server_name` of
nats.conf, which both charts take from the pod's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar, cast

from bot.model import (
    Endpoint,
    Finding,
    Json,
    JsonObject,
    KubernetesFacts,
    Severity,
    Snapshot,
    Subject,
    Unknown,
    part,
)
from bot.model.groups import latest
from bot.model.kubernetes import Container, ContainerState, Object, Pod, Workload
from bot.model.nats_conf import NatsConf
from bot.runbook import Check, Examine
from runbooks._audit_versions import Version, version_of
from runbooks._audit_views import Audit, few, known

T = TypeVar("T")

MOST_SAID = 200
"""Characters of a message of Kubernetes that one sentence repeats; the evidence has the whole of it."""


@dataclass(frozen=True, slots=True)
class Topic(Audit):
    """One check of the Kubernetes side."""

    def of_kubernetes(self, healthy: str, needs: frozenset[Endpoint], examine: Examine) -> Check:
        """Return the record for the runbooks. `needs` are the endpoints that it looks at beside Kubernetes; what of them is missing it says itself."""
        return replace(self.check(healthy, needs, examine), of_kubernetes=True)

    def judge(self, snapshot: Snapshot, judge: Callable[[Look], None], healthy: str) -> list[Finding]:
        """Return what `judge` finds in each StatefulSet, and one UNKNOWN for what could not be read; else one that says what was seen to be right."""
        facts = snapshot.kubernetes
        if facts is None:
            return []
        looks = [Look(self, snapshot, facts, workload) for workload in _workloads(facts)]
        for look in looks:
            judge(look)
        found = [f for look in looks for f in look.found]
        missing = [c for look in looks for c in look.complaints] if looks else [_nobody(facts)]
        return self.told(snapshot, found, missing, " ".join([healthy, *(r for look in looks for r in look.remarks)]))


@dataclass(slots=True)
class Look:
    """One check's look at one StatefulSet: what it finds, and what it could not read."""

    topic: Topic
    snapshot: Snapshot
    facts: KubernetesFacts
    workload: Workload
    found: list[Finding] = field(default_factory=list[Finding])
    complaints: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    """What people should know although nothing is wrong: sentences that follow the healthy one."""

    # What is found.

    def tell(
        self,
        severity: Severity,
        sentence: str,
        evidence: JsonObject,
        pod: Pod | None = None,
        *,
        cause: bool = False,
        issue: str | None = None,
    ) -> None:
        """Note a finding about the StatefulSet, or about one of its pods."""
        server = (self.server_of(pod) or pod.name) if pod else None
        where = Subject(cluster=self.snapshot.cluster, server=server)
        seen = evidence | ({"pod": pod.name} if pod else {})
        self.found.append(self.topic.finding(where, severity, sentence, seen, cause=cause, issue=issue))

    def warn(self, sentence: str, evidence: JsonObject, pod: Pod | None = None, *, issue: str | None = None) -> None:
        """Note what does not break now."""
        self.tell(Severity.WARNING, sentence, evidence, pod, issue=issue)

    def known(self, value: T | Unknown) -> T | None:
        """Return a fact; None, and a complaint, where it could not be read."""
        if isinstance(value, Unknown):
            self.complain(value.detail)
            return None
        return value

    def complain(self, what: str) -> None:
        """Note that a fact is missing."""
        self.complaints.append(what.rstrip(". "))

    # What is seen.

    @property
    def now(self) -> datetime:
        return self.facts.taken_at

    @property
    def name(self) -> str:
        return self.workload.name

    @property
    def nats(self) -> Container:
        return self.workload.nats

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the pods that there must be. `spec.ordinals.start` counts from another number than 0 (Kubernetes 1.26)."""
        start: Json = part(self.workload.spec, "ordinals").get("start")
        first = start if isinstance(start, int) else 0
        return tuple(f"{self.name}-{first + number}" for number in range(min(self.workload.replicas, MOST_PODS)))

    def pods(self) -> tuple[Pod, ...]:
        """Return the pods; none, and a complaint, where they could not be read."""
        return self.known(self.workload.pods) or ()

    def conf(self) -> NatsConf | None:
        """Return nats.conf; None, and a complaint, where it could not be read."""
        return self.known(self.workload.conf)

    def server_of(self, pod: Pod) -> str | None:
        """Return the name of the server in a pod; None where no server of such a name is known."""
        return self.snapshot.once(f"server of pod {self.workload.uid} {pod.name}", lambda: self._server_of(pod))

    def _server_of(self, pod: Pod) -> str | None:
        conf = self.workload.conf_of(pod)
        own = None if isinstance(conf, Unknown) else conf.server_name
        names = known(self.snapshot)
        return next((name for name in (own, pod.name) if isinstance(name, str) and name in names), None)

    def answer(self, pod: Pod, endpoint: Endpoint) -> JsonObject | None:
        """Return what the server in the pod last answered; None where it did not."""
        server = self.server_of(pod)
        return latest(self.snapshot, server, endpoint) if server else None

    def answers(self, endpoint: Endpoint) -> Mapping[str, JsonObject]:
        """Return what the servers in the pods last answered, by pod name. Pods that can't be read have none."""
        pods = self.workload.pods
        seen = () if isinstance(pods, Unknown) else pods
        return {pod.name: found for pod in seen if (found := self.answer(pod, endpoint)) is not None}

    def all_told(self) -> bool:
        """Tell whether every server said what JetStream holds on it."""
        return len(self.answers(Endpoint.JSZ)) >= self.workload.replicas

    def miss(self, what: str, told: Mapping[str, JsonObject]) -> None:
        """Complain of every pod whose server runs and is not among those that `told`; of all where none did."""
        silent = [pod.name for pod in self.pods() if pod.name not in told and (self.runs(pod) or not told)]
        if silent:
            self.complain(f"{what} of {few(silent)}")

    def runs(self, pod: Pod) -> bool:
        """Tell whether the container of the server is up."""
        status = pod.statuses.get(self.nats.name)
        return status is not None and status.state is ContainerState.RUNNING

    def version(self) -> Version | None:
        """Return the oldest version that runs, the image's where no server tells."""
        running = [version_of(str(varz.get("version", ""))) for varz in self.answers(Endpoint.VARZ).values()]
        return min((v for v in running if v), default=version_of(self.nats.image.tag))

    def age(self, since: datetime | None) -> float | None:
        """Return the seconds since a moment."""
        return None if since is None else (self.now - since).total_seconds()

    def seen(self, found: Object, place: str, value: Json, expected: Json = None) -> JsonObject:
        """Return the evidence of one field: which object, which field of it, what stands there and what should."""
        kind = found.kind or type(found).__name__
        where = f"{kind} {self.facts.namespace}/{found.name}"
        evidence: JsonObject = {"object": where, "field": place, "value": shown(value)}
        return evidence | ({} if expected is None else {"expected": expected})

    def in_container(self, place: str, value: Json, expected: Json = None) -> JsonObject:
        """Return the evidence of one field of the NATS container in the template."""
        path = f"spec.template.spec.containers[name={self.nats.name}].{place}"
        return {**self.seen(self.workload, path, value, expected), "container": self.nats.name}

    def in_conf(self, place: str, value: Json, expected: Json = None) -> JsonObject:
        """Return the evidence of one setting of nats.conf, with the object that holds it."""
        file = self.workload.config_file
        where = "nats.conf" if isinstance(file, Unknown) else f"{file.kind} {self.facts.namespace}/{file.name}"
        evidence: JsonObject = {"object": where, "field": f"nats.conf {place}".strip(), "value": shown(value)}
        return evidence | ({} if expected is None else {"expected": expected})


MOST_PODS = 1_000
"""No NATS cluster has more; a spec that asks for a billion must not make as many names."""


def shown(value: Json, levels: int = 4) -> Json:
    """Return a value as evidence shows it: no deeper than a few levels, and as JSON, which has no infinite numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict | list) and not levels:
        return "…"
    if isinstance(value, dict):
        fields = cast("JsonObject", value)
        return {key: shown(inner, levels - 1) for key, inner in fields.items()}
    if isinstance(value, list):
        return [shown(inner, levels - 1) for inner in cast("list[Json]", value)]
    return value


def said(text: str) -> str:
    """Return a message of Kubernetes on one line, cut where it is long."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]}…"


def counted(count: int, what: str) -> str:
    """Return `1 pod` or `n pods`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def lasting(seconds: float) -> str:
    """Return a time span in the unit that people read it in."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _workloads(facts: KubernetesFacts) -> tuple[Workload, ...]:
    found = facts.workloads
    return () if isinstance(found, Unknown) else found


def _nobody(facts: KubernetesFacts) -> str:
    found = facts.workloads
    if isinstance(found, Unknown):
        return found.detail.rstrip(". ")
    return f"namespace {facts.namespace} has no StatefulSet that runs NATS: name it in kubernetes.statefulset"
