"""Scenes of the small changes of a consumer that only newer servers know: pause, resume, reset, unpin."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from bot.actions import consumer_pause, consumer_reset, consumer_resume, consumer_unpin
from bot.actions._facts import ConsumerFacts, look
from bot.actions.recreate import read_consumer
from bot.errors import Refused
from bot.lab import drills
from bot.lab.jetstream import request
from bot.model import ConsumerKey, JsonObject, Record
from tests.crash.scene import Lab, Scene, Situation, Where, until
from tests.crash.scenes_nats import PUBLISHED, NatsLab, position_problem, worked_on

AGAIN = 2
"""The sequence that a reset goes back to; messages from there on wait once more."""

Problem = Callable[[NatsLab, ConsumerKey], Awaitable[str]]


def _hours(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


def _pause(facts: ConsumerFacts) -> Record:
    return consumer_pause.pause_stage(facts, _hours(1))


def _reset(facts: ConsumerFacts) -> Record:
    return consumer_reset.reset_stage(facts, AGAIN)


async def _not_paused(lab: NatsLab, key: ConsumerKey) -> str:
    return await position_problem(lab, key) or ("is paused" if await _paused(lab, key) else "")


async def _is_paused(lab: NatsLab, key: ConsumerKey) -> str:
    return await position_problem(lab, key) or ("" if await _paused(lab, key) else "is not paused")


async def _paused(lab: NatsLab, key: ConsumerKey) -> bool:
    return (await request(lab.client, f"CONSUMER.INFO.{key.stream}.{key.consumer}")).get("paused") is True


async def _is_reset(lab: NatsLab, key: ConsumerKey) -> str:
    info = await request(lab.client, f"CONSUMER.INFO.{key.stream}.{key.consumer}")
    waiting, wanted = int(info["num_pending"]) + int(info["num_ack_pending"]), PUBLISHED - AGAIN + 1
    return "" if waiting == wanted else f"{key}: {waiting} messages wait, not {wanted}"


@dataclass(frozen=True)
class Asked:
    """One request changes a consumer that nothing else touches."""

    name: str
    kinds: Sequence[str]
    verb: str
    compose: Callable[[ConsumerFacts], Record]
    problem: Problem
    untouched: Problem
    paused: bool = False
    """Whether it is paused before."""
    undone: bool = False
    """Whether the same request takes it back."""
    where: Where = Where.NEWER
    share: int = 4

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with worked_on(lab, number) as key:
            asked = f"CONSUMER.{self.verb}.{key.stream}.{key.consumer}"
            if self.paused:
                await request(lab.client, asked, {"pause_until": _hours(1).isoformat()})
            params = self.compose(read_consumer(await look(lab.readers), key))
            async with lab.counted() as proxy:
                yield Situation(
                    cluster=lab.settings([proxy.url]),
                    door=proxy,
                    stages=[(self.kinds[0], params.model_dump(mode="json"))],
                    expected=[[asked]],
                    effects=lambda: proxy.effects,
                    problem=partial(self.problem, lab, key),
                    untouched=partial(self.untouched, lab, key),
                    lose=lambda what: proxy.lose.update([what]),
                    back=[[asked]] if self.undone else (),
                )


GROUP, PINNED = "g", "pinned"
PIN_LASTS = timedelta(hours=1)
"""Longer than any run: a pin that ends by itself would look like one that was taken away."""


@dataclass(frozen=True)
class Unpin:
    """The client that holds a priority group loses its place."""

    name: str = "unpin a client"
    kinds: Sequence[str] = (consumer_unpin.ACTION.kind,)
    where: Where = Where.NEWER
    share: int = 3

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with worked_on(lab, number) as worker, lab.counted() as proxy:
            key = ConsumerKey(worker.account, worker.stream, PINNED)
            before = await _pinned(lab, key)
            params = consumer_unpin.unpin_stage(before, GROUP)

            async def holds() -> bool:
                facts = read_consumer(await look(lab.readers), key)
                return consumer_unpin.pins(facts).get(GROUP) == params.pin

            async def problem() -> str:
                return f"{params.pin} holds the group" if await holds() else ""

            async def untouched() -> str:
                return "" if await holds() else f"{params.pin} holds the group no more"

            yield Situation(
                cluster=lab.settings([proxy.url]),
                door=proxy,
                stages=[(consumer_unpin.ACTION.kind, params.model_dump(mode="json"))],
                expected=[[f"CONSUMER.UNPIN.{key.stream}.{key.consumer}"]],
                effects=lambda: proxy.effects,
                problem=problem,
                untouched=untouched,
                lose=lambda what: proxy.lose.update([what]),
            )


async def _pinned(lab: NatsLab, key: ConsumerKey) -> ConsumerFacts:
    """A consumer whose one group a client has, which has got a message and asks for no other."""
    config: JsonObject = {
        "priority_groups": [GROUP],
        "priority_policy": "pinned_client",
        "priority_timeout": round(PIN_LASTS.total_seconds() * 1e9),
    }
    await drills.create_consumer(lab.client, key.stream, key.consumer, config)
    body = json.dumps({"batch": 1, "expires": 5_000_000_000, "group": GROUP}).encode()
    # A message comes under the stream's own subject, so that the answer to a request would not be found by it.
    inbox = lab.client.new_inbox()
    subscription = await lab.client.subscribe(inbox)
    await lab.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{key.stream}.{key.consumer}", body, reply=inbox)
    await subscription.next_msg(timeout=drills.ANSWER_TIMEOUT)
    await subscription.unsubscribe()
    found: list[ConsumerFacts] = []

    async def pinned() -> bool:
        try:
            found.append(read_consumer(await look(lab.readers), key))
        except Refused:
            return False
        return bool(consumer_unpin.pins(found[-1]).get(GROUP))

    await until(f"a pin of {key}", pinned)
    return found[-1]


SCENES: Sequence[Scene] = (
    Asked("pause a consumer", (consumer_pause.ACTION.kind,), "PAUSE", _pause, _is_paused, _not_paused, undone=True),
    Asked(
        "resume a consumer",
        (consumer_resume.ACTION.kind,),
        "PAUSE",
        consumer_resume.resume_stage,
        _not_paused,
        _is_paused,
        paused=True,
        undone=True,
    ),
    Asked("reset a consumer", (consumer_reset.ACTION.kind,), "RESET", _reset, _is_reset, position_problem),
    Unpin(),
)
