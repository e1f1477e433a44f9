"""*Other values…* over the stand-in Slack: its form, its errors, and who is refused before one opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.adapters.slack.modals import TUNED
from bot.adapters.slack.wanted import TUNE
from bot.model import ProposalState
from tests.integration.knob import knob_proposal, stages
from tests.integration.slack_adapter_support import (
    ADA,
    GRACE,
    GUEST,
    OPS,
    House,
    diagnosis,
    house,
    incident,
    key,
    offer,
    press,
    told,
)

pytestmark = pytest.mark.timeout(60)


async def offer_knob(running: House) -> None:
    await running.put(incident(), diagnosis(), knob_proposal())
    await running.drawn()


def form_of(running: House, user: str) -> str:
    view = running.slack.open_view(user)
    return str(view.body.get("callback_id")) if view is not None else ""


async def open_form(running: House, user: str = ADA) -> None:
    await press(running, user, TUNE)
    await running.until(lambda: form_of(running, user) == TUNED)


async def test_another_value_makes_a_new_message_without_touching_who_has_to_approve(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        await open_form(running)
        assert (await running.slack.person.submit(ADA, {"Pace": "5"})).ok
        assert "somebody else approves it" in await told(running, ADA)
        await running.until(lambda: len(running.of_kind("proposal")) == 2)
        await running.drawn()
        old, new = running.of_kind("proposal")
        assert "Superseded" in str(old.blocks)
        assert not [block for block in old.blocks if block["type"] == "actions"]
        assert "Turn it to 5" in str(new.blocks)
        await running.slack.person.click(ADA, OPS, new.ts, "approve")
        await running.until(lambda: any("You asked for this change" in m.text for m in running.slack.ephemerals(ADA)))
        await running.slack.person.click(GRACE, OPS, new.ts, "approve")
        await running.until(lambda: running.slack.open_view(GRACE) is not None)


async def test_a_value_outside_its_bounds_is_an_error_under_its_field(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        await open_form(running)
        outcome = await running.slack.person.submit(ADA, {"Pace": "900"})
        assert outcome.errors == {"pace": "'900' is outside; expected a number, from 0.5 to 50."}
        assert [one.state for one in await running.store.proposals()] == [ProposalState.PENDING]


async def test_the_same_form_sent_twice_makes_one_proposal(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        await open_form(running)
        await running.slack.person.submit(ADA, {"Pace": "5"}, copies=2)
        await running.until(lambda: len(running.of_kind("proposal")) == 2)
        assert len(await running.store.proposals()) == 2


async def test_a_guest_is_shown_a_refusal_in_place_of_the_form(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        await press(running, GUEST, TUNE)
        assert "Guests" in await running.refusal()
        assert form_of(running, GUEST) != TUNED
        assert len(await running.store.proposals()) == 1


async def test_a_guest_who_sends_a_members_form_proposes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        await open_form(running)
        await running.slack.person.submit(ADA, {"Pace": "5"}, overrides={"user": {"id": GUEST}})
        assert "Guests" in await running.refusal()
        assert len(await running.store.proposals()) == 1


async def test_a_button_on_a_message_that_is_not_its_own_proposes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, stages=stages()) as running:
        await offer_knob(running)
        board = running.message("board")
        forged = {"container": {"message_ts": board.ts}}
        await press(running, ADA, TUNE, overrides=forged)
        assert "does not belong to this message" in await running.refusal()
        assert running.slack.open_view(ADA) is None


async def test_a_proposal_without_such_values_has_no_such_button(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        shown = next(m for m in running.slack.messages(OPS) if key(m).startswith("proposal:"))
        assert TUNE not in [part.get("action_id") for block in shown.blocks for part in block.get("elements", ())]
