"""Every command, form and refusal, and App Home, as the page of the stand-in draws them: pictures for people to look at, which fit their window."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, expect
from pyotp.totp import TOTP

from bot.adapters.slack.commands.words import WORDS
from bot.adapters.slack.modals import CALLBACK, HUSH, QUESTION, TUNED
from bot.flow.freeze import freeze
from bot.model import Choice
from bot.policy import WITHOUT_CODE
from bot.settings.policy import FactorSettings
from tests.e2e.browser import DESKTOP, WITH_CHROMIUM, chromium
from tests.e2e.test_slack_pages import PATIENCE_MS, SIZES, as_ada, keep, leave_thread
from tests.exhaustive import on_demand
from tests.integration import slack_adapter_support as support
from tests.integration.knob import knob_proposal, stages
from tests.integration.slack_adapter_support import ADA, GRACE, GUEST, OPS, House, diagnosis, house, incident, proposal
from tests.integration.store_records import FixedClock

pytestmark = [WITH_CHROMIUM, on_demand, pytest.mark.timeout(300)]

SECRET: Final = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
LINES: Final = {name: name for name in WORDS} | {
    "diagnose": "diagnose prod stuck-consumer",
    "run": "run stuck-consumer prod APP/ORDERS/worker",
    "freeze": "freeze prod 1h deploy night",
    "unfreeze": "unfreeze frz_gone it is done",
    "audit": "audit 1h",
}
"""What is typed behind /nats, of each word."""
MISTAKES: Final = {"unknown": "prposals", "wrong": "run", "near": "diagnose prdo"}


@asynccontextmanager
async def busy(tmp_path: Path) -> AsyncGenerator[House]:
    """A bot with an incident, a proposal of which a value may be set, and a freeze of another cluster."""
    async with house(tmp_path, stages=stages(), clusters=("prod", "test")) as running:
        await running.put(incident(), diagnosis(), knob_proposal())
        await freeze(running.store, FixedClock(), "grace", "release night", cluster="test")
        await running.drawn()
        yield running


async def acting_as(page: Page, user: str) -> None:
    await page.get_by_label("Acting as").select_option(user)


async def typed(page: Page, running: House, user: str, line: str) -> None:
    """Type it into the channel, and wait for the answer."""
    before, shown = len(running.slack.ephemerals(user)), page.get_by_text("Only visible to you")
    count = await shown.count()
    await page.get_by_label("Message or slash command").fill(line)
    await page.get_by_role("button", name="Send", exact=True).click()
    await running.until(lambda: len(running.slack.ephemerals(user)) > before)
    await expect(shown.nth(count)).to_be_attached(timeout=PATIENCE_MS)
    await page.get_by_label("Messages").evaluate("log => { log.scrollTop = log.scrollHeight; }")


async def opened(running: House, user: str, callback: str) -> None:
    """Wait until the form is there, with whose callback_id, or a view of words alone."""

    def there() -> bool:
        view = running.slack.open_view(user)
        said = "" if view is None else str(view.body)
        return (
            bool(said) and "One moment" not in said and (view is None or view.body.get("callback_id", "") == callback)
        )

    await running.until(there)


async def dismissed(page: Page) -> None:
    await page.get_by_label("Close dialog").click()
    await expect(page.get_by_role("dialog")).to_be_hidden(timeout=PATIENCE_MS)


async def in_thread(page: Page, label: str) -> None:
    button = page.get_by_label("Thread").get_by_role("button", name=label, exact=True)
    await expect(button.first).to_be_visible(timeout=PATIENCE_MS)
    await button.first.click()


async def whole_form(page: Page, artifacts: Path, name: str) -> None:
    """A form as it opens, and in a window that is as high as it."""
    await expect(page.get_by_role("dialog")).to_be_visible(timeout=PATIENCE_MS)
    await keep(page, artifacts, name)
    await keep(page, artifacts, f"{name}-whole", height=1800)


async def test_every_command_and_mistake_is_answered_in_a_picture(tmp_path: Path, artifacts: Path) -> None:
    async with busy(tmp_path) as running, chromium() as browser:
        for size_name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            await leave_thread(page)
            for name, line in {**LINES, **MISTAKES}.items():
                await typed(page, running, ADA, f"/nats {line}")
                await keep(
                    page,
                    artifacts,
                    f"command-{name}-{size_name}",
                    height=1500 if name in {"help", "runbooks"} else None,
                )
            await page.close()


@pytest.mark.parametrize(("size_name", "size"), SIZES)
async def test_every_form_fits_its_window(
    tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch, size_name: str, size: tuple[int, int]
) -> None:
    factor = FactorSettings.model_validate({"secrets": {"ada": SECRET}, "risks": ["low", "destructive"]})
    rules = support.RULES.model_copy(
        update={"second_factor": factor, "persons": {"ada": (ADA,)}, "break_glass": ("operators",)}
    )
    monkeypatch.setattr(support, "RULES", rules)
    async with busy(tmp_path) as running, chromium() as browser:
        await running.put(proposal("Delete the consumer").model_copy(update={"id": "prop_2", "button": "btn_2"}))
        await running.drawn()
        page = await as_ada(browser, running.slack, size)
        for label, callback in (
            ("Approve", CALLBACK),
            ("Deny", CALLBACK),
            ("Other values…", TUNED),
            ("Silence…", HUSH),
            ("Details", ""),
        ):
            await in_thread(page, label)
            await opened(running, ADA, callback)
            await whole_form(page, artifacts, f"form-{label.strip('…').replace(' ', '-').lower()}-{size_name}")
            await dismissed(page)
        last = page.get_by_label("Thread").get_by_role("button", name="Approve", exact=True).last
        await last.click()
        await opened(running, ADA, CALLBACK)
        await whole_form(page, artifacts, f"form-destructive-{size_name}")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Type the name").fill("wrong")
        await dialog.get_by_label("Code of your authenticator").fill("000000")
        await dialog.get_by_label("Reason").fill("it is stuck")
        await dialog.get_by_role("button", name="Approve").click()
        await expect(dialog.get_by_text("That is not the name")).to_be_visible(timeout=PATIENCE_MS)
        await keep(page, artifacts, f"form-error-{size_name}", height=1800)
        await dialog.get_by_label("Type the name").fill("worker")
        await dialog.get_by_label("Code of your authenticator").fill(TOTP(SECRET).now())
        await dialog.get_by_role("button", name="Approve").click()
        await running.until(lambda: "Recorded" in str([one.text for one in running.slack.ephemerals(ADA)]))
        await keep(page, artifacts, f"form-recorded-{size_name}", height=2200)
        said = running.slack.person.say(GRACE, OPS, "consumers hang")
        await running.slack.person.message_shortcut(ADA, OPS, said.ts, QUESTION)
        await opened(running, ADA, QUESTION)
        await whole_form(page, artifacts, f"form-question-{size_name}")


@pytest.mark.parametrize(("size_name", "size"), SIZES)
async def test_every_refusal_is_said_where_it_was_pressed(
    tmp_path: Path, artifacts: Path, size_name: str, size: tuple[int, int]
) -> None:
    async with busy(tmp_path) as running, chromium() as browser:
        page = await as_ada(browser, running.slack, size)
        await expect(page.get_by_role("complementary", name="Thread")).to_be_visible(timeout=PATIENCE_MS)
        await acting_as(page, GUEST)
        for count, label in enumerate(("Approve", "Deny", "Details", "I take it"), start=1):
            await in_thread(page, label)
            await running.until(lambda count=count: len(running.slack.ephemerals(GUEST)) >= count)
        await keep(page, artifacts, f"refused-buttons-{size_name}", height=2200)
        for label in ("Silence…", "Other values…"):
            await in_thread(page, label)
            await opened(running, GUEST, "")
            await keep(page, artifacts, f"refused-{label.strip('…').replace(' ', '-').lower()}-{size_name}")
            await dismissed(page)
        await leave_thread(page)
        for name in ("incidents", "whoami", "freeze"):
            await typed(page, running, GUEST, f"/nats {LINES[name]}")
        await keep(page, artifacts, f"refused-commands-{size_name}")
        await page.get_by_label("Channels").get_by_role("button", name="natsmedic").click()
        home = page.get_by_role("log", name="Messages").get_by_text("Guests do not decide here")
        await expect(home).to_be_visible(timeout=PATIENCE_MS)
        await keep(page, artifacts, f"refused-home-{size_name}")


async def test_the_countdown_and_a_void_approval_are_readable(tmp_path: Path, artifacts: Path) -> None:
    async with busy(tmp_path) as running, chromium() as browser:
        page = await as_ada(browser, running.slack, DESKTOP)
        await in_thread(page, "Approve")
        await opened(running, ADA, CALLBACK)
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("it is stuck")
        await dialog.get_by_role("button", name="Approve").click()
        await running.until(lambda: "1 of 2" in str(running.message("board").blocks))
        (given,) = await running.store.approvals(knob_proposal().id)
        assert given.choice is Choice.APPROVE
        async with running.store.begin() as tx:
            await tx.put(given.model_copy(update={"void": WITHOUT_CODE}))
            await tx.touch(incident().id)
        running.adapter.chat.nudge(incident().id)
        await expect(page.get_by_text(f"void: {WITHOUT_CODE}").first).to_be_attached(timeout=PATIENCE_MS)
        await expect(page.get_by_text("at most 10 min left").first).to_be_attached(timeout=PATIENCE_MS)
        await keep(page, artifacts, "void-desk", height=1800)


def test_each_word_has_a_line_in_the_gallery() -> None:
    assert LINES.keys() == WORDS.keys()
