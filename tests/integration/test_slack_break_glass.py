"""Breaking the glass in Slack: the box of those who may, and the announcement to those who are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.model import ProposalState
from bot.settings import GroupSettings
from tests.integration import slack_adapter_support as support
from tests.integration.slack_adapter_support import ADA, APPROVAL, GRACE, House, house, offer, press, state, told

GROUPS = support.RULES.groups | {"keepers": GroupSettings(users=(ADA,))}
RULES = support.RULES.model_copy(update={"groups": GROUPS, "break_glass": ("keepers",)})


@pytest.fixture(autouse=True)
def with_keepers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "RULES", RULES)


async def opened(running: House, user: str) -> set[str]:
    """Press Approve and return the fields of the form."""
    await press(running, user)
    await running.until(lambda: running.slack.open_view(user) is not None)
    view = running.slack.open_view(user)
    assert view is not None
    return {str(block["block_id"]) for block in view.body["blocks"] if block["type"] == "input"}


async def test_a_keeper_who_ticks_the_box_approves_alone_and_the_others_are_called_once(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        assert await opened(running, ADA) == {"typed_name", "break_glass", "reason"}
        sent = APPROVAL | {"break_glass": "break_glass"}
        assert (await running.slack.person.submit(ADA, sent)).ok
        assert "You broke the glass in place of owners" in await told(running, ADA)
        assert await state(running) is ProposalState.APPROVED
        assert len(await running.audited("glass.broken")) == 1
        await running.until(lambda: bool(running.of_kind("glass")))
        announced = running.message("glass")
        assert "broke the glass and approved alone: Recreate the consumer. Reason: it is stuck" in announced.text
        assert "S0OWN" in str(announced.blocks)
        await running.until(lambda: "broke the glass" in str(running.message("board").blocks))
        assert "approved alone (broke the glass)" in str(running.message("proposal").blocks)


async def test_an_unticked_box_is_an_approval_like_any_other_and_may_be_ticked_later(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await opened(running, ADA)
        assert (await running.slack.person.submit(ADA, APPROVAL)).ok
        assert "1 of 2" in await told(running, ADA)
        assert await state(running) is ProposalState.PENDING
        assert running.of_kind("glass") == []
        assert "break_glass" in await opened(running, ADA)
        assert (await running.slack.person.submit(ADA, APPROVAL | {"break_glass": "break_glass"})).ok
        assert "You broke the glass" in await told(running, ADA, 2)
        assert len(await running.store.approvals("prop_1")) == 1


async def test_who_is_no_keeper_has_no_box_and_a_form_with_one_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        assert await opened(running, GRACE) == {"typed_name", "reason"}
        assert "break_glass" in await opened(running, ADA)
        forged = {"user": {"id": GRACE}}
        await running.slack.person.submit(ADA, APPROVAL | {"break_glass": "break_glass"}, overrides=forged)
        assert "You may not break the glass: only people of keepers may." in await told(running, GRACE)
        assert await state(running) is ProposalState.PENDING
        assert await running.store.approvals("prop_1") == []
