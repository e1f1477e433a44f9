"""The servers are tried before a stream gets replicas, on real servers: a sick disk is found while nothing is changed."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bot.action import Draft
from bot.actions.stream_probe_end import ProbeEnd
from bot.actions.stream_probe_peers import ProbePeers
from bot.actions.stream_scale import StreamScale
from bot.lab import scaling_drills
from bot.lab.jetstream import request, stream_views
from bot.lab.process import LabError
from bot.model import TRIAL_STREAM, ExecutionState, StageState
from tests.exhaustive import chosen
from tests.integration.executing import STAGES
from tests.integration.scaling_scene import PUBLISHED, QUICK, scene, states, stream

TRYING = replace(QUICK, trial=True)
MOST_SECONDS = 3.0
"""What the trial may add to a change of replicas."""


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2", "2.12.8", "2.15.1"), ("2.11.2",)))
@pytest.mark.parametrize("of_holder", [False, True])
async def test_a_sick_disk_is_found_and_named_before_the_stream_is_touched(
    tmp_path: Path, version: str, of_holder: bool
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        holder = await at.holder()
        sick = holder if of_holder else next(name for name in at.cluster.names if name != holder)
        scaling = await at.composed("ORDERS", times=TRYING)
        before = await at.config()
        try:
            async with scaling_drills.sick_disk(at.cluster, sick):
                ended = await at.desk.carry_out(scaling.stages)
        except LabError as error:
            pytest.skip(str(error))
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        assert f"{sick} could not make the" in ended.sentence
        assert states(ended) == [StageState.ROLLED_BACK, *[StageState.SKIPPED] * (len(scaling.stages) - 1)]
        assert await at.config() == before
        assert not await stream_views(at.cluster, TRIAL_STREAM)
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert (view.state.messages, [c.name for c in view.consumer_detail]) == (PUBLISHED, ["worker"])


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2", "2.12.8", "2.15.1"), ("2.15.1",)))
async def test_healthy_servers_are_tried_in_no_time_and_the_stream_is_scaled(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS", times=TRYING)
        kinds = [kind for kind, _ in scaling.stages]
        assert kinds[:3] == [ProbePeers.kind, ProbeEnd.kind, StreamScale.kind]
        began = time.monotonic()
        tried = await at.desk.carry_out(scaling.stages[:2])
        took = time.monotonic() - began
        assert tried.state is ExecutionState.DONE, tried.sentence
        assert took < MOST_SECONDS
        ended = await at.desk.carry_out(scaling.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert (await at.config())["num_replicas"] == 3
        assert not await stream_views(at.cluster, TRIAL_STREAM)


async def test_a_stream_of_that_name_that_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.11") as at:
        await stream(at)
        scaling = await at.composed("ORDERS", times=TRYING)
        await request(
            at.client, f"STREAM.CREATE.{TRIAL_STREAM}", {"name": TRIAL_STREAM, "subjects": ["other"], "storage": "file"}
        )
        plan = await STAGES.plan(at.readers, Draft(title="Repair", why="it is broken", stages=scaling.stages))
        assert plan.stages == ()
        assert any("that natsmedic did not make" in line for line in plan.guidance)
        assert await stream_views(at.cluster, TRIAL_STREAM)
        assert (await at.config())["num_replicas"] == 1
