"""Scenes of the actions that change who leads, and how many members a stream has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from bot.actions import (
    leaders_move,
    meta_step_down,
    stream_probe_end,
    stream_probe_peers,
    stream_scale,
    stream_step_down,
)
from bot.actions._facts import look, stream_facts
from bot.actions.stream_scaling import Times, compose_scaling
from bot.errors import Refused
from bot.lab import drills
from bot.lab.jetstream import request, section, stream_views
from bot.model import TRIAL_STREAM, ConsumerKey, StreamKey
from tests.crash.scene import Lab, Scene, Situation, StageList, Where, until
from tests.crash.scenes_nats import PUBLISHED, NatsLab, position_problem, worked_on

TIMES = Times(at_two=0.3, elsewhere=0.3, young=0.0, trial=False)

Compose = Callable[[NatsLab, ConsumerKey], Awaitable[StageList]]


async def _stream_step_down(lab: NatsLab, key: ConsumerKey) -> StageList:
    snapshot = await look(lab.readers)
    params = stream_step_down.step_down_stage(snapshot, stream_facts(snapshot, StreamKey(key.account, key.stream)))
    return [(stream_step_down.ACTION.kind, params.model_dump(mode="json"))]


async def _meta_step_down(lab: NatsLab, key: ConsumerKey) -> StageList:
    del key
    params = meta_step_down.step_down_stage(await look(lab.readers))
    return [(meta_step_down.ACTION.kind, params.model_dump(mode="json"))]


async def _both_leaders(lab: NatsLab, key: ConsumerKey) -> StageList:
    snapshot = await look(lab.readers)
    moves: list[leaders_move.Move] = []
    for group in (StreamKey(key.account, key.stream), key):
        led, created = leaders_move.find(snapshot, group)
        consumer = group.consumer if isinstance(group, ConsumerKey) else ""
        moves.append(
            leaders_move.Move(
                account=key.account,
                stream=key.stream,
                consumer=consumer,
                created=created,
                leader=led.leader,
                term=led.term,
            )
        )
    return [(leaders_move.ACTION.kind, leaders_move.MoveParams(moves=tuple(moves)).model_dump(mode="json"))]


@dataclass(frozen=True)
class Leaders:
    """Leaders step down; `asked` are the requests of its one stage, with the stream and the consumer to be filled in."""

    name: str
    kinds: Sequence[str]
    compose: Compose
    asked: Sequence[str]
    where: Where = Where.NATS
    share: int = 4

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with worked_on(lab, number) as key, lab.counted() as proxy:
            # An election may come by itself, and other groups are nobody's here.
            yield Situation(
                cluster=lab.settings([proxy.url]),
                door=proxy,
                stages=await self.compose(lab, key),
                expected=[[one.format(stream=key.stream, consumer=key.consumer) for one in self.asked]],
                effects=lambda: proxy.effects,
                by_itself=True,
                problem=partial(position_problem, lab, key),
                untouched=partial(position_problem, lab, key),
                lose=lambda what: proxy.lose.update([what]),
            )


@dataclass(frozen=True)
class Scale:
    """A stream of one replica gets two, and then three."""

    name: str = "give a stream replicas"
    kinds: Sequence[str] = (stream_scale.ACTION.kind, stream_scale.ACTION.kind)
    where: Where = Where.NATS
    share: int = 4

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        key = StreamKey("APP", f"SCALE{number}")
        await drills.create_stream(lab.client, key.stream, 1, {"metadata": {"team": "a"}})
        await drills.create_consumer(lab.client, key.stream, "worker")
        await drills.publish(lab.client, key.stream, PUBLISHED)
        try:
            stages = await scaled(lab, key, TIMES)
            update = f"STREAM.UPDATE.{key.stream}"
            async with lab.counted() as proxy:
                yield Situation(
                    cluster=lab.settings([proxy.url]),
                    door=proxy,
                    stages=stages,
                    expected=[[update] for _ in stages],
                    effects=lambda: proxy.effects,
                    problem=partial(_stream_problem, lab, key, 3),
                    untouched=partial(_stream_problem, lab, key, 1),
                    lose=lambda what: proxy.lose.update([what]),
                    # Two replicas become one again, and three first two.
                    back=[[update], [update, update]],
                )
        finally:
            await request(lab.client, f"STREAM.DELETE.{key.stream}")


@dataclass(frozen=True)
class Trial:
    """The servers are tried, and the trial is taken away."""

    name: str = "try the servers of a stream"
    kinds: Sequence[str] = (stream_probe_peers.ACTION.kind, stream_probe_end.ACTION.kind)
    where: Where = Where.NATS
    share: int = 4

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        key = StreamKey("APP", f"TRIED{number}")
        await drills.create_stream(lab.client, key.stream, 1, {"metadata": {"team": "a"}})
        await drills.publish(lab.client, key.stream, PUBLISHED)

        async def left() -> str:
            there = await stream_views(lab.cluster, TRIAL_STREAM)
            return f"the trial is on {sorted(there)}" if there else await _stream_problem(lab, key, 1)

        try:
            stages = (await scaled(lab, key, replace(TIMES, trial=True)))[: len(self.kinds)]
            delete = f"STREAM.DELETE.{TRIAL_STREAM}"
            async with lab.counted() as proxy:
                yield Situation(
                    cluster=lab.settings([proxy.url]),
                    door=proxy,
                    stages=stages,
                    expected=[[f"STREAM.CREATE.{TRIAL_STREAM}"], [delete]],
                    effects=lambda: proxy.effects,
                    problem=left,
                    untouched=left,
                    lose=lambda what: proxy.lose.update([what]),
                    # What is taken away already needs no way back.
                    back=[[delete], []],
                )
        finally:
            await request(lab.client, f"STREAM.DELETE.{key.stream}")
            if await stream_views(lab.cluster, TRIAL_STREAM):
                await request(lab.client, f"STREAM.DELETE.{TRIAL_STREAM}")


async def scaled(lab: NatsLab, key: StreamKey, times: Times) -> StageList:
    """The stages of a change to three replicas, once the stream is old enough for one."""
    found: list[StageList] = []

    async def offered() -> bool:
        try:
            found.append(compose_scaling(await look(lab.readers, stream_scale.NEEDS), [key], 3, times).stages)
        except Refused:
            return False
        return True

    await until(f"a stream {key} that may be scaled", offered)
    return found[0]


async def _stream_problem(lab: NatsLab, key: StreamKey, replicas: int) -> str:
    info = await request(lab.client, f"STREAM.INFO.{key.stream}")
    config, state = section(info, "config"), section(info, "state")
    if (config.get("num_replicas"), state.get("messages")) != (replicas, PUBLISHED):
        return f"{key} has {config.get('num_replicas')} replicas and {state.get('messages')} messages"
    return "" if section(config, "metadata").get("team") == "a" else f"{key}: its own metadata is gone"


SCENES: Sequence[Scene] = (
    Leaders(
        "move a stream's leader",
        (stream_step_down.ACTION.kind,),
        _stream_step_down,
        ("STREAM.LEADER.STEPDOWN.{stream}",),
    ),
    Leaders("move the meta leader", (meta_step_down.ACTION.kind,), _meta_step_down, ("META.LEADER.STEPDOWN",)),
    Leaders(
        "spread leaders",
        (leaders_move.ACTION.kind,),
        _both_leaders,
        ("STREAM.LEADER.STEPDOWN.{stream}", "CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}"),
    ),
    Scale(),
    Trial(),
)
