"""The runner of drills on a clock of its own: what comes in its window passes, what comes too soon, too late or does not stay fails with what was seen."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.errors import Unreadable
from bot.lab.process import LabError
from bot.lab.script import (
    EARLY,
    POLL_SECONDS,
    TOLERANCE,
    Expect,
    Fault,
    Outcome,
    Report,
    Script,
    Seen,
    Step,
    Tell,
    play,
    run,
)


@dataclass
class Clock:
    at: float = 100.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Lamp:
    """A world in which a lamp is lit from one second to another, counted from the fault that lights it."""

    clock: Clock
    lit_from: float = 0.0
    lit_to: float = 1e9
    since: float = 0.0
    forgotten: int = 0

    def forget(self) -> None:
        self.forgotten += 1

    async def light(self) -> str:
        self.since = self.clock.now()
        return "the switch is on"


async def light(lamp: Lamp) -> str:
    return await lamp.light()


async def shines(lamp: Lamp) -> Seen:
    seconds = lamp.clock.now() - lamp.since
    return Seen(lamp.lit_from <= seconds < lamp.lit_to, f"after {seconds:g} s")


async def played(steps: tuple[Step[Lamp], ...], lit_from: float = 0.0, lit_to: float = 1e9) -> tuple[Report, list[str]]:
    clock, said = Clock(), list[str]()
    return await play(steps, Lamp(clock, lit_from, lit_to), said.append, clock), said


SWITCH: Fault[Lamp] = Fault("the lamp is switched on", light)


def lamp_shines(*, earliest: float = 0.0, holds: float = 0.0) -> Expect[Lamp]:
    return Expect("it shines", shines, latest=5.0, earliest=earliest, holds=holds)


def outcomes(report: Report) -> list[Outcome]:
    return [line.outcome for line in report.lines]


async def test_what_is_seen_in_its_window_passes_and_says_when() -> None:
    report, said = await played((SWITCH, lamp_shines()), lit_from=3.0)
    assert outcomes(report) == [Outcome.DONE, Outcome.SEEN]
    assert report.lines[1].took == 3.0
    assert "it shines (0 to 5 s after it: 3.0 s)" in said[1]
    assert "after 3 s" in said[1]
    assert report.verdict == "passed: 1 of 1 expectations met"


@pytest.mark.parametrize(
    ("lit_from", "outcome"),
    [
        (5.0 + TOLERANCE, Outcome.SEEN),
        (5.0 + TOLERANCE + POLL_SECONDS, Outcome.MISSED),
    ],
)
async def test_the_tolerance_ends_where_it_says(lit_from: float, outcome: Outcome) -> None:
    report, _ = await played((SWITCH, lamp_shines()), lit_from=lit_from)
    assert outcomes(report)[1] is outcome


async def test_an_expectation_that_fails_makes_the_drill_fail_with_what_was_seen() -> None:
    report, said = await played((SWITCH, lamp_shines()), lit_from=1e6)
    assert not report.passed
    assert report.lines[1].outcome is Outcome.MISSED
    assert report.lines[1].observed == "after 15.5 s"
    assert "missed" in said[1]
    assert "after 15.5 s" in said[1]
    assert report.verdict == "FAILED: 0 of 1 expectations met"


@pytest.mark.parametrize(("lit_from", "outcome"), [(3.0 - EARLY, Outcome.SEEN), (1.5, Outcome.TOO_SOON)])
async def test_what_comes_before_its_time_is_as_wrong(lit_from: float, outcome: Outcome) -> None:
    report, _ = await played((SWITCH, lamp_shines(earliest=3.0)), lit_from=lit_from)
    assert outcomes(report)[1] is outcome


@pytest.mark.parametrize(("lit_to", "outcome"), [(2.0, Outcome.BROKE), (1e9, Outcome.SEEN)])
async def test_what_must_stay_is_watched_as_long(lit_to: float, outcome: Outcome) -> None:
    report, _ = await played((SWITCH, lamp_shines(holds=4.0)), lit_to=lit_to)
    assert outcomes(report)[1] is outcome
    assert report.lines[1].at == (2.0 if outcome is Outcome.BROKE else 4.0)


async def test_a_fault_waits_for_its_time_after_the_fault_before() -> None:
    report, _ = await played((SWITCH, Fault("again", light, after=7.0)))
    assert [line.at for line in report.lines] == [0.0, 7.0]


async def test_a_fault_waits_until_what_was_expected_before_is_settled() -> None:
    report, _ = await played((SWITCH, lamp_shines(), Fault("again", light, after=1.0)), lit_from=4.0)
    assert [line.at for line in report.lines] == [0.0, 4.0, 4.0]


async def test_what_is_expected_after_one_fault_is_looked_for_together() -> None:
    clock = Clock()
    lamp = Lamp(clock, lit_from=2.0)
    late: Expect[Lamp] = Expect("it shines later", shines, 5.0, earliest=2.0)
    report = await play((SWITCH, lamp_shines(), late), lamp, lambda _: None, clock)
    assert [line.at for line in report.lines[1:]] == [2.0, 2.0]
    assert lamp.forgotten == 5


async def test_nothing_is_done_after_a_failure_and_each_step_that_was_not_reached_is_named() -> None:
    report, said = await played((SWITCH, lamp_shines(), SWITCH, lamp_shines()), lit_from=1e6)
    assert outcomes(report) == [Outcome.DONE, Outcome.MISSED, Outcome.NOT_REACHED, Outcome.NOT_REACHED]
    assert sum("not reached" in line for line in said) == 2
    assert report.verdict == "FAILED: 0 of 2 expectations met"


async def broken(lamp: Lamp) -> str:
    raise LabError("the switch is broken")


async def test_a_fault_that_cannot_be_done_fails_the_drill_and_says_why() -> None:
    report, said = await played((Fault("the lamp is switched on", broken), SWITCH, lamp_shines()))
    assert outcomes(report) == [Outcome.FAILED, Outcome.NOT_REACHED, Outcome.NOT_REACHED]
    assert "LabError: the switch is broken" in said[0]


async def test_servers_that_cannot_be_asked_are_looked_at_again() -> None:
    asked = 0

    async def look(lamp: Lamp) -> Seen:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise Unreadable("nobody answers")
        return await shines(lamp)

    report, _ = await played((SWITCH, Expect("it shines", look)))
    assert outcomes(report)[1] is Outcome.SEEN
    assert asked == 3


async def test_a_look_that_never_succeeds_says_why() -> None:
    async def look(lamp: Lamp) -> Seen:
        raise Unreadable("nobody answers")

    report, _ = await played((SWITCH, Expect("it shines", look)))
    assert report.lines[1].observed == "nothing could be seen: Unreadable: nobody answers"


async def test_what_changes_by_being_looked_at_is_looked_at_once() -> None:
    report, said = await played((SWITCH, Expect("it shines", shines, once=True)), lit_from=1.0)
    assert report.lines[1].outcome is Outcome.MISSED
    assert "(at once: 0.0 s)" in said[1]


@pytest.mark.parametrize("lit_from", [0.0, 1e6])
async def test_what_a_drill_starts_ends_with_it_whatever_came_of_it(lit_from: float, tmp_path: Path) -> None:
    ended: list[str] = []
    clock = Clock()

    @asynccontextmanager
    async def stage(directory: Path, say: Tell) -> AsyncGenerator[Lamp]:
        del directory, say
        try:
            yield Lamp(clock, lit_from)
        finally:
            ended.append("ended")

    script = Script("lamp", "a lamp", "nowhere", stage, (SWITCH, lamp_shines()))
    report = await run(script, tmp_path, lambda _: None, clock)
    assert report.passed is (lit_from == 0.0)
    assert ended == ["ended"]


async def test_a_drill_that_is_cancelled_ends_what_it_started(tmp_path: Path) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    @asynccontextmanager
    async def stage(directory: Path, say: Tell) -> AsyncGenerator[Lamp]:
        del directory, say
        try:
            yield Lamp(Clock())
        finally:
            ended.append("ended")

    async def forever(lamp: Lamp) -> str:
        del lamp
        begun.set()
        await asyncio.Event().wait()
        return ""

    playing = asyncio.create_task(
        run(Script("lamp", "a lamp", "nowhere", stage, (Fault("wait", forever),)), tmp_path, lambda _: None, Clock())
    )
    await begun.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert ended == ["ended"]
