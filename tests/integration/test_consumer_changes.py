"""Consumers reset, paused, resumed and unpinned on real servers, and refused where the version does not know the request."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.actions import consumer_pause, consumer_reset, consumer_resume, consumer_unpin
from bot.actions._facts import ConsumerFacts, consumer_facts
from bot.errors import OutcomeUnknown
from bot.flow.stages import Stages
from bot.lab import drills
from bot.lab.jetstream import request
from bot.model import ConsumerKey, ExecutionState, JsonObject, StageState
from bot.model.groups import without_server_metadata
from bot.registry import load
from tests.exhaustive import chosen
from tests.integration.executing import Desk
from tests.integration.leader_scene import (
    FETCHED,
    FLOOR,
    PUBLISHED,
    WORKER,
    Deaf,
    LostReplies,
    Scene,
    said,
    scene,
)

SINCE_2_11 = chosen(("2.11.11", "2.15.1"), ("2.15.1",))
PINNED = ConsumerKey("APP", "ORDERS", "pinned")
HOUR = timedelta(hours=1)


async def worker(lab: Scene) -> ConsumerFacts:
    return consumer_facts(await lab.whole(), WORKER)


def reset(facts: ConsumerFacts, seq: int | None = None) -> list[tuple[str, JsonObject]]:
    return [(consumer_reset.ACTION.kind, consumer_reset.reset_stage(facts, seq).model_dump(mode="json"))]


def pause(facts: ConsumerFacts) -> list[tuple[str, JsonObject]]:
    params = consumer_pause.pause_stage(facts, datetime.now(UTC) + HOUR)
    return [(consumer_pause.ACTION.kind, params.model_dump(mode="json"))]


def resume(facts: ConsumerFacts) -> list[tuple[str, JsonObject]]:
    return [(consumer_resume.ACTION.kind, consumer_resume.resume_stage(facts).model_dump(mode="json"))]


async def got(lab: Scene, count: int = 2 * PUBLISHED) -> set[int]:
    return set(await drills.fetch(lab.client, "ORDERS", "worker", count, 1.5))


async def test_a_reset_consumer_delivers_from_where_it_was_told_to_and_skips_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.15.1") as lab:
        before = await worker(lab)
        execution = await lab.desk.carry_out(reset(before))
        assert execution.state is ExecutionState.DONE, said(execution)
        assert execution.stages[0].before["deliveries"] == FETCHED
        assert execution.stages[0].after["deliveries"] == 0
        assert await got(lab) == set(range(FLOOR + 1, PUBLISHED + 1))
        again = await lab.desk.carry_out(reset(await worker(lab), 5))
        assert again.state is ExecutionState.DONE, said(again)
        assert await got(lab) == set(range(5, PUBLISHED + 1))
        after = await worker(lab)
        assert without_server_metadata(after.config) == without_server_metadata(before.config)


async def test_a_reset_whose_answer_is_lost_is_found_applied_and_one_that_did_nothing_failed(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.15.1") as lab:
        before = await worker(lab)

        class Quick(consumer_reset.ConsumerReset):
            patience: float = 5.0

        deaf = Desk(lab.desk.store, lab.readers, Deaf(), Stages({"consumer.reset": Quick()}))  # pyright: ignore[reportArgumentType]
        failed = await deaf.carry_out(reset(before, 1))
        assert failed.stages[0].state is StageState.FAILED, said(failed)
        assert failed.stages[0].sentence.endswith(f"still stands at ack floor {FLOOR}, delivered {FETCHED}.")
        lost = LostReplies(lab.writers)
        desk = Desk(lab.desk.store, lab.readers, lost)  # pyright: ignore[reportArgumentType]
        execution = await desk.carry_out(reset(before, 1))
        assert execution.state is ExecutionState.DONE, said(execution)
        assert (lost.sent, execution.stages[0].sent) == (1, 1)


@pytest.mark.parametrize("version", SINCE_2_11)
async def test_a_paused_consumer_delivers_nothing_until_it_is_resumed(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as lab:
        before = await worker(lab)
        paused = await lab.desk.carry_out(pause(before))
        assert paused.state is ExecutionState.DONE, said(paused)
        assert await got(lab) == set()
        during = await worker(lab)
        changed = {key for key in {*before.config, *during.config} if before.config.get(key) != during.config.get(key)}
        assert changed <= {"pause_until", "metadata"}
        with pytest.raises(AssertionError, match="It is paused already"):
            await lab.desk.plan(pause(during))
        resumed = await lab.desk.carry_out(resume(during))
        assert resumed.state is ExecutionState.DONE, said(resumed)
        assert await got(lab) == set(range(FETCHED + 1, PUBLISHED + 1))


async def test_a_pause_whose_answer_is_lost_is_found_by_its_nanoseconds_and_one_that_failed_is_undone(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, "2.11.11") as lab:

        class Doubting(consumer_pause.ConsumerPause):
            patience: float = 3.0
            settle: float = 2.9

            async def verify(self, *args: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
                seen = await super().verify(*args)  # pyright: ignore[reportArgumentType]
                return seen.model_copy(update={"outcome": "failed"})

        lost = LostReplies(lab.writers)
        desk = Desk(lab.desk.store, lab.readers, lost)  # pyright: ignore[reportArgumentType]
        execution = await desk.carry_out(pause(await worker(lab)))
        assert execution.state is ExecutionState.DONE, said(execution)
        assert (lost.sent, execution.stages[0].sent) == (1, 1)
        assert (await lab.desk.carry_out(resume(await worker(lab)))).state is ExecutionState.DONE

        stages = Stages(dict(load().actions) | {"consumer.pause": Doubting()})  # pyright: ignore[reportArgumentType]
        undone = await Desk(lab.desk.store, lab.readers, lab.writers, stages).carry_out(pause(await worker(lab)))
        assert undone.state is ExecutionState.ROLLED_BACK, said(undone)
        assert consumer_pause.paused_until(await worker(lab)) == ""


@asynccontextmanager
async def pinned(lab: Scene) -> AsyncGenerator[ConsumerFacts]:
    """A priority group with a client that holds it."""
    config: JsonObject = {"priority_groups": ["g"], "priority_policy": "pinned_client"}
    await drills.create_consumer(lab.client, "ORDERS", "pinned", config | {"priority_timeout": 60_000_000_000})
    await pull(lab)
    async with asyncio.timeout(drills.ANSWER_TIMEOUT):
        while not consumer_unpin.pins(facts := consumer_facts(await lab.whole(), PINNED)).get("g"):
            await asyncio.sleep(0.1)
    yield facts


async def pull(lab: Scene) -> str:
    """Asks for one message as a new client of the group, and returns the pin it got."""
    inbox = lab.client.new_inbox()
    subscription = await lab.client.subscribe(inbox)
    body = json.dumps({"batch": 1, "expires": 5_000_000_000, "group": "g"}).encode()
    await lab.client.publish("$JS.API.CONSUMER.MSG.NEXT.ORDERS.pinned", body, reply=inbox)
    message = await subscription.next_msg(timeout=drills.ANSWER_TIMEOUT)
    return str((message.headers or {})["Nats-Pin-Id"])


@pytest.mark.parametrize("version", SINCE_2_11)
async def test_an_unpinned_group_goes_to_the_next_client(tmp_path: Path, version: str) -> None:
    async with scene(tmp_path, version) as lab, pinned(lab) as before:
        params = consumer_unpin.unpin_stage(before, "g")
        stages: list[tuple[str, JsonObject]] = [(consumer_unpin.ACTION.kind, params.model_dump(mode="json"))]

        class Quick(consumer_unpin.ConsumerUnpin):
            patience: float = 4.0

        deaf = Desk(lab.desk.store, lab.readers, Deaf(), Stages({"consumer.unpin": Quick()}))  # pyright: ignore[reportArgumentType]
        failed = await deaf.carry_out(stages)
        assert failed.stages[0].sentence == f"Group g is still pinned by {params.pin}.", said(failed)
        execution = await lab.desk.carry_out(stages)
        assert execution.state is ExecutionState.DONE, said(execution)
        assert await pull(lab) != params.pin


async def test_a_version_that_does_not_know_the_request_is_named_and_never_asked(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.10.26") as lab:
        facts = await worker(lab)
        with pytest.raises(AssertionError, match=r"CONSUMER\.RESET needs 2\.14\.0 .*n0 2\.10\.26"):
            await lab.desk.plan(reset(facts))
        with pytest.raises(AssertionError, match=r"CONSUMER\.PAUSE needs 2\.11\.0"):
            await lab.desk.plan(pause(facts))
        # Asked all the same, it does not answer, and nothing has changed.
        with pytest.raises(OutcomeUnknown):
            await lab.writers.reset_consumer("APP", "ORDERS", "worker", 1)
        info = await request(lab.client, "CONSUMER.INFO.ORDERS.worker")
        assert info["delivered"]["stream_seq"] == FETCHED
