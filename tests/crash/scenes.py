"""All scenes, and the lanes that they play in."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash import scenes_clients, scenes_kubernetes, scenes_limits, scenes_nats
from tests.crash.kubernetes_lab import KubernetesLab
from tests.crash.lanes import Lane
from tests.crash.scene import Scene, Where
from tests.crash.scenes_nats import NatsLab

SCENES: Sequence[Scene] = (
    *scenes_nats.SCENES,
    *scenes_kubernetes.SCENES,
    *scenes_clients.SCENES,
    *scenes_limits.SCENES,
)

OLD, NEW = "2.10.26", "2.15.1"
"""The oldest and the newest version in use: they differ most."""

LANES: Sequence[Lane] = (
    Lane(Where.NATS, lambda folder: NatsLab(folder, OLD)),
    Lane(Where.NATS, lambda folder: NatsLab(folder, NEW)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
)
