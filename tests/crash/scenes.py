"""All scenes, and the lanes that they play in."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash import scenes_nats
from tests.crash.lanes import Lane
from tests.crash.scene import Scene, Where
from tests.crash.scenes_nats import NatsLab

SCENES: Sequence[Scene] = (*scenes_nats.SCENES,)

LANES: Sequence[Lane] = (
    Lane(Where.NATS, lambda folder: NatsLab(folder, "2.10.26")),
    Lane(Where.NATS, lambda folder: NatsLab(folder, "2.15.1")),
)
