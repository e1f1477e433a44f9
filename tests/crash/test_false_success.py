"""False success: for every action a run in which the call succeeds and the symptom stays. It is reported as failed, with numbers (issue 5).

The scenes of the crash harness give each action something real to change; its real verification must see that nothing has changed.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.model import ExecutionState, StageState
from bot.registry import load
from tests.crash.databases import SqliteFiles
from tests.crash.scene import Lab, Scene, Where
from tests.crash.scenes import LANES, SCENES
from tests.crash.trial import Host
from tests.exhaustive import chosen

OFTEN = (Where.NEWER,)
"""What runs every time: the cheapest lab. The others need half a minute to three minutes each."""
STAYED = frozenset({StageState.FAILED, StageState.ROLLED_BACK})
"""A stage that failed, and one whose way back was gone after it had."""
FAILED = frozenset({ExecutionState.FAILED, ExecutionState.ROLLED_BACK, ExecutionState.NEEDS_HUMAN})


def cases(where: Where) -> list[tuple[Scene, str]]:
    """Every kind of action once, in the first scene of this place that has it."""
    found: dict[str, Scene] = {}
    for scene in SCENES:
        if scene.where is where:
            for kind in scene.kinds:
                found.setdefault(kind, scene)
    return [(scene, kind) for kind, scene in found.items()]


def test_every_action_is_tried_in_vain():
    assert {kind for where in Where for _, kind in cases(where)} == set(load().actions)


@asynccontextmanager
async def lab_of(where: Where, folder: Path) -> AsyncGenerator[Lab]:
    async with next(lane for lane in LANES if lane.where is where).make(folder) as lab:
        yield lab


@pytest.mark.parametrize("where", chosen(list(Where), OFTEN))
async def test_a_call_that_succeeds_and_changes_nothing_is_reported_as_failed_with_numbers(
    tmp_path: Path, where: Where
):
    host = Host(SqliteFiles(tmp_path / "databases"))
    wrong: list[str] = []
    async with lab_of(where, tmp_path / "lab") as lab:
        for number, (scene, kind) in enumerate(cases(where), start=1):
            async with scene.open(lab, number) as situation:
                ended = await host.in_vain(situation, kind)
                stage = ended.stages[scene.kinds.index(kind)]
                told = f"{kind}: {ended.state}, {stage.state} {stage.sentence!r} {stage.after}"
                if ended.state not in FAILED or stage.state not in STAYED or not stage.after or not stage.sent:
                    wrong.append(told)
                print(told)
    assert not wrong, "\n".join(wrong)
