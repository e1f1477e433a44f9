"""A visitor's way through the demo page, in a real browser: the thread appears, two people approve in the dialog, the thread ends verified."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, expect

from bot.lab.stuck_consumer import CONSUMER, STREAM, break_consumer
from bot.lab.whole import ADA, BO, VERIFIED_BOARD
from tests.e2e.browser import DESKTOP, PATIENCE_MS, PHONE, WITH_CHROMIUM, chromium, in_view, picture, visit
from tests.e2e.conftest import Whole

pytestmark = WITH_CHROMIUM


async def approve(page: Page, person: str, reason: str, *, picture_of_form: Path | None = None) -> None:
    """As this person: press Approve in the thread, fill the form in, and send it."""
    await page.get_by_label("Acting as").select_option(person)
    await page.get_by_label("Thread").get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_label("Type the name of the object this changes")
    await expect(name).to_be_visible(timeout=PATIENCE_MS)
    await name.fill(CONSUMER)
    await dialog.get_by_label("Reason").fill(reason)
    if picture_of_form is not None:
        await picture(page, picture_of_form, "2-form")
        await dialog.locator(".dialog-body").evaluate("body => { body.scrollTop = 0; }")
        await picture(page, picture_of_form, "2-form-top", height=1500)
    await dialog.get_by_role("button", name="Approve").click()
    await expect(name).to_be_hidden(timeout=PATIENCE_MS)
    if await dialog.is_visible():
        await dialog.get_by_role("button", name="Close", exact=True).click()


async def test_two_people_approve_in_the_browser_and_see_the_thread_end_verified(whole: Whole, artifacts: Path) -> None:
    async with whole() as bot, chromium() as browser:
        await break_consumer(bot.cluster)
        await bot.start()
        page = await visit(browser, bot, DESKTOP)
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        assert (await bot.alert(labels={"account": "APP", "stream": STREAM, "consumer": CONSUMER})).status_code == 202
        thread = page.get_by_label("Thread")
        button = thread.get_by_role("button", name="Approve")
        await expect(button).to_be_visible(timeout=PATIENCE_MS)
        await picture(page, artifacts, "1-proposal")
        await picture(page, artifacts, "1-proposal-whole", height=2600)
        phone = await visit(browser, bot, PHONE)
        small_button = phone.get_by_label("Thread").get_by_role("button", name="Approve")
        await expect(small_button).to_be_visible(timeout=PATIENCE_MS)
        assert await in_view(small_button), "on a phone the newest proposal's buttons are on the first screen"
        risk = phone.get_by_label("Thread").get_by_text("destructive: Delete consumer worker").last
        assert await in_view(risk), (
            "what would be done and how dangerous it is stands on the same screen as its buttons"
        )
        assert await phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            "a phone must not scroll sideways"
        )
        await picture(phone, artifacts, "1-proposal-phone")
        await picture(phone, artifacts, "1-proposal-phone-whole", height=4200)
        await approve(page, ADA, "the worker repeats old orders", picture_of_form=artifacts)
        await expect(thread.get_by_text("1 of 2 approvals").first).to_be_visible(timeout=PATIENCE_MS)
        await approve(page, BO, "checked with the shop: orders are idempotent")
        await expect(thread.get_by_text(VERIFIED_BOARD)).to_be_attached(timeout=2 * PATIENCE_MS)
        await expect(button).to_have_count(0)
        await picture(page, artifacts, "3-verified", height=3400)
        await picture(phone, artifacts, "3-verified-phone", height=5000)
