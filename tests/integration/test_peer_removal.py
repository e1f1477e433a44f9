"""Members that are dead and servers that are gone, on real servers: replaced where a spare is there, and nobody who lives is removed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.action import ELECTION, Receipt
from bot.actions import meta_peer_remove
from bot.actions._elections import meta_led
from bot.actions._facts import StreamFacts, consumer_facts, stream_facts
from bot.actions.meta_peer_remove import ACTION as REMOVE
from bot.actions.meta_peer_remove import ServerParams, remove_stage
from bot.actions.stream_peer_remove import ACTION as REPLACE
from bot.actions.stream_peer_remove import StreamPeerRemove, peer_remove_stage
from bot.errors import Refused
from bot.flow.stages import Stages
from bot.lab import drills
from bot.lab.jetstream import request, section
from bot.model import ExecutionState, JsonObject, OperationId, Outcome, Snapshot, StageState, Verification, new_id
from bot.model.groups import Standing, meta_standing
from tests.exhaustive import chosen
from tests.integration.executing import Desk
from tests.integration.leader_scene import (
    FETCHED,
    FLOOR,
    PUBLISHED,
    STREAM,
    WORKER,
    Deaf,
    LostReplies,
    Scene,
    said,
    scene,
)

VERSIONS = chosen(("2.10.26", "2.11.11", "2.15.1"), ("2.10.26",))
AWAY = 5.0
"""Seconds after which the tests take a server for gone."""


async def until(lab: Scene, holds: Callable[[Snapshot], bool]) -> Snapshot:
    """The cluster once this holds."""
    async with asyncio.timeout(ELECTION):
        while True:
            snapshot = await lab.look()
            try:
                if holds(snapshot):
                    return snapshot
            except Refused:
                pass
            await asyncio.sleep(0.2)


async def kill_a_follower(lab: Scene) -> tuple[str, Snapshot]:
    """A member of the stream that leads nothing dies; returns once its leaders count it out."""
    before = await lab.whole()
    facts, worker = stream_facts(before, STREAM), consumer_facts(before, WORKER)
    leading = {facts.standing.leader, worker.standing.leader, meta_standing(before).leader}
    followers = sorted(facts.standing.members - leading)
    if not followers:  # three leaders on three members: the meta leader goes elsewhere
        await drills.move_meta_leader_off(lab.cluster, str(meta_standing(before).leader))
        return await kill_a_follower(lab)
    victim = followers[0]
    await lab.cluster.kill(victim)

    def lost(snapshot: Snapshot) -> bool:
        groups: list[Standing] = [
            stream_facts(snapshot, STREAM).standing,
            consumer_facts(snapshot, WORKER).standing,
            meta_standing(snapshot),
        ]
        return all(victim in group.lost for group in groups)

    return victim, await until(lab, lost)


def replacement(facts: StreamFacts, peer: str) -> list[tuple[str, JsonObject]]:
    return [(REPLACE.kind, peer_remove_stage(facts, peer).model_dump(mode="json"))]


async def refusal(lab: Scene, stages: list[tuple[str, JsonObject]]) -> str:
    with pytest.raises(AssertionError) as refused:
        await lab.desk.plan(stages)
    return str(refused.value)


async def removed(lab: Scene, params: ServerParams) -> Verification:
    """Checks, removes, reads the receipt and verifies as the flow does; two people would have approved it."""
    operation = OperationId(new_id("op"))
    assert (await REMOVE.check(lab.readers, params)).refusals == ()
    assert await REMOVE.receipt(lab.readers, params, operation) is Receipt.NOT_APPLIED
    await REMOVE.apply(lab.readers, lab.writers, params, operation)
    async with asyncio.timeout(REMOVE.patience):
        while (seen := await REMOVE.verify(lab.readers, params, operation)).outcome is not Outcome.VERIFIED:
            await asyncio.sleep(0.2)
    assert await REMOVE.receipt(lab.readers, params, operation) is Receipt.APPLIED
    return seen


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_dead_member_is_replaced_by_a_spare_and_then_the_server_removed(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version, size=5) as lab:
        before = await lab.whole()
        alive = next(
            name
            for name in sorted(stream_facts(before, STREAM).standing.members)
            if name != stream_facts(before, STREAM).standing.leader
        )
        assert "a live server is never removed" in await refusal(lab, replacement(stream_facts(before, STREAM), alive))
        live = (await REMOVE.check(lab.readers, remove_stage(before, alive, 0.0))).refusals
        assert any("a live server is never removed" in why for why in live)
        assert any("has a route to" in why for why in live)

        victim, snapshot = await kill_a_follower(lab)
        counting = (await REMOVE.check(lab.readers, remove_stage(snapshot, victim, 0.0))).refusals
        assert any(f"{victim} is still a member of" in why for why in counting), counting
        execution = await lab.desk.carry_out(replacement(stream_facts(snapshot, STREAM), victim))
        assert execution.state is ExecutionState.DONE, said(execution)
        facts = stream_facts(await lab.look(), STREAM)
        assert victim not in facts.standing.members
        assert (facts.standing.whole, facts.state.last_seq, facts.state.messages) == (True, PUBLISHED, PUBLISHED)
        worker = consumer_facts(await lab.look(), WORKER)
        assert (worker.state.floor_stream_seq, worker.state.delivered_stream_seq) == (FLOOR, FETCHED)
        assert victim not in worker.standing.members

        early = (await REMOVE.check(lab.readers, remove_stage(await lab.look(), victim))).refusals
        assert len(early) == 1
        assert "only after 900 s" in early[0]
        await until(lab, lambda s: not _hinders(s, victim))
        seen = await removed(lab, remove_stage(await lab.look(), victim, AWAY))
        assert seen.numbers["members"] == 4
        await drills.publish(lab.client, "ORDERS", 1)


def _hinders(snapshot: Snapshot, server: str) -> list[str]:
    return meta_peer_remove.hindrances(snapshot, meta_led(snapshot), server, AWAY)


async def test_without_a_spare_no_member_is_removed(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.11") as lab:
        victim, snapshot = await kill_a_follower(lab)
        why = await refusal(lab, replacement(stream_facts(snapshot, STREAM), victim))
        assert f"No spare server could take the place of {victim}" in why
        assert "left with 2 of 3 members" in why
        assert (
            stream_facts(await lab.look(), STREAM).standing.members == stream_facts(snapshot, STREAM).standing.members
        )
        late = (await REMOVE.check(lab.readers, remove_stage(snapshot, victim, 0.0))).refusals
        assert any("2 servers would be left" in why for why in late)


async def test_what_lives_on_the_dead_server_alone_is_named_and_keeps_it_a_member(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.11.11", size=5) as lab:
        await drills.create_consumer(lab.client, "ORDERS", "single", {"num_replicas": 1})
        leads = str(section(await request(lab.client, "CONSUMER.INFO.ORDERS.single"), "cluster")["leader"])
        while leads in (
            leader := stream_facts(s := await lab.whole(), STREAM).standing.leader,
            meta_standing(s).leader,
        ):
            if leader == leads:
                await lab.writers.step_down_stream("APP", "ORDERS", _another(s, leads))
            else:
                await drills.move_meta_leader_off(lab.cluster, leads)
        await lab.cluster.kill(leads)
        snapshot = await until(lab, lambda s: leads in stream_facts(s, STREAM).standing.lost)
        why = await refusal(lab, replacement(stream_facts(snapshot, STREAM), leads))
        assert f"Consumer APP > ORDERS > single does not answer: it may live on {leads} alone" in why


def _another(snapshot: Snapshot, than: str) -> str:
    return next(name for name in sorted(stream_facts(snapshot, STREAM).standing.members) if name != than)


async def test_a_replacement_whose_answer_is_lost_is_found_applied_and_one_that_did_nothing_failed(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, "2.11.11", size=5) as lab:
        victim, snapshot = await kill_a_follower(lab)

        class Quick(StreamPeerRemove):
            patience: float = 8.0

        stages = replacement(stream_facts(snapshot, STREAM), victim)
        deaf = Desk(lab.desk.store, lab.readers, Deaf(), Stages({REPLACE.kind: Quick()}))  # pyright: ignore[reportArgumentType]
        failed = await deaf.carry_out(stages)
        assert failed.stages[0].state is StageState.FAILED, said(failed)
        assert f"{victim} is still a member." in failed.stages[0].sentence
        assert failed.stages[0].after["last sequence"] == PUBLISHED

        lost = LostReplies(lab.writers)
        desk = Desk(lab.desk.store, lab.readers, lost)  # pyright: ignore[reportArgumentType]
        execution = await desk.carry_out(stages)
        assert execution.state is ExecutionState.DONE, said(execution)
        assert (lost.sent, execution.stages[0].sent) == (1, 1)
