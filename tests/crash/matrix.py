"""Which runs there are, and the report of what became of them.

First every point of every action of every scene, one death each, then each answer lost and each repair that does not help, and from there on runs drawn
by chance: several deaths in a row, with or without a lost answer. The seed and the number of a run say all about it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.crashpoints import Point
from tests.crash.child import Death
from tests.crash.scene import Scene
from tests.crash.trial import Run, Told

ONCE: Final = (Point.P09, Point.P10, Point.P16)
"""The points that an execution passes once."""
EACH_STAGE: Final = (Point.P11, Point.P12, Point.P13, Point.P14, Point.P15)
"""Those that each of its stages passes."""
LATER: Final = (*ONCE[1:], *EACH_STAGE)
"""Those that a life after the first may come to."""
LONGEST_PAUSE: Final = 2.0
"""Seconds between a death and the next life."""


def systematic(scenes: Iterable[Scene], seed: int) -> Iterator[Run]:
    """Every point once, every lost answer, and every repair that does not help."""
    number = 0
    for scene in scenes:
        deaths = [Death(point) for point in ONCE]
        deaths += [Death(point, 1, stage) for stage in one_of_each_kind(scene) for point in EACH_STAGE]
        for death in deaths:
            number += 1
            yield Run(number, scene, (death,), pause=_dice(seed, number).uniform(0, LONGEST_PAUSE))
        for stage in one_of_each_kind(scene):
            number += 1
            yield Run(number, scene, (), lost=stage)
            number += 1
            yield Run(number, scene, (), doubted=stage)


def one_of_each_kind(scene: Scene) -> list[int]:
    """Return the first stage of each kind of action: what several servers are asked for one after another is the same for each."""
    return [stage for stage, kind in enumerate(scene.kinds) if kind not in scene.kinds[:stage]]


def by_chance(scenes: Sequence[Scene], seed: int, number: int) -> Run:
    """Return run `number`, drawn by the seed: one to three deaths, and maybe a lost answer or a repair that does not help."""
    dice = _dice(seed, number)
    (scene,) = dice.choices(scenes, [one.share for one in scenes])
    stages = range(len(scene.kinds))
    first = dice.choice((Point.P10, *EACH_STAGE))
    deaths = [Death(first, 1, dice.choice(stages) if first in EACH_STAGE else None)]
    deaths += [Death(dice.choice(LATER), dice.choice((1, 1, 2))) for _ in range(dice.choice((0, 0, 1, 1, 2)))]
    return Run(
        number,
        scene,
        tuple(deaths),
        lost=dice.choice(stages) if dice.random() < 0.25 else None,
        doubted=dice.choice(stages) if dice.random() < 0.2 else None,
        pause=dice.uniform(0, LONGEST_PAUSE),
    )


def planned(scenes: Sequence[Scene], seed: int, count: int) -> list[Run]:
    """Return at least `count` runs, and never less than every point of every action."""
    runs = list(systematic(scenes, seed))
    return [*runs, *(by_chance(scenes, seed, number) for number in range(len(runs) + 1, count + 1))]


def _dice(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}/{number}")


@dataclass
class Report:
    """What became of all runs so far."""

    seed: int
    told: list[Told] = field(default_factory=list[Told])

    @property
    def violated(self) -> list[Told]:
        return [told for told in self.told if told.judged.violations]

    @property
    def unplayed(self) -> list[Told]:
        return [told for told in self.told if told.unplayed]

    def __str__(self) -> str:
        return "\n".join((*self._table(), "", *self._ends(), "", *self._violations()))

    def _table(self) -> Iterator[str]:
        deaths = Counter((kind, point) for told in self.told for point, kind in told.died)
        points = (*ONCE[:2], *EACH_STAGE, ONCE[2])
        yield f"{'killed while it was on':<26}" + "".join(f"{point:>6}" for point in points)
        for kind in sorted({kind for kind, _ in deaths}):
            yield f"{kind:<26}" + "".join(f"{deaths[kind, point] or '-':>6}" for point in points)
        yield f"{'all':<26}" + "".join(
            f"{sum(n for (_, at), n in deaths.items() if at is point):>6}" for point in points
        )

    def _ends(self) -> Iterator[str]:
        lives = Counter(len(told.died) for told in self.told)
        ends = Counter(told.judged.end for told in self.told if not told.unplayed)
        yield f"{len(self.told)} runs, {sum(times * n for times, n in lives.items())} deaths, seed {self.seed}"
        yield "ended " + ", ".join(f"{end} {n}" for end, n in ends.most_common())
        asked = sum(told.run.lost is not None for told in self.told)
        yield f"{asked} runs were to lose an answer, and {sum(told.lost for told in self.told)} were lost; {sum(told.run.doubted is not None for told in self.told)} runs with a repair that does not help"
        yield f"{sum(told.again for told in self.told)} runs were begun again in a new lab, {len(self.unplayed)} could not be begun at all"
        yield from (f"- run {told.run.number}: {told.run.told}: {told.unplayed}" for told in self.unplayed)
        yield from (
            f"- run {told.run.number} was not cleared away: {told.uncleared}" for told in self.told if told.uncleared
        )

    def _violations(self) -> Iterator[str]:
        yield f"violations of I1 to I7: {sum(len(told.judged.violations) for told in self.violated)}"
        for told in self.violated:
            yield f"- run {told.run.number}: {told.run.told}: it ended {told.judged.end}: {told.judged.sentence}"
            yield from (f"    {violation}" for violation in told.judged.violations)
            yield f"    again: python -m tests.crash --seed {self.seed} --only {told.run.number}"
