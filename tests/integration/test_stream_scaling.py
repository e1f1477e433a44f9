"""Changes of replicas on real servers, carried through the whole executor: under load, with servers that die, freeze or can't write, and among writers."""

import asyncio
import random
from pathlib import Path
from typing import cast

import pytest

from bot.action import RECEIPT_KEY, Draft
from bot.actions.stream_scale import NEEDS
from bot.actions.stream_scaling import Scaling, Times, compose_raft_reset, compose_scaling
from bot.errors import Refused
from bot.lab import scaling_drills
from bot.lab.jetstream import request, section, stream_views
from bot.model import ExecutionState, StageState
from bot.model.groups import without_server_metadata
from bot.ports import Writers
from tests.exhaustive import chosen
from tests.integration.scaling_scene import KEY, PUBLISHED, QUICK, Interfered, Scene, scene, states, straight, stream

VERSIONS = chosen(("2.10.26", "2.11.2", "2.15.1"), ("2.11.2",))


@pytest.mark.parametrize("version", VERSIONS)
async def test_under_load_and_with_a_server_killed_in_each_stage_no_acknowledged_message_is_lost(
    tmp_path: Path, version: str
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        before = await at.config()
        scaling = await at.composed("ORDERS")
        assert [p["to"] for _, p in scaling.stages] == ([3] if version == "2.15.1" else [2, 3])
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        async with scaling_drills.load(at.cluster, "ORDERS", "worker") as load:
            running = asyncio.create_task(at.desk.run(execution))
            for index in range(len(scaling.stages)):
                await at.reached(execution, index, StageState.APPLIED)
                await at.led("ORDERS", int(scaling.stages[index][1]["to"]))
                await asyncio.sleep(1.0)  # they are current by now, and it has not settled
                leader = await at.holder()
                victim = leader if index == 0 else random.choice([n for n in at.cluster.names if n != leader])
                await at.cluster.kill(victim)
                await at.cluster.restart(victim, ready=False)
            ended = await running
            for entry in await at.desk.audit():
                print(entry.at.isoformat()[11:23], entry.sentence)
        assert (ended.state, set(states(ended))) == (ExecutionState.DONE, {StageState.VERIFIED}), ended.sentence
        views = await stream_views(at.cluster, "ORDERS")
        assert len(views) == 3
        state = section(await request(at.client, "STREAM.INFO.ORDERS"), "state")
        assert len(load.acked) == len(set(load.acked)) > 20  # no sequence is given out twice
        assert (state["first_seq"], state["messages"]) == (1, state["last_seq"])
        assert state["last_seq"] >= max(load.acked)
        assert set(load.acked) <= load.received
        after = await at.config()
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        assert changed == {"num_replicas", "metadata"}
        metadata = without_server_metadata(after)["metadata"]
        assert metadata == {"team": "a", RECEIPT_KEY: ended.stages[-1].operation_id}


@pytest.mark.parametrize("version", chosen(("2.10.26", "2.11.2", "2.15.1"), ("2.11.2",)))
async def test_up_to_five_and_down_again_in_as_few_stages_as_the_version_allows(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version, 5) as at:
        await stream(at)
        up = await at.composed("ORDERS", target=5)
        assert [p["to"] for _, p in up.stages] == ([5] if version == "2.15.1" else [2, 3, 5])
        ended = await at.desk.carry_out(up.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert len(await stream_views(at.cluster, "ORDERS")) == 5
        down = await at.composed("ORDERS", target=1)
        ended = await at.desk.carry_out(down.stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert view.state.messages == PUBLISHED


async def test_a_raft_reset_makes_all_members_but_the_leader_anew_and_keeps_messages_and_positions(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, "2.15.1") as at:
        await stream(at, replicas=3)
        await at.led("ORDERS", 3)
        before, leader = await stream_views(at.cluster, "ORDERS"), await at.holder()
        reset = compose_raft_reset(await at.readers.gather(NEEDS), KEY, QUICK)
        assert [p["to"] for _, p in reset.stages] == [1, 3]
        execution = await at.desk.approved(await at.desk.plan(reset.stages))
        running = asyncio.create_task(at.desk.run(execution))
        await at.reached(execution, 0, StageState.VERIFIED)
        assert await at.holder() == leader
        ended = await running
        assert ended.state is ExecutionState.DONE, ended.sentence
        after = await stream_views(at.cluster, "ORDERS")
        assert {view.state.messages for view in after.values()} == {PUBLISHED}
        groups = (
            {view.stream_raft_group for view in before.values()},
            {view.stream_raft_group for view in after.values()},
        )
        assert [len(names) for names in groups] == [1, 1]
        assert groups[0] != groups[1]


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_sent_while_the_only_holder_is_away(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS")
        holder = await at.holder()
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        await at.cluster.kill(holder)
        ended = await at.desk.run(execution)
        assert ended.state is ExecutionState.REFUSED
        assert {run.sent for run in ended.stages} == {0}
        with pytest.raises(Refused, match="No server that answered reports stream APP > ORDERS"):
            compose_scaling(await at.readers.gather(NEEDS), [KEY], 3, QUICK)
        plan = await at.desk.stages.plan(at.readers, drafted(scaling))
        assert plan.stages == ()
        assert any("No server that answered reports" in line for line in plan.guidance), plan.guidance
        await at.cluster.restart(holder)
        (view,) = (await stream_views(at.cluster, "ORDERS")).values()
        assert view.state.messages == PUBLISHED


def drafted(scaling: Scaling) -> Draft:
    return Draft(title="Repair", why="it is broken", stages=scaling.stages)


@pytest.mark.parametrize(
    ("version", "end"), [("2.11.2", ExecutionState.NEEDS_HUMAN), ("2.15.1", ExecutionState.ROLLED_BACK)]
)
async def test_an_update_that_succeeds_and_a_member_that_never_comes_is_told_as_failed_with_numbers(
    tmp_path: Path, version: str, end: ExecutionState
) -> None:
    async with scene(tmp_path, version) as at:
        await stream(at)
        scaling = await at.composed("ORDERS", times=Times(1.0, 1.0, 0.0, 6.0, trial=False))
        holder = await at.holder()
        leader = await at.cluster.wait_ready()
        frozen = next(name for name in at.cluster.names if name not in {holder, leader})
        await at.move_to(holder)
        writers = Interfered(at.desk.writers, lambda: at.cluster.freeze(frozen))
        at.desk.writers = cast("Writers", writers)
        ended = await at.desk.carry_out(straight(scaling))
        assert ended.state is end, ended.sentence
        assert f"2 of 3 members of stream APP > ORDERS are current ({frozen}" in ended.sentence
        assert ended.stages[0].after["members current"] == 2
        if end is ExecutionState.NEEDS_HUMAN:
            assert "#8253" in ended.sentence
            assert (await at.config())["num_replicas"] == 3
        else:
            assert (await at.config())["num_replicas"] == 1
            assert states(ended) == [StageState.ROLLED_BACK]
        views = await stream_views(at.cluster, "ORDERS")
        assert views[holder].state.messages == PUBLISHED


async def test_twenty_writers_lose_nothing_and_are_named_while_what_was_done_before_stays(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.2") as at:
        for name in ("DONE", "ORDERS"):
            await stream(at, name)
        scaling = await at.composed("DONE", "ORDERS", times=Times(4.0, 1.0, 0.0, 25.0, 25.0, trial=False))
        execution = await at.desk.approved(await at.desk.plan(scaling.stages))
        running = asyncio.create_task(at.desk.run(execution))
        await at.reached(execution, 2, StageState.APPLIED)
        await at.led("ORDERS", 2)
        confirmed = await busy_writers(at, seconds=6.0)
        ended = await running
        assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
        done, back, never = StageState.VERIFIED, StageState.ROLLED_BACK, StageState.NOT_APPLIED
        assert states(ended) == [done, done, back, never]
        assert "metadata.w" in ended.sentence
        assert "Stream APP > DONE has its 3 replicas, all current, and keeps them." in ended.sentence
        metadata = (await at.config())["metadata"]
        assert len(confirmed) == 20
        assert {k: metadata.get(k) for k in confirmed} == confirmed
        assert [(await at.config(name))["num_replicas"] for name in ("DONE", "ORDERS")] == [3, 1]


async def busy_writers(at: Scene, seconds: float) -> dict[str, str]:
    """Twenty writers that take turns among themselves and know nothing of natsmedic; returns the last confirmed edit of each."""
    turn, confirmed = asyncio.Lock(), dict[str, str]()
    end = asyncio.get_running_loop().time() + seconds

    async def edit(writer: int) -> None:
        for count in range(10_000):
            async with turn:
                if await scaling_drills.edit_metadata(at.client, "ORDERS", f"w{writer}", str(count)):
                    confirmed[f"w{writer}"] = str(count)
            if asyncio.get_running_loop().time() > end:
                return
            await asyncio.sleep(random.uniform(0.0, 0.2))

    await asyncio.gather(*(edit(writer) for writer in range(20)))
    return confirmed


async def test_young_consumers_and_servers_are_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.2") as at:
        await stream(at)
        await at.composed("ORDERS")
        with pytest.raises(Refused) as refused:
            compose_scaling(await at.readers.gather(NEEDS), [KEY], 3)
        told = str(refused.value)
        assert all(f"Server {name} started" in told for name in at.cluster.names)
        assert "When worker of stream APP > ORDERS was created is less than 15 s ago, or not known" in told
