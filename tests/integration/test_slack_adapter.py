"""Threads over the stand-in Slack's real sockets and a real database: one message each, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.slack import projector
from bot.adapters.slack.api import PAGE
from bot.lab.slack import FaultKind, mentions
from bot.lab.slack import Message as SlackMessage
from bot.model import Checkpoint, IncidentId, ProposalState
from bot.ports import Message
from tests.integration.slack_adapter_support import (
    ADA,
    OPS,
    House,
    another,
    diagnosis,
    house,
    incident,
    key,
    offer,
    proposal,
    snapshot,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def at_work(tmp_path: Path) -> AsyncGenerator[House]:
    async with house(tmp_path) as running:
        yield running


# --- drawing ---------------------------------------------------------------------------------------------------------


async def test_an_incident_becomes_one_thread_with_its_evidence_attached(at_work: House) -> None:
    await at_work.store.save_snapshot(snapshot())
    await at_work.put(incident(), diagnosis(with_snapshot=True), proposal())
    await at_work.drawn()
    parent = at_work.message("board")
    replies = [m for m in at_work.slack.messages(OPS) if m.ts != parent.ts]
    assert parent.thread_ts is None
    assert {m.thread_ts for m in replies} == {parent.ts}
    files = [at_work.slack.workspace.files[f] for m in replies for f in m.files]
    assert [f.name for f in files] == ["evidence-snap_1.zip"]
    assert files[0].content is not None
    assert files[0].content.startswith(b"PK")


async def test_the_parent_is_edited_in_place_and_nothing_is_posted_twice(at_work: House) -> None:
    await offer(at_work)
    before = at_work.message("board")
    await at_work.put(incident("Consumer stuck, again"))
    await at_work.drawn()
    after = at_work.message("board")
    assert after.ts == before.ts
    assert "again" in after.text
    assert len(at_work.slack.messages(OPS)) == 3


async def test_what_is_drawn_already_costs_no_call(at_work: House) -> None:
    await offer(at_work)
    edits = len(at_work.slack.calls("chat.update"))
    await at_work.put(diagnosis())
    await at_work.drawn()
    drawn = [call.args["ts"] for call in at_work.slack.calls("chat.update")[edits:]]
    assert set(drawn) <= {at_work.message("board").ts}


@pytest.mark.parametrize("method", ["chat.postMessage", "files.completeUploadExternal"])
async def test_a_lost_answer_leaves_exactly_one_message(at_work: House, method: str) -> None:
    await at_work.store.save_snapshot(snapshot())
    at_work.slack.fault(FaultKind.DROP_AFTER_COMMIT, method, count=1)
    await at_work.put(incident(), diagnosis(with_snapshot=True), proposal())
    await at_work.drawn()
    assert sorted(kind for kind in ("board", "verdict", "proposal") if len(at_work.of_kind(kind)) == 1) == [
        "board",
        "proposal",
        "verdict",
    ]
    assert len([m for m in at_work.slack.messages(OPS) if m.files]) == 1


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.DROP_BEFORE_COMMIT])
async def test_a_call_that_did_nothing_is_made_again(at_work: House, kind: FaultKind) -> None:
    at_work.slack.fault(kind, "chat.postMessage", count=2)
    await offer(at_work)
    assert [len(at_work.of_kind(one)) for one in ("board", "verdict", "proposal")] == [1, 1, 1]


async def test_retry_after_is_honoured_to_the_second(at_work: House) -> None:
    at_work.slack.fault(FaultKind.RATE_LIMITED, "chat.postMessage", count=1, seconds=2.0)
    started = time.monotonic()
    await offer(at_work)
    calls = at_work.slack.calls("chat.postMessage")
    assert calls[0].outcome != "ok"
    assert calls[1].at - calls[0].at >= 2.0
    assert time.monotonic() - started < 10
    assert [one.outcome for one in calls[1:]] == ["ok"] * 3


async def test_edits_go_on_while_posts_are_limited(at_work: House) -> None:
    await offer(at_work)
    at_work.slack.fault(FaultKind.RATE_LIMITED, "chat.postMessage", count=1, seconds=30.0)
    newer = diagnosis("It was diagnosed again.").model_copy(update={"id": "diag_2"})
    denied = proposal().model_copy(update={"state": ProposalState.DENIED})
    await at_work.put(newer, denied)
    await at_work.until(lambda: "Denied" in str(at_work.message("proposal").blocks), 5)


async def test_slacks_own_limits_are_never_hit_by_a_busy_channel(tmp_path: Path) -> None:
    async with house(tmp_path, rate_limits=True) as running:
        for number in range(3):
            await running.put(incident(name=str(number + 1)))
        await offer(running)
        assert {call.outcome for call in running.slack.calls("chat.postMessage")} == {"ok"}
        assert len(running.of_kind("board")) == 3


@pytest.mark.parametrize("point", ["P03", "P04"])
async def test_a_crash_between_reservation_and_answer_leaves_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with house(tmp_path, start=False) as running:
        await running.put(incident(), diagnosis())

        def die(name: str) -> None:
            if name == point:
                raise asyncio.CancelledError

        for _ in range(2):
            monkeypatch.setattr(projector, "reached", die)
            crashed = another(running)
            with pytest.raises(asyncio.CancelledError):
                await crashed.chat.draw(IncidentId("inc_1"))
        monkeypatch.undo()
        restarted = another(running)
        await restarted.chat.draw(IncidentId("inc_1"))
        assert sorted(key(m) for m in running.slack.messages(OPS)) == ["board:inc_1", "verdict:diag_1"]


async def test_a_copy_that_arrived_late_is_deleted(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        await running.put(incident())
        for _ in range(2):
            metadata = {"event_type": "natsmedic", "event_payload": {"key": "board:inc_1"}}
            running.slack.workspace.post(OPS, "U0NATSMEDIC", "copy", metadata=metadata)
        await running.store.save(Message(key="board:inc_1", incident_id=IncidentId("inc_1"), channel=OPS))
        await running.adapter.chat.draw(IncidentId("inc_1"))
        assert "copy" not in running.message("board").text


async def test_a_foreign_message_with_our_key_is_never_taken_for_ours(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        await running.put(incident())
        metadata = {"event_type": "natsmedic", "event_payload": {"key": "board:inc_1"}}
        forged = running.slack.workspace.post(OPS, ADA, "forged", metadata=metadata)
        await running.store.save(Message(key="board:inc_1", incident_id=IncidentId("inc_1"), channel=OPS))
        await running.adapter.chat.draw(IncidentId("inc_1"))
        rows = await running.store.of(IncidentId("inc_1"))
        assert [row.ts != forged.ts for row in rows] == [True]


async def test_a_deleted_message_is_posted_anew(at_work: House) -> None:
    await offer(at_work)
    gone = at_work.message("proposal")
    await at_work.adapter._api.delete(OPS, gone.ts)
    await at_work.put(proposal("Recreate the consumer now"))
    await at_work.drawn()
    assert at_work.message("proposal").ts != gone.ts


async def test_a_deleted_parent_is_posted_anew_and_the_thread_goes_on(at_work: House) -> None:
    await at_work.put(incident())
    await at_work.drawn()
    gone = at_work.message("board")
    await at_work.adapter._api.delete(OPS, gone.ts)
    await at_work.put(diagnosis())
    await at_work.drawn()
    assert at_work.message("verdict").thread_ts == at_work.message("board").ts != gone.ts


async def test_nothing_is_lost_while_slack_is_down(at_work: House) -> None:
    await at_work.put(incident())
    await at_work.drawn()
    await at_work.slack.outage(2.0)
    await at_work.put(diagnosis(), proposal())
    await at_work.unwell()
    await at_work.put(incident("Consumer still stuck"))
    await at_work.drawn(30)
    assert [len(at_work.of_kind(one)) for one in ("board", "verdict", "proposal")] == [1, 1, 1]
    assert "still stuck" in at_work.message("board").text
    assert at_work.adapter.chat.health().ok
    await at_work.slack.connected(15)
    async with asyncio.timeout(5):
        while not at_work.adapter.health().ok:
            await asyncio.sleep(0.02)


async def test_before_the_end_everything_is_drawn_or_the_time_is_over(at_work: House) -> None:
    chat = at_work.adapter.chat
    await at_work.put(incident(), diagnosis(), proposal())
    await chat.caught_up(30)
    assert await at_work.store.behind() == []
    assert [len(at_work.of_kind(one)) for one in ("board", "verdict", "proposal")] == [1, 1, 1]
    await at_work.slack.outage(60)
    await at_work.put(incident("Consumer still stuck").model_copy(update={"revision": 9}))
    began = time.monotonic()
    await chat.caught_up(0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert await at_work.store.behind() != []


async def test_a_channel_without_the_bot_is_said_in_health_and_blocks_no_other(at_work: House) -> None:
    await at_work.put(incident(name="2", channel="C0OUT"))
    await at_work.put(incident())
    await at_work.until(lambda: len(at_work.of_kind("board")) == 1)
    problem = await at_work.unwell()
    assert "not_in_channel" in problem
    assert "C0OUT" in problem


async def test_a_revoked_token_is_said_in_health(at_work: House) -> None:
    at_work.slack.fault(FaultKind.REFUSED, "chat.postMessage", error="token_revoked")
    await at_work.put(incident())
    assert "token_revoked" in await at_work.unwell()


async def test_a_message_slack_finds_too_big_is_shown_without_buttons(at_work: House) -> None:
    await at_work.put(incident(), diagnosis())
    await at_work.drawn()
    at_work.slack.fault(FaultKind.REFUSED, "chat.postMessage", error="msg_blocks_too_long")
    await at_work.put(proposal())
    await at_work.drawn()
    assert "actions" not in {block["type"] for block in at_work.message("proposal").blocks}


HOSTILE = [
    "<!channel> <@U0ADA> <http://evil.example|https://grafana>",
    "\u202eevil\u200b\x00",
    "&lt;!here&gt; `code` *bold*",
    "x" * 1_048_576,
]


def mrkdwn(message: SlackMessage) -> list[str]:
    """Everything of a message that Slack parses."""
    parts = [part for block in message.blocks for part in block.get("elements", ())]
    return [message.text, *(part["text"] for part in parts if part.get("type") == "mrkdwn")]


@pytest.mark.parametrize("words", HOSTILE)
async def test_hostile_labels_are_inert_in_slack(at_work: House, words: str) -> None:
    await at_work.put(incident(words), diagnosis(words), proposal(words))
    await at_work.drawn()
    shown = at_work.slack.messages(OPS)
    assert len(shown) >= 3
    assert not [found for one in shown for found in mentions(" ".join(mrkdwn(one)))]
    assert not [one for one in shown if "<" in one.text]


async def test_the_newest_checkpoint_of_a_busy_channel_is_the_bots_own_and_is_found_from_the_end(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, start=False) as running:
        place = running.adapter.checkpoints(OPS, SystemClock())
        assert await place.newest() is None
        for seq in (1, 2):
            await place.keep(Checkpoint(seq=seq, hash=f"{seq}" * 64))
        for number in range(PAGE + 10):
            running.slack.person.say(ADA, OPS, f"Audit log of natsmedic: row {number} has hash {'9' * 64}")
        found = await place.newest()
        assert found is not None
        assert (found.seq, found.hash) == (2, "2" * 64)
