"""All scenes, and the lanes that they play in."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash import (
    scenes_clients,
    scenes_consumers,
    scenes_groups,
    scenes_kubernetes,
    scenes_limits,
    scenes_mesh,
    scenes_nats,
    scenes_peers,
)
from tests.crash.kubernetes_lab import KubernetesLab
from tests.crash.lanes import Lane
from tests.crash.scene import Scene, Where
from tests.crash.scenes_nats import NatsLab
from tests.crash.scenes_peers import Grounds

SCENES: Sequence[Scene] = (
    *scenes_nats.SCENES,
    *scenes_consumers.SCENES,
    *scenes_groups.SCENES,
    *scenes_kubernetes.SCENES,
    *scenes_mesh.SCENES,
    *scenes_clients.SCENES,
    *scenes_limits.SCENES,
    *scenes_peers.SCENES,
)

OLD, MIDDLE, NEW = "2.10.26", "2.11.11", "2.15.1"
"""The oldest and the newest version in use, which differ most, and the one in between that is most used."""

LANES: Sequence[Lane] = (
    Lane(Where.NATS, lambda folder: NatsLab(folder, OLD)),
    Lane(Where.NATS, lambda folder: NatsLab(folder, NEW)),
    Lane(Where.NATS, lambda folder: NatsLab(folder, MIDDLE)),
    Lane(Where.NEWER, lambda folder: NatsLab(folder, NEW)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
    Lane(Where.KUBERNETES, lambda folder: KubernetesLab(folder, OLD)),
    Lane(Where.GONE, lambda folder: Grounds(folder, MIDDLE)),
)
"""Those on Kubernetes wait most, for pods that come and go, and have the longest runs."""
