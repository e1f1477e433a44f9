"""What people see of a storm, a running repair, App Home, long answers, other values and a closing, on a desk and on a phone: drawn in the page of the stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from bot.flow.freeze import freeze
from bot.lab.slack import StandInSlack
from bot.model import (
    Execution,
    ExecutionId,
    ExecutionState,
    Incident,
    IncidentState,
    OperationId,
    Proposal,
    ProposalId,
    ProposalState,
    StageRun,
    StageState,
)
from tests.e2e.browser import DESKTOP, PHONE, WITH_CHROMIUM, chromium, picture, visit_page
from tests.integration.knob import knob_proposal, stages
from tests.integration.slack_adapter_support import ADA, OPS, House, diagnosis, house, incident, now, told
from tests.integration.store_records import FixedClock
from tests.integration.test_slack_storm import rain

pytestmark = [WITH_CHROMIUM, pytest.mark.timeout(120)]

PATIENCE_MS = 10_000
SIZES = (("desk", DESKTOP), ("phone", PHONE))
MANY = 60


async def as_ada(browser: Browser, slack: StandInSlack, size: tuple[int, int]) -> Page:
    page = await visit_page(browser, slack.page_url, size)
    await page.get_by_label("Acting as").select_option(ADA)
    return page


async def keep(page: Page, artifacts: Path, name: str, *, height: int | None = None) -> None:
    """Keep a screenshot of something in a window that itself scrolls nowhere."""
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert await page.evaluate("document.documentElement.scrollHeight <= window.innerHeight"), (
        f"{name}: parts scroll, not the page"
    )
    await picture(page, artifacts, name, height=height)


async def leave_thread(page: Page) -> None:
    """Close the thread, which the page opens by itself."""
    close = page.get_by_role("button", name="Close thread")
    await expect(close).to_be_visible(timeout=PATIENCE_MS)
    await close.click()


def running_repair() -> tuple[Incident, Proposal, Execution]:
    applying = knob_proposal().model_copy(update={"state": ProposalState.APPLYING})
    run = Execution(
        id=ExecutionId("exec_1"),
        proposal_id=ProposalId("prop_1"),
        incident_id=incident().id,
        cluster="prod",
        state=ExecutionState.APPLYING,
        stages=(StageRun(index=0, state=StageState.INTENDED, operation_id=OperationId("op_1"), intended_at=now()),),
        started_at=now(),
    )
    return incident(), applying, run


async def put(running: House, *records: Incident | Proposal | Execution) -> None:
    async with running.store.begin() as tx:
        for record in records:
            await tx.put(record)
        await tx.touch(incident().id)
    running.adapter.chat.nudge(incident().id)


async def test_a_storm_is_one_message_with_a_table_that_fits_the_screen(tmp_path: Path, artifacts: Path) -> None:
    async with house(tmp_path) as running, chromium() as browser:
        await rain(running, MANY)
        await running.drawn(60)
        for name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            await expect(page.get_by_text("Kind3").first).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"storm-{name}")
            await keep(page, artifacts, f"storm-{name}-whole", height=2400)


async def test_a_running_repair_shows_its_progress_on_the_board(tmp_path: Path, artifacts: Path) -> None:
    async with house(tmp_path) as running, chromium() as browser:
        await running.put(incident(), diagnosis(), knob_proposal())
        await running.drawn()
        await put(running, *running_repair()[1:])
        await running.until(lambda: "stage 1 of 1" in str(running.message("board").blocks))
        for name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            shown = page.get_by_label("Thread").get_by_text("stage 1 of 1").first
            await expect(shown).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"progress-{name}")


async def test_home_says_what_waits_what_is_frozen_and_what_one_may_do(tmp_path: Path, artifacts: Path) -> None:
    async with house(tmp_path, stages=stages()) as running, chromium() as browser:
        await running.put(incident(), diagnosis(), knob_proposal())
        await freeze(running.store, FixedClock(), "grace", "release night")
        await running.drawn()
        for name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            await leave_thread(page)
            await page.get_by_label("Channels").get_by_role("button", name="natsmedic").click()
            await expect(page.get_by_text("Waits for you (1)")).to_be_visible(timeout=PATIENCE_MS)
            await expect(page.get_by_text("On prod you may approve")).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"home-{name}", height=1200)


async def test_whoami_and_other_values_are_readable_and_the_form_fits(tmp_path: Path, artifacts: Path) -> None:
    async with house(tmp_path, stages=stages()) as running, chromium() as browser:
        await running.put(incident(), diagnosis(), knob_proposal())
        await running.drawn()
        await running.slack.person.slash(ADA, OPS, "/nats whoami")
        await told(running, ADA)
        for name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            button = page.get_by_label("Thread").get_by_role("button", name="Other values…")
            await expect(button).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"thread-{name}", height=1600)
            await button.click()
            field = page.get_by_role("dialog").get_by_label("Pace")
            await expect(field).to_have_value("2", timeout=PATIENCE_MS)
            await keep(page, artifacts, f"values-{name}")
            await page.get_by_role("dialog").get_by_role("button", name="Back").click()
            await leave_thread(page)
            await expect(page.get_by_text("On prod you may approve").first).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"whoami-{name}")


async def test_a_closed_thread_ends_with_its_report(tmp_path: Path, artifacts: Path) -> None:
    async with house(tmp_path) as running, chromium() as browser:
        await running.put(incident(), diagnosis())
        await running.drawn()
        await put(running, incident().to(IncidentState.CLOSED, now()).model_copy(update={"revision": 50}))
        await running.drawn()
        for name, size in SIZES:
            page = await as_ada(browser, running.slack, size)
            report = page.get_by_label("Thread").get_by_text("report-inc_1-1.html")
            await expect(report).to_be_visible(timeout=PATIENCE_MS)
            await keep(page, artifacts, f"closing-{name}", height=1200)
