"""Pictures in a thread: after the verdict, once for what they show, and never in the way of words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.adapters.slack import projector
from bot.adapters.slack.projector import FILE_TRIES
from bot.lab.slack import FaultKind, mentions
from bot.lab.slack import Message as SlackMessage
from bot.lab.slack.records import StoredFile
from bot.model import Chart, IncidentId
from tests.integration.slack_adapter_support import (
    OPS,
    House,
    another,
    diagnosis,
    house,
    incident,
    key,
    proposal,
    snapshot,
)
from tests.unit.charts import bars, matrix

pytestmark = pytest.mark.timeout(120)

BROKEN, WORSE = matrix(text="0/4"), matrix(text="0/5")


def files(running: House, ending: str = ".png") -> list[StoredFile]:
    """The files of the thread, in its order."""
    shown = [m for m in running.slack.messages(OPS) if m.files]
    found = [running.slack.workspace.files[file] for m in sorted(shown, key=lambda m: float(m.ts)) for file in m.files]
    return [file for file in found if file.name.endswith(ending)]


def kind(message: SlackMessage) -> str:
    """Board, verdict, …, or what a file is."""
    return key(message).partition(":")[0] or ("picture" if message.files else "")


async def tell(running: House, *charts: Chart, name: str = "1") -> None:
    await running.put(incident(), diagnosis("", *charts, name=name))
    await running.drawn(60)


async def test_the_verdict_comes_first_then_pictures_then_the_archive_then_the_proposal(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.store.save_snapshot(snapshot())
        await running.put(incident(), diagnosis("", BROKEN, bars(), with_snapshot=True), proposal())
        await running.drawn(60)
        thread = sorted(running.slack.messages(OPS), key=lambda m: float(m.ts))
        names = [running.slack.workspace.files[m.files[0]].name if m.files else kind(m) for m in thread]
        assert names == [
            "board",
            "verdict",
            "route-matrix-1-diag_1.png",
            "api-queues-2-diag_1.png",
            "evidence-snap_1.zip",
            "proposal",
        ]


async def test_a_picture_is_a_png_with_a_title_and_words_for_who_does_not_see_it(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await tell(running, BROKEN)
        (file,) = files(running)
        assert file.content is not None
        assert file.content.startswith(b"\x89PNG")
        assert (file.title, file.alt_text) == (BROKEN.title, BROKEN.alt)
        assert f"🖼️ {BROKEN.title} ({BROKEN.alt})" in running.slack.render_text(OPS)


async def test_what_was_shown_already_is_not_shown_again_until_it_changes(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await tell(running, BROKEN)
        await tell(running, BROKEN, name="2")
        assert [f.name for f in files(running)] == ["route-matrix-1-diag_1.png"]
        await tell(running, WORSE, name="3")
        await tell(running, BROKEN, name="4")
        assert [f.name[-10:] for f in files(running)] == ["diag_1.png", "diag_3.png", "diag_4.png"]


async def test_drawing_again_uploads_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await tell(running, BROKEN)
        uploads = len(running.slack.calls("files.completeUploadExternal"))
        await tell(running, BROKEN)
        assert len(running.slack.calls("files.completeUploadExternal")) == uploads == 1


async def test_a_lost_answer_leaves_exactly_one_picture(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.slack.fault(FaultKind.DROP_AFTER_COMMIT, "files.completeUploadExternal", count=1)
        await tell(running, BROKEN)
        assert len(files(running)) == 1


@pytest.mark.parametrize("point", ["P03", "P04"])
async def test_a_crash_around_the_upload_leaves_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with house(tmp_path, start=False) as running:
        await running.put(incident(), diagnosis())
        await running.adapter.chat.draw(IncidentId("inc_1"))
        await running.put(diagnosis("", BROKEN, bars(), name="2"))

        def die(name: str) -> None:
            if name == point and next(reached) in {1, 2}:
                raise asyncio.CancelledError

        reached = iter(range(100))  # 0 is the verdict, 1 and 2 are the pictures
        monkeypatch.setattr(projector, "reached", die)
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await another(running).chat.draw(IncidentId("inc_1"))
        monkeypatch.undo()
        await another(running).chat.draw(IncidentId("inc_1"))
        assert [f.name for f in files(running)] == ["route-matrix-1-diag_2.png", "api-queues-2-diag_2.png"]


async def test_without_the_scope_the_thread_says_so_once_and_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.slack.faults.missing_scopes.add("files:write")
        await running.store.save_snapshot(snapshot())
        await running.put(incident(), diagnosis("", BROKEN, bars(), with_snapshot=True), proposal())
        await running.drawn(60)
        assert running.message("proposal")
        assert "scope files:write is missing" in running.message("unattached").text
        assert running.adapter.chat.health().ok
        running.slack.faults.missing_scopes.clear()
        await tell(running, WORSE, name="2")
        assert [f.name for f in files(running)] == ["route-matrix-1-diag_2.png"], "what comes later is attached again"
        assert len(running.of_kind("unattached")) == 1


async def test_a_picture_that_cannot_be_drawn_is_said_once_and_the_thread_goes_on(tmp_path: Path) -> None:
    async def broken(chart: Chart) -> bytes:
        raise OSError(f"no font for {chart.code}")

    async with house(tmp_path, drawing=broken) as running:
        await running.store.save_snapshot(snapshot())
        await running.put(incident(), diagnosis("", BROKEN, bars(), with_snapshot=True), proposal())
        await running.drawn()
        assert "could not be drawn" in running.message("unattached").text
        assert running.message("proposal")
        assert [f.name for f in files(running, "")] == ["evidence-snap_1.zip"]


async def test_uploads_that_never_get_an_answer_are_given_up_and_words_do_not_wait_for_them(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.slack.fault(FaultKind.SERVER_ERROR, "files.getUploadURLExternal", count=FILE_TRIES)
        await running.put(incident(), diagnosis("", BROKEN), proposal())
        await running.until(lambda: len(running.of_kind("proposal")) == 1, 60)
        assert running.of_kind("unattached") == [], "the proposal came before the last try"
        await running.drawn(60)
        assert "no clear answer" in running.message("unattached").text
        assert files(running) == []


async def test_one_try_fewer_and_the_picture_is_there(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.slack.fault(FaultKind.SERVER_ERROR, "files.getUploadURLExternal", count=FILE_TRIES - 1)
        await tell(running, BROKEN)
        assert len(files(running)) == 1
        assert running.of_kind("unattached") == []


async def test_an_outage_of_slack_costs_no_picture(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.put(incident())
        await running.drawn()
        await running.slack.outage(3.0)
        await running.put(diagnosis("", BROKEN))
        await running.drawn(60)
        assert len(files(running)) == 1
        assert running.of_kind("unattached") == []


@pytest.mark.parametrize(
    "words", ["<!channel> <@U0ADA> $x^2$", "\u202eevil\u200b\x00", "A" * 100_000, "&lt;!here&gt; *bold*"]
)
async def test_names_of_the_cluster_are_inert_in_title_and_description(tmp_path: Path, words: str) -> None:
    async with house(tmp_path) as running:
        await tell(running, matrix(words))
        (file,) = files(running)
        assert "\u202e" not in file.title + file.alt_text
        assert "\x00" not in file.title + file.alt_text
        assert len(file.title) <= 200
        assert not [found for m in running.slack.messages(OPS) for found in mentions(m.text)]
        assert {call.outcome for call in running.slack.calls("files.getUploadURLExternal")} == {"ok"}
