"""A real browser on the stand-in's page, for the tests that look at what a person sees."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright

from bot.lab.whole import WholeBot

CHROMIUM: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: Final = (1440, 900)
PHONE: Final = (390, 844)
"""CSS pixels of a present-day phone, upright."""
PATIENCE_MS: Final = 60_000
"""A repair takes 20 to 40 s on two busy cores."""

WITH_CHROMIUM: Final = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="Debian's chromium is not installed: apt install chromium"
)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


async def visit(browser: Browser, bot: WholeBot, size: tuple[int, int]) -> Page:
    """Open the stand-in's page of a bot."""
    return await visit_page(browser, bot.slack.page_url, size)


async def visit_page(browser: Browser, address: str, size: tuple[int, int]) -> Page:
    """Open a stand-in's page; whatever its scripts complain about fails the test."""
    page = await browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(address)
    return page


async def picture(page: Page, artifacts: Path, name: str, *, height: int | None = None) -> None:
    """Keep a screenshot; with `height` the window is that high for it, so that a long thread is seen whole."""
    size = page.viewport_size
    assert size is not None
    if height is not None:
        await page.set_viewport_size({"width": size["width"], "height": height})
    await page.screenshot(path=artifacts / f"{name}.png", animations="disabled")
    await page.set_viewport_size(size)


async def in_view(part: Locator) -> bool:
    """Whether a person sees it without scrolling."""
    box = await part.bounding_box()
    size = part.page.viewport_size
    assert size is not None
    return (
        box is not None
        and box["y"] >= 0
        and box["y"] + box["height"] <= size["height"]
        and box["x"] + box["width"] <= size["width"]
    )
