"""The buttons of a board over the stand-in Slack, served by the real case desk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.adapters.slack import desk
from bot.lab.slack import FaultKind
from bot.model import Incident
from tests.integration.slack_adapter_support import (
    ADA,
    GRACE,
    GUEST,
    OPS,
    House,
    diagnosis,
    house,
    incident,
    proposal,
    told,
)

pytestmark = pytest.mark.timeout(60)


async def shown(running: House) -> None:
    await running.put(incident(), diagnosis(), proposal())
    await running.drawn()


async def click(running: House, user: str, what: str, **more: object) -> None:
    board = running.message("board")
    outcome = await running.slack.person.click(user, OPS, board.ts, what, **more)  # pyright: ignore[reportArgumentType]
    assert outcome.failure is None


async def form(running: House, user: str) -> str:
    """Wait until the loading view has become something else, and return its words."""

    def settled() -> bool:
        view = running.slack.open_view(user)
        return view is not None and "One moment" not in str(view.body["blocks"])

    await running.until(settled)
    view = running.slack.open_view(user)
    assert view is not None
    return str(view.body["blocks"])


async def stored(running: House) -> Incident:
    found = await running.store.get(Incident, "inc_1")
    assert found is not None
    return found


async def test_the_board_names_its_holder_at_once_and_changes_hands(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        for user in (ADA, GRACE):
            await click(running, user, "take")
            assert "You hold this incident now" in await told(running, user)
            await running.until(lambda user=user: f"'user_id': '{user}'" in str(running.message("board").blocks))
        assert [row.kind for row in await running.audited("incident.taken")] == ["incident.taken"] * 2


async def test_a_silence_is_set_with_a_duration_and_a_reason_and_ended_again(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        before = len(running.slack.messages(OPS))
        await click(running, ADA, "silence")
        await form(running, ADA)
        wrong = await running.slack.person.submit(ADA, {"lasts": "4h", "reason": " "})
        assert set(wrong.errors) == {"reason"}
        assert (await running.slack.person.submit(ADA, {"lasts": "4h", "reason": "upgrade <!channel>"})).ok
        assert "Silenced until" in await told(running, ADA)
        await running.until(lambda: "upgrade <!channel>" in str(running.message("board").blocks))
        assert len(running.slack.messages(OPS)) == before
        await click(running, GRACE, "end_silence")
        await told(running, GRACE)
        assert (await stored(running)).silence is None
        await running.until(lambda: bool(running.of_kind("silence")))


@pytest.mark.parametrize("what", ["take", "silence"])
async def test_a_guest_gets_a_refusal_and_the_incident_stays(tmp_path: Path, what: str) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        before = await stored(running)
        await click(running, GUEST, what)
        said = await form(running, GUEST) if what == "silence" else await told(running, GUEST)
        assert "Guests" in said
        assert "Guests" in await running.refusal()
        assert await stored(running) == before


@pytest.mark.parametrize("what", ["take", "silence"])
@pytest.mark.parametrize("at", ["proposal", "other"])
async def test_a_boards_button_on_another_message_changes_nothing(tmp_path: Path, what: str, at: str) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        before = await stored(running)
        other: dict[str, object] = {"container": {"message_ts": running.message("proposal").ts}}
        if at == "other":
            other = {"actions": [{"action_id": what, "block_id": "case", "type": "button", "value": "inc_2"}]}
        await click(running, ADA, what, overrides=other)
        assert "does not belong to this message" in await running.refusal()
        assert running.slack.open_view(ADA) is None
        assert await stored(running) == before


async def test_a_slow_look_up_is_answered_in_the_form_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        await click(running, ADA, "silence")
        await form(running, ADA)
        monkeypatch.setattr(desk, "DECIDE_PATIENCE", 0.0)
        await running.slack.person.submit(ADA, {"lasts": "1h", "reason": "known"})
        await told(running, ADA)
        assert (await stored(running)).silence is not None


async def test_slack_that_opens_no_form_is_told_to_the_person(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await shown(running)
        running.slack.fault(FaultKind.REFUSED, "views.open", error="expired_trigger_id", count=1)
        await click(running, ADA, "silence")
        assert "Nothing was changed" in await told(running, ADA)
        assert (await stored(running)).silence is None
