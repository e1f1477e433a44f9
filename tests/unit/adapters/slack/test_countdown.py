"""What is said of the time that is left, at each of its steps, and when a thread has to be drawn for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from bot.adapters.slack.countdown import LOOK_SECONDS, STEPS, Countdown, bound, time_left
from bot.adapters.slack.render import render
from bot.adapters.slack.render_home import HomeFacts, home_view
from bot.adapters.slack.wanted import Case, ProposalCase
from bot.model import IncidentId, Proposal, ProposalState
from tests.integration.store_records import FixedClock
from tests.unit.adapters.slack.slack_records import NOW, RULES, case, diagnosis, incident, proposal

INC = IncidentId("inc_1")
TICK = timedelta(microseconds=1)


class Offers:
    """A store with these proposals, which counts how often it is asked."""

    def __init__(self, *offers: Proposal) -> None:
        self.offers = offers
        self.reads = 0

    async def proposals(self, *, active_only: bool) -> Sequence[Proposal]:
        assert active_only
        self.reads += 1
        return self.offers


def counting(*offers: Proposal) -> tuple[Countdown, Offers, FixedClock]:
    store, clock = Offers(*offers), FixedClock()
    clock.time = NOW
    return Countdown(cast("Any", store), clock), store, clock


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_said_from_exactly_then_on(step: int) -> None:
    higher = min((one for one in STEPS if one > step), default=None)
    left = timedelta(minutes=step)
    assert bound(NOW + left + TICK, NOW) == higher
    assert bound(NOW + left, NOW) == bound(NOW + left - TICK, NOW) == step
    assert time_left(NOW + left, NOW) == f" (at most {step} min left)"


def test_what_was_said_stays_true_until_the_end_and_after_it() -> None:
    expires = NOW + timedelta(minutes=70)
    for second in range(0, 75 * 60, 7):
        now = NOW + timedelta(seconds=second)
        found = bound(expires, now)
        assert found is None or expires - now <= timedelta(minutes=found)
    assert time_left(expires, NOW) == "", "far ahead the time of the day is enough"


async def test_a_thread_is_due_once_at_each_step_and_not_between_them() -> None:
    countdown, _, clock = counting(proposal())
    due: list[int] = []
    for second in range(12 * 60):
        clock.time = NOW + timedelta(seconds=second)
        for found in await countdown.due(changed=False):
            due.append(second)
            countdown.drawn(found, countdown.bounds(found))
    assert due == [0, 300, 540], "when it starts, and with 5 and with 1 minute left of 10"


async def test_a_thread_that_could_not_be_drawn_stays_due() -> None:
    countdown, _, clock = counting(proposal())
    assert await countdown.due(changed=False) == [INC]
    assert await countdown.due(changed=False) == [INC]
    early = countdown.bounds(INC)
    clock.time += timedelta(minutes=5)
    countdown.drawn(INC, early)
    assert await countdown.due(changed=False) == [INC], "what was drawn meanwhile is a step behind"


@pytest.mark.parametrize("state", [state for state in ProposalState if state is not ProposalState.PENDING])
async def test_nothing_is_counted_where_nothing_is_waited_for(state: ProposalState) -> None:
    countdown, _, _ = counting(proposal(state=state))
    assert await countdown.due(changed=True) == []


async def test_the_store_is_asked_where_something_has_changed_and_else_four_times_a_minute() -> None:
    countdown, store, clock = counting()
    for _ in range(60):
        await countdown.due(changed=False)
        clock.time += timedelta(seconds=1)
    assert store.reads == 60 / LOOK_SECONDS
    store.offers = (proposal(),)
    assert await countdown.due(changed=True) == [INC]


def test_the_card_the_board_and_the_home_say_it_and_without_it_only_the_time() -> None:
    offered = proposal()
    shown = render(Case(incident(), (diagnosis(),), (ProposalCase(offered, left=" (at most 5 min left)"),)), RULES)
    told = [one.key.partition(":")[0] for one in shown if "at most 5 min left" in str(one.blocks)]
    assert told == ["board", "proposal"]
    assert "min left" not in str([one.blocks for one in render(case("words"), RULES)])
    waiting = ((offered, ""),)
    for now, words in ((None, False), (NOW + timedelta(minutes=7), True)):
        view = home_view(HomeFacts("You.", waiting=waiting, now=now))
        assert ("at most 5 min left" in str(view)) is words
