"""A change that arrives late (reference/safety.md X3): it was given up for lost, and takes effect all the same. Applied once, and never over a newer one."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.lab.jetstream import request, section
from bot.model import ExecutionState
from tests.crash.databases import SqliteFiles
from tests.crash.scene import Lab, Scene, Situation, Where
from tests.crash.scenes_nats import API_TIMEOUT, WORKER, NatsLab, Recreate, StepDown
from tests.crash.trial import Host, Run, Told
from tests.exhaustive import chosen

VERSION = "2.15.1"
SHORT, LONG = 1.5, 2.5
"""API time-outs for which nobody answers: the first ends while the receipt is read, the second after the change was sent once more."""

Interfere = Callable[[NatsLab, Situation], Situation]


@dataclass(frozen=True)
class Interfered:
    """A scene in which something happens between the bot and the servers."""

    real: Scene
    interfere: Interfere

    @property
    def name(self) -> str:
        return self.real.name

    @property
    def kinds(self) -> Sequence[str]:
        return self.real.kinds

    @property
    def where(self) -> Where:
        return self.real.where

    @property
    def share(self) -> int:
        return self.real.share

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        assert isinstance(lab, NatsLab)
        async with self.real.open(lab, number) as situation:
            yield self.interfere(lab, situation)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncGenerator[NatsLab]:
    async with NatsLab(tmp_path / "nats", VERSION) as opened:
        yield opened


async def carried_out(folder: Path, lab: NatsLab, scene: Scene, number: int) -> Told:
    told = await Host(SqliteFiles(folder / f"host{number}")).carry_out(Run(number, scene, ()), lab)
    assert not told.judged.violations, f"{told.run.told}: {told.judged}"
    return told


def frozen_for(what: str, leader: Callable[[NatsLab], Awaitable[str]], time_outs: float) -> Interfere:
    """Freeze the leader right before a change goes out to it, and let it go on later: what waited for it is done then."""

    def interfere(lab: NatsLab, situation: Situation) -> Situation:
        thawing: list[asyncio.Task[None]] = []

        async def freeze() -> None:
            server = await leader(lab)
            await lab.cluster.freeze(server)
            thawing.append(asyncio.create_task(thaw(server)))

        async def thaw(server: str) -> None:
            await asyncio.sleep(time_outs * API_TIMEOUT)
            await lab.cluster.thaw(server)

        async def calm() -> None:
            await asyncio.gather(*thawing)
            await asyncio.sleep(API_TIMEOUT)

        situation.door.meet[what] = freeze
        return replace(situation, calm=calm)

    return interfere


async def meta_leader(lab: NatsLab) -> str:
    return await lab.cluster.wait_ready()


async def consumer_leader(lab: NatsLab) -> str:
    streams = (await request(lab.client, "STREAM.NAMES"))["streams"]
    info = await request(lab.client, f"CONSUMER.INFO.{streams[0]}.{WORKER}")
    return str(section(info, "cluster")["leader"])


CASES = [
    ("CONSUMER.DELETE", SHORT),
    ("CONSUMER.DELETE", LONG),
    ("CONSUMER.CREATE", SHORT),
    ("CONSUMER.CREATE", LONG),
    ("CONSUMER.LEADER.STEPDOWN", SHORT),
    ("CONSUMER.LEADER.STEPDOWN", LONG),
]


@pytest.mark.parametrize(("what", "time_outs"), chosen(CASES, [CASES[1], CASES[3]]))
async def test_a_change_that_a_paused_leader_makes_late_is_made_once(
    tmp_path: Path, lab: NatsLab, what: str, time_outs: float
):
    scene, leader = (StepDown(), consumer_leader) if "STEPDOWN" in what else (Recreate(), meta_leader)
    told = await carried_out(tmp_path, lab, Interfered(scene, frozen_for(what, leader, time_outs)), 1)
    assert told.judged.end in {ExecutionState.DONE, ExecutionState.NEEDS_HUMAN}


async def test_a_creation_that_comes_after_somebody_elses_overwrites_nothing_and_calls_a_person(
    tmp_path: Path, lab: NatsLab
):
    seen: list[str] = []

    def overtaken(lab: NatsLab, situation: Situation) -> Situation:
        (_, create) = situation.stages[1]

        async def somebody_is_faster() -> None:
            config = {key: value for key, value in create["config"].items() if key != "metadata"}
            body = {"stream_name": create["stream"], "action": "create", "config": config | {"description": "theirs"}}
            await request(lab.client, f"CONSUMER.CREATE.{create['stream']}.{WORKER}", body)
            await asyncio.sleep(SHORT * API_TIMEOUT)

        async def look() -> None:
            info = await request(lab.client, f"CONSUMER.INFO.{create['stream']}.{WORKER}")
            seen.append(str(section(info, "config").get("description")))

        situation.door.meet["CONSUMER.CREATE"] = somebody_is_faster
        return replace(situation, calm=look)

    told = await carried_out(tmp_path, lab, Interfered(Recreate(), overtaken), 1)
    assert told.judged.end is ExecutionState.NEEDS_HUMAN
    assert "something else may have changed the object" in told.judged.sentence
    assert seen == ["theirs"]
