"""What the harness itself fails in is told apart from what the bot fails in."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from bot.lab.process import LabError
from bot.model import ExecutionState
from tests.crash.lanes import Lane, carried_out
from tests.crash.matrix import Report
from tests.crash.oracle import Judged
from tests.crash.proxy import Proxy
from tests.crash.scene import Lab, Situation, Where
from tests.crash.trial import Host, Run, Told


class Bench:
    """A lab of nothing, which counts how often one was made."""

    where = Where.NATS
    version = "none"
    spent = False
    made = 0

    async def __aenter__(self) -> Self:
        type(self).made += 1
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def lost(self, door: Proxy) -> int:
        return door.lost


class Fallen(Bench):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        raise LabError("the servers did not start")


@dataclass(frozen=True)
class Lame:
    """A scene that its lab can't bring about."""

    name: str = "lame"
    kinds: Sequence[str] = ("test.set",)
    where: Where = Where.NATS
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        raise LabError(f"{number} lacks a pod")
        yield


@pytest.fixture(autouse=True)
def labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "made", 0)
    monkeypatch.setattr(Fallen, "made", 0)


async def report_of(folder: Path, lane: Lane, runs: Sequence[Run]) -> Report:
    report = Report(1)
    await carried_out(runs, [lane], folder, report.told.append)
    return report


async def test_what_a_lab_cannot_begin_is_begun_once_more_in_a_new_one_and_is_no_violation(tmp_path: Path):
    report = await report_of(tmp_path, Lane(Where.NATS, lambda _: Bench()), [Run(7, Lame(), ())])
    assert (Bench.made, report.violated) == (2, [])
    assert [(told.unplayed, told.again) for told in report.unplayed] == [("LabError: 7 lacks a pod", True)]
    assert "1 runs were begun again in a new lab, 1 could not be begun at all" in str(report)


async def test_a_lab_that_does_not_open_costs_each_run_two_tries_and_ends(tmp_path: Path):
    report = await report_of(tmp_path, Lane(Where.NATS, lambda _: Fallen()), [Run(1, Lame(), ()), Run(2, Lame(), ())])
    assert Fallen.made == 4
    assert [told.unplayed for told in report.unplayed] == ["no lab: the servers did not start"] * 2


async def test_what_fails_once_the_run_has_begun_is_a_violation_even_if_it_is_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def broken(host: Host, run: Run, lab: Lab) -> Told:
        raise LabError("there is no Pod nats-2")

    monkeypatch.setattr(Host, "carry_out", broken)
    report = await report_of(tmp_path, Lane(Where.NATS, lambda _: Bench()), [Run(1, Lame(), ())])
    assert (Bench.made, report.unplayed) == (1, [])
    assert [told.judged.violations for told in report.violated] == [("harness: LabError: there is no Pod nats-2",)]


async def test_a_lab_that_is_spent_takes_no_further_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def spends(host: Host, run: Run, lab: Lab) -> Told:
        lab.spent = True
        return Told(run, Judged(ExecutionState.DONE, "Done.", ()))

    monkeypatch.setattr(Host, "carry_out", spends)
    report = await report_of(
        tmp_path, Lane(Where.NATS, lambda _: Bench()), [Run(number, Lame(), ()) for number in (1, 2)]
    )
    assert Bench.made == 2
    assert [told.judged.end for told in report.told] == [ExecutionState.DONE] * 2
