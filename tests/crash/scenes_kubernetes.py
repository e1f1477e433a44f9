"""Scenes of the actions that change what NATS runs on, and of those that need it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.action import Composed
from bot.actions.kubernetes_budget import DisruptionBudget, compose_budget
from bot.actions.kubernetes_grow_volume import GrowVolume
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.kubernetes_restart_pod import RestartPod
from bot.actions.kubernetes_roll_pod import RollPod
from bot.actions.rollout import compose_image, compose_probe, compose_resources, compose_restart, compose_spread
from bot.actions.volumes import compose_growth
from bot.model import Snapshot
from bot.model.kubernetes import Workload
from bot.model.probes import ENABLED_ONLY, ProbeKind
from tests.crash.kubernetes_lab import KubernetesLab
from tests.crash.scene import Lab, Scene, Situation, Where
from tests.integration.kubernetes_support import Raw

STATEFUL_SET = "PATCH statefulsets/nats"
LAST = "nats-2"
"""The pod that Kubernetes and natsmedic begin with."""

WAYS_BACK = ((STATEFUL_SET, STATEFUL_SET), (STATEFUL_SET, f"DELETE pods/{LAST}", STATEFUL_SET))
"""The former template, held; a pod of the new one replaced; and the strategy that stood before."""

Compose = Callable[[Snapshot, Workload], Composed]


def _probe(snapshot: Snapshot, workload: Workload) -> Composed:
    return compose_probe(snapshot, workload, ProbeKind.READINESS, ProbeChange(path=ENABLED_ONLY))


@dataclass(frozen=True)
class TemplateEdit:
    """The template of the StatefulSet is edited, and held back from its pods; with `rolled`, one pod gets it too."""

    name: str
    kinds: Sequence[str]
    compose: Compose
    where: Where = Where.KUBERNETES
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        del number
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        before = lab.object("StatefulSet")
        stages = self.compose(*await lab.look()).stages[: len(self.kinds)]
        since = len(lab.kube.writes)

        async def problem() -> str:
            after = lab.object("StatefulSet")
            if after["spec"]["template"] == before["spec"]["template"]:
                return "the template is as it was"
            if len(self.kinds) == 1:
                return ""
            wanted = lab.object("StatefulSet")["status"]["updateRevision"]
            labels = lab.object("Pod", LAST)["metadata"]["labels"]
            return "" if labels["controller-revision-hash"] == wanted else f"{LAST} runs the former revision"

        async def untouched() -> str:
            return "" if lab.object("StatefulSet")["spec"] == before["spec"] else "the StatefulSet differs from before"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=stages,
                    expected=[[STATEFUL_SET] for _ in stages],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lab.lose,
                    back=[list(one) for one in WAYS_BACK[: len(stages)]],
                    needless=frozenset({f"DELETE pods/{LAST}"}),
                )
            finally:
                lab.kube.faults.clear()
                await lab.put("StatefulSet", before)


@dataclass(frozen=True)
class Restart:
    """One pod is started anew."""

    name: str = "restart a pod"
    kinds: Sequence[str] = (RestartPod.kind,)
    where: Where = Where.KUBERNETES
    share: int = 2

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        del number
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        snapshot, workload = await lab.look()
        assert isinstance(workload.pods, tuple)
        pod = next(one for one in workload.pods if one.name == LAST)
        since = len(lab.kube.writes)

        async def same() -> bool:
            return bool(lab.object("Pod", LAST)["metadata"]["uid"] == pod.uid)

        async def problem() -> str:
            return f"{LAST} is the pod that it was" if await same() else ""

        async def untouched() -> str:
            return "" if await same() else f"{LAST} is another pod"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=compose_restart(snapshot, workload, pod).stages,
                    expected=[[f"DELETE pods/{LAST}"]],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lab.lose,
                )
            finally:
                lab.kube.faults.clear()


@dataclass(frozen=True)
class Budget:
    """The pods get a disruption budget."""

    name: str = "give the pods a budget"
    kinds: Sequence[str] = (DisruptionBudget.kind,)
    where: Where = Where.KUBERNETES
    share: int = 2

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        del number
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        path = f"/apis/policy/v1/namespaces/{lab.kube.namespace}/poddisruptionbudgets/nats"
        await lab.delete(path)
        since = len(lab.kube.writes)

        def there() -> Raw | None:
            return lab.kube.get("PodDisruptionBudget", "nats", api_version="policy/v1")

        async def problem() -> str:
            found = there()
            return "" if found and found["spec"].get("maxUnavailable") == 1 else f"the budget is {found}"

        async def untouched() -> str:
            return "" if there() is None else "there is a budget"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=compose_budget(*await lab.look()).stages,
                    expected=[["POST poddisruptionbudgets"]],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lab.lose,
                    back=[["DELETE poddisruptionbudgets/nats"]],
                )
            finally:
                lab.kube.faults.clear()
                if there() is None:
                    lab.kube.apply(raw for raw in lab.manifest.manifests() if raw["kind"] == "PodDisruptionBudget")


@dataclass(frozen=True)
class Growth:
    """A claim is made larger, each time by as much again: no volume can be made smaller."""

    name: str = "grow a volume"
    kinds: Sequence[str] = (GrowVolume.kind,)
    where: Where = Where.KUBERNETES
    share: int = 2

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        stages = compose_growth(*await lab.look(), f"{number + 1}Gi").stages[:1]
        claim = str(stages[0][1]["claim"])
        since = len(lab.kube.writes)

        def requested() -> str:
            return str(lab.object("PersistentVolumeClaim", claim)["spec"]["resources"]["requests"]["storage"])

        before = requested()

        async def problem() -> str:
            return "" if requested() == f"{number + 1}Gi" else f"{claim} requests {requested()}"

        async def untouched() -> str:
            return "" if requested() == before else f"{claim} requests {requested()}, before {before}"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=stages,
                    expected=[[f"PATCH persistentvolumeclaims/{claim}"]],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lab.lose,
                )
            finally:
                lab.kube.faults.clear()


SCENES: Sequence[Scene] = (
    TemplateEdit("change a probe and roll a pod", ("kubernetes.probe", RollPod.kind), _probe),
    TemplateEdit(
        "change the image",
        ("kubernetes.image",),
        lambda snapshot, workload: compose_image(snapshot, workload, "nats:2.11.2", "2.11.2"),
    ),
    TemplateEdit(
        "change resources",
        ("kubernetes.resources",),
        lambda snapshot, workload: compose_resources(snapshot, workload, {"memory_limit": "2Gi"}),
    ),
    TemplateEdit(
        "keep pods apart",
        ("kubernetes.spread",),
        lambda snapshot, workload: compose_spread(snapshot, workload, {"means": "anti-affinity"}),
    ),
    Restart(),
    Budget(),
    Growth(),
)
