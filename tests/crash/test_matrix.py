"""A sample of the kill matrix in every `make test`; all of it is `make test-crash`."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.crashpoints import Point
from bot.registry import load
from tests.crash.lanes import carried_out
from tests.crash.matrix import EACH_STAGE, ONCE, Report, planned, systematic
from tests.crash.scene import Where
from tests.crash.scenes import LANES, SCENES
from tests.crash.trial import Run

SEED = 1
SAMPLE = {
    Where.NATS: ("P11:1 of stage 2", "P12:1 of stage 1", "stage 1 does not help"),
    Where.GONE: ("P12:1 of stage 1",),
    Where.NEWER: ("P12:1 of stage 1",),
    Where.KUBERNETES: ("P13:1 of stage 1",),
}
"""What of each scene's systematic runs is in the sample, by the end of its name; the first scenes of each place only."""
SCENES_OF_SAMPLE = {Where.NATS: 2, Where.GONE: 1, Where.NEWER: 1, Where.KUBERNETES: 1}


def test_every_action_has_a_scene():
    played = {kind for scene in SCENES for kind in scene.kinds}
    known = set(load().actions)
    missing = sorted(known - played)
    assert not missing, f"no scene in tests/crash kills the bot while it does {', '.join(missing)}: write one"
    assert played <= known


def test_every_action_of_every_scene_dies_at_every_point_that_it_passes():
    runs = list(systematic(SCENES, SEED))
    for scene in SCENES:
        deaths = {(death.point, death.stage) for run in runs if run.scene is scene for death in run.deaths}
        stages = [scene.kinds.index(kind) for kind in scene.kinds]
        assert deaths == {(point, None) for point in ONCE} | {(p, stage) for p in EACH_STAGE for stage in stages}
    assert {*ONCE, *EACH_STAGE} == {point for point in Point if point >= Point.P09}


def test_a_run_is_the_same_each_time_and_another_with_another_seed():
    first, again, other = (planned(SCENES, seed, 400) for seed in (1, 1, 2))
    assert [run.told for run in first] == [run.told for run in again]
    assert [run.told for run in first] != [run.told for run in other]
    assert [run.number for run in first] == list(range(1, 401))


def sample(where: Where) -> Sequence[Run]:
    scenes = [scene for scene in SCENES if scene.where is where][: SCENES_OF_SAMPLE[where]]
    runs = [run for run in systematic(SCENES, SEED) if run.scene in scenes and run.told.endswith(SAMPLE[where])]
    assert len(runs) >= len(scenes)
    return runs


@pytest.mark.parametrize("where", list(Where))
async def test_no_invariant_is_violated_in_a_sample(tmp_path: Path, where: Where):
    report = Report(SEED)
    lanes = [lane for lane in LANES if lane.where is where][:1]
    await carried_out(sample(where), lanes, tmp_path, report.told.append)
    assert report.told
    assert not report.violated, str(report)
    killed = [told for told in report.told if told.run.deaths]
    assert all(told.died for told in killed), str(report)
