"""Scenes of the small changes of a consumer that only newer servers know: pause, resume, reset."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from bot.actions import consumer_pause, consumer_reset, consumer_resume
from bot.actions._facts import ConsumerFacts, look
from bot.actions.recreate import read_consumer
from bot.lab.jetstream import request
from bot.model import ConsumerKey, Record
from tests.crash.scene import Lab, Scene, Situation, Where
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
)
