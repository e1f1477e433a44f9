"""What becomes of a draft that its own actions refuse."""

from typing import Any, cast

import pytest

from bot.action import Action, Check, Draft
from bot.errors import Refused, Unreadable
from bot.flow.stages import Stages, one_look
from bot.model import Endpoint, Preview, Record, RiskClass
from bot.ports import Readers

READERS = cast("Readers", object())
DRAFT = Draft(title="Set", why="a test", stages=(("test.set", {}),))
PREVIEW = Preview(summary="set", blast_radius="the test", way_back="none")


class Params(Record):
    """Nothing."""


class Doubtful:
    """An action that says at a check or at a preview what a test wants."""

    kind = "test.set"
    risk = RiskClass.LOW
    params = Params

    def __init__(self, refusals: tuple[str, ...], at_preview: Exception | None, needless: str = "") -> None:
        self.refusals = refusals
        self.needless = needless
        self.at_preview = at_preview
        self.previews = 0

    async def check(self, readers: Readers, params: Params) -> Check:
        del readers, params
        return Check(world={"leader": "n0"}, refusals=self.refusals, needless=self.needless)

    async def preview(self, readers: Readers, params: Params) -> Preview:
        del readers, params
        self.previews += 1
        if self.at_preview:
            raise self.at_preview
        return PREVIEW


def stages(refusals: tuple[str, ...] = (), at_preview: Exception | None = None) -> tuple[Doubtful, Stages]:
    action = Doubtful(refusals, at_preview)
    return action, Stages({"test.set": cast("Action[Any]", action)})


async def test_a_draft_that_nothing_speaks_against_is_offered_with_its_world() -> None:
    plan = await stages()[1].plan(READERS, DRAFT)
    assert ([s.preview for s in plan.stages], plan.world, plan.risk) == ([PREVIEW], {"leader": "n0"}, RiskClass.LOW)


async def test_what_the_first_check_refuses_is_guidance_and_nobody_asks_for_a_preview() -> None:
    action, made = stages(("It is gone.", "It is held."))
    plan = await made.plan(READERS, DRAFT)
    assert (plan.stages, plan.guidance) == ((), ("Not offered: It is gone.", "Not offered: It is held."))
    assert action.previews == 0


class Looking:
    """Readers that count their looks."""

    cluster = "prod"

    def __init__(self) -> None:
        self.looks: list[frozenset[Endpoint]] = []

    async def gather(self, needs: frozenset[Endpoint], *, again: object = None) -> str:
        del again
        self.looks.append(needs)
        return f"look {len(self.looks)}"

    async def look_elsewhere(self) -> None:
        self.looks.append(frozenset())


async def test_all_stages_of_a_draft_judge_one_look_at_the_servers() -> None:
    real = Looking()
    readers = one_look(cast("Readers", real))
    varz, jsz = frozenset({Endpoint.VARZ}), frozenset({Endpoint.JSZ})
    assert [cast("str", await readers.gather(needs)) for needs in (varz, varz, jsz, varz)] == [
        "look 1",
        "look 1",
        "look 2",
        "look 1",
    ]
    assert readers.cluster == "prod"
    await readers.look_elsewhere()
    assert cast("str", await readers.gather(varz)) == "look 4"
    await readers.gather(varz, again=lambda _: None)
    assert real.looks == [varz, jsz, frozenset(), varz, varz]


async def test_what_is_not_needed_any_more_is_not_offered() -> None:
    action = Doubtful((), None, "n0 has its share.")
    plan = await Stages({"test.set": cast("Action[Any]", action)}).plan(READERS, DRAFT)
    assert (plan.stages, plan.guidance) == ((), ("Not offered: n0 has its share.",))
    assert action.previews == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refused("The API server would refuse it."), "Not offered: The API server would refuse it."),
        (Unreadable("no answer"), "Not offered: a fact it rests on could not be read. no answer"),
    ],
)
async def test_a_preview_that_can_not_be_made_is_guidance_too(error: Exception, said: str) -> None:
    plan = await stages(at_preview=error)[1].plan(READERS, DRAFT)
    assert (plan.stages, plan.guidance) == ((), (said,))
