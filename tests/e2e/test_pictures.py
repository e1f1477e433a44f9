"""The thread of a broken mesh has the matrix of its routes: once, whatever kills the bot, and a person sees it in the page."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx
from playwright.async_api import expect

from bot.lab import mesh_drills
from bot.lab.slack import Message
from bot.lab.slack.records import StoredFile, png_size
from bot.lab.whole import CHANNEL, WholeBot
from tests.e2e.browser import DESKTOP, PATIENCE_MS, PHONE, WITH_CHROMIUM, chromium, picture, visit
from tests.e2e.conftest import Whole

ALERT = "NatsRouteMeshIncomplete"
TITLE = "Routes of lab: 1 of 3 pairs incomplete"


def thread(bot: WholeBot) -> list[Message]:
    board = bot.board()
    return bot.slack.thread(CHANNEL, board.ts) if board is not None else []


def pictures(bot: WholeBot) -> list[StoredFile]:
    files = [bot.slack.workspace.files[file] for message in thread(bot) for file in message.files]
    return [file for file in files if file.name.endswith(".png")]


async def test_a_broken_mesh_is_shown_once_through_a_crash_and_repeated_diagnoses(whole: Whole) -> None:
    async with whole(room={}) as bot:
        await mesh_drills.wrong_advertise(bot.cluster)
        await bot.start("P04:3")  # the third post is the picture: uploaded, and nobody knows
        with contextlib.suppress(httpx.TransportError):
            await bot.alert(ALERT)
        await bot.crashed()
        await bot.start()
        await bot.see("In nats.conf of every server set", 90)
        (file,) = pictures(bot)
        assert file.title == TITLE
        assert "n1 with n2 0 of 4" in file.alt_text
        assert file.content is not None
        assert len(file.content) < 200_000
        width, _ = png_size(file.content) or (0, 0)
        assert width == 1080
        kinds = [
            "picture" if m.files and m.files[0] == file.id else "archive" if m.files else "words" for m in thread(bot)
        ]
        assert kinds == ["words", "words", "picture", "archive", "words"], "board, verdict, picture, archive, proposal"
        await mesh_drills.repair(bot.cluster)
        assert (await bot.alert(ALERT, state="resolved")).status_code == 202
        await bot.see("sender resolved", 60)
        await bot.see("Closed", 60)
        assert [one.id for one in pictures(bot)] == [file.id], "a mesh that is whole again needs no picture"


@WITH_CHROMIUM
async def test_a_person_sees_the_picture_in_the_thread_and_on_a_phone(whole: Whole, artifacts: Path) -> None:
    async with whole(room={}) as bot, chromium() as browser:
        await mesh_drills.wrong_advertise(bot.cluster)
        await bot.start()
        await bot.alert(ALERT)
        await bot.see("List every server in cluster.routes and reload", 90)
        for size, name in ((DESKTOP, "mesh"), (PHONE, "mesh-phone")):
            page = await visit(browser, bot, size)
            shown = page.get_by_label("Thread").get_by_role("img", name="n1 with n2 0 of 4")
            await expect(shown).to_be_visible(timeout=PATIENCE_MS)
            await expect(shown).to_have_js_property("naturalWidth", 1080)
            box = await shown.bounding_box()
            assert box is not None
            assert box["width"] >= min(size[0], 360) * 0.75, "wide enough to be read"
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            await shown.scroll_into_view_if_needed()
            await picture(page, artifacts, name)
            await picture(page, artifacts, f"{name}-whole", height=2600)
