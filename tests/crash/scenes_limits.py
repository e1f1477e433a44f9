"""The scene of a limit in nats.conf: the file is edited, and a server loads it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.actions.kubernetes_limit import LimitEdit
from bot.actions.limit_change import compose_limit
from bot.actions.nats_load_limit import LoadLimit
from bot.model.limits import Setting, shown
from tests.crash.kubernetes_lab import KubernetesLab
from tests.crash.scene import Lab, Scene, Situation, Where
from tests.crash.scenes_mesh import LOAD

CONFIG = "nats-config"
EDIT = f"PATCH configmaps/{CONFIG}"
ENOUGH = 90_000
"""Connections; each run has a limit of its own, for servers keep what they have loaded."""


@dataclass(frozen=True)
class RaiseLimit:
    """`max_connections` is raised. A reload changes nothing a second time, so only the edit is counted."""

    name: str = "raise a limit"
    kinds: Sequence[str] = (LimitEdit.kind, LoadLimit.kind)
    where: Where = Where.KUBERNETES
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        before, limit = lab.object("ConfigMap", CONFIG), ENOUGH + number
        stages = compose_limit(*await lab.look(), Setting.MAX_CONNECTIONS, limit).stages[: len(self.kinds)]
        (_, load) = stages[-1]
        since = len(lab.kube.writes)

        async def problem() -> str:
            snapshot, _ = await lab.look()
            seen = shown(snapshot, load["server"], Setting.MAX_CONNECTIONS)
            return "" if seen == limit else f"{load['server']} runs with {seen}, not {limit}"

        async def untouched() -> str:
            same = lab.object("ConfigMap", CONFIG)["data"] == before["data"]
            return "" if same else "nats.conf differs from before"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=stages,
                    expected=[[EDIT], []],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lambda what: lab.lose(what) if what else proxy.lose.update([LOAD]),
                    back=[[EDIT] for _ in stages],
                )
            finally:
                lab.kube.faults.clear()
                await lab.put("ConfigMap", before)


SCENES: Sequence[Scene] = (RaiseLimit(),)
