"""Pods: how they run, how they ended, where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from bot.model.base import JsonObject, part, parts
from bot.model.kubernetes.containers import Container, Volume
from bot.model.kubernetes.objects import Object, moment, number, text

OOM_KILLED: Final = "OOMKilled"
REVISION_LABEL: Final = "controller-revision-hash"
"""Label by which a StatefulSet marks its pods (apps/v1 ControllerRevisionHashLabelKey)."""


class ContainerState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended."""

    reason: str
    """`OOMKilled`, `Error`, `Completed`, …"""
    exit_code: int
    """128 + signal where a signal ended it: 137 is SIGKILL, by the kernel (`OOMKilled`) or after the grace period."""
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def oom_killed(self) -> bool:
        return self.reason == OOM_KILLED


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What the kubelet says of a container."""

    raw: JsonObject

    @property
    def name(self) -> str:
        return text(self.raw, "name")

    @property
    def ready(self) -> bool:
        return self.raw.get("ready") is True

    @property
    def started(self) -> bool:
        """Whether its startup probe has succeeded."""
        return self.raw.get("started") is True

    @property
    def restarts(self) -> int:
        return number(self.raw, "restartCount")

    @property
    def image_id(self) -> str:
        """What really runs, by digest."""
        return text(self.raw, "imageID")

    @property
    def state(self) -> ContainerState | None:
        """None before the kubelet has said anything."""
        return next((state for state in ContainerState if state.value in part(self.raw, "state")), None)

    @property
    def running_since(self) -> datetime | None:
        return moment(part(part(self.raw, "state"), "running").get("startedAt"))

    @property
    def waiting_reason(self) -> str:
        """`CrashLoopBackOff`, `ImagePullBackOff`, `ContainerCreating`, …; empty where it does not wait."""
        return text(part(part(self.raw, "state"), "waiting"), "reason")

    @property
    def waiting_message(self) -> str:
        return text(part(part(self.raw, "state"), "waiting"), "message")

    @property
    def termination(self) -> Termination | None:
        """How it ended, while it is not running again."""
        return _termination(part(part(self.raw, "state"), "terminated"))

    @property
    def last_termination(self) -> Termination | None:
        """How its previous run ended; None where it has not been restarted."""
        return _termination(part(part(self.raw, "lastState"), "terminated"))


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a pod, a node, a claim."""

    type: str
    holds: bool | None
    """None where its state is `Unknown`."""
    reason: str
    message: str
    since: datetime | None


def conditions(status: JsonObject) -> Mapping[str, Condition]:
    """Return the conditions of a status by type."""
    return {
        text(raw, "type"): Condition(
            text(raw, "type"),
            {"True": True, "False": False}.get(text(raw, "status")),
            text(raw, "reason"),
            text(raw, "message"),
            moment(raw.get("lastTransitionTime")),
        )
        for raw in parts(status, "conditions")
    }


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What a pod is made of; the same in a pod and in a template."""

    raw: JsonObject

    @property
    def containers(self) -> tuple[Container, ...]:
        """Without init containers."""
        return tuple(Container(raw) for raw in parts(self.raw, "containers"))

    @property
    def init_containers(self) -> tuple[Container, ...]:
        return tuple(Container(raw) for raw in parts(self.raw, "initContainers"))

    def container(self, name: str) -> Container | None:
        return next((container for container in self.containers if container.name == name), None)

    @property
    def volumes(self) -> Mapping[str, Volume]:
        return {text(raw, "name"): Volume(raw) for raw in parts(self.raw, "volumes")}

    @property
    def grace_seconds(self) -> int:
        """Seconds from SIGTERM to SIGKILL."""
        return number(self.raw, "terminationGracePeriodSeconds", 30)

    @property
    def service_account(self) -> str:
        return text(self.raw, "serviceAccountName") or "default"


@dataclass(frozen=True, slots=True)
class Pod(Object):
    """A pod of a StatefulSet."""

    @property
    def pod_spec(self) -> PodSpec:
        return PodSpec(self.spec)

    @property
    def ordinal(self) -> int | None:
        """The number at the end of its name."""
        last = self.name.rpartition("-")[2]
        return int(last) if last.isascii() and last.isdigit() else None

    @property
    def phase(self) -> str:
        """`Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`."""
        return text(self.status, "phase")

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return conditions(self.status)

    @property
    def ready(self) -> bool:
        condition = self.conditions.get("Ready")
        return condition is not None and condition.holds is True

    @property
    def revision(self) -> str:
        """Name of the ControllerRevision whose template it was made of."""
        return self.labels.get(REVISION_LABEL, "")

    @property
    def node_name(self) -> str:
        """Empty while it is not scheduled."""
        return text(self.spec, "nodeName")

    @property
    def ip(self) -> str:
        return text(self.status, "podIP")

    @property
    def qos(self) -> str:
        """`Guaranteed`, `Burstable` or `BestEffort`: the order in which a node under memory pressure evicts, last to first."""
        return text(self.status, "qosClass")

    @property
    def started_at(self) -> datetime | None:
        return moment(self.status.get("startTime"))

    @property
    def reason(self) -> str:
        """Why the whole pod is in its phase, e.g. `Evicted`."""
        return text(self.status, "reason")

    @property
    def statuses(self) -> Mapping[str, ContainerStatus]:
        """The kubelet's word on each container, by name; empty before it has said anything."""
        return {text(raw, "name"): ContainerStatus(raw) for raw in parts(self.status, "containerStatuses")}

    @property
    def restarts(self) -> int:
        """Of all its containers."""
        return sum(status.restarts for status in self.statuses.values())


def _termination(raw: JsonObject) -> Termination | None:
    if not raw:
        return None
    started, finished = moment(raw.get("startedAt")), moment(raw.get("finishedAt"))
    return Termination(text(raw, "reason"), number(raw, "exitCode"), started, finished)
