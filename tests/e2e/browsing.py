"""A headless Chromium that looks at the status page, and writes down what it complains of."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM: Final = "/usr/bin/chromium"
WITHIN: Final = 30_000
"""Milliseconds for the page to show what it should."""

needs_chromium = pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="needs the package chromium")

_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_AUDIT: Final = Path(__file__).with_name("audit.js")
_REPORT_VIOLATIONS: Final = (
    "document.addEventListener('securitypolicyviolation', event => console.error('policy', event.violatedDirective, event.blockedURI))"
)


@dataclass
class Chromium:
    """A browser with an empty profile. `complaints` are errors and warnings of its pages, `asked` the addresses that they asked for."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    async def open(self, port: int, *, width: int = 1280, scheme: Any = "light", script: bool = True, path: str = "/") -> Page:
        """Open the status page of the admin listener at this port."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script, reduced_motion="reduce"
        )
        page = await context.new_page()
        page.set_default_timeout(WITHIN)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add(request.url))
        if script:
            await page.add_init_script(_REPORT_VIOLATIONS)
        answer = await page.goto(f"http://127.0.0.1:{port}{path}")
        assert answer is not None
        assert answer.status == 200
        return page


@asynccontextmanager
async def chromium(home: Path) -> AsyncIterator[Chromium]:
    """Start the browser; it ends with the context. Each page has a profile of its own, in memory."""
    async with async_playwright() as playwright:
        environ: dict[str, str | float | bool] = {**os.environ, "HOME": str(home)}
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*_ARGUMENTS], env=environ)
        try:
            yield Chromium(browser)
        finally:
            await browser.close()


async def audit(page: Page) -> list[str]:
    """Return what is wrong with a page for those who cannot see it, or cannot see it well."""
    found: list[str] = await page.evaluate(_AUDIT.read_text())
    return found


async def outlines(page: Page) -> dict[str, str]:
    """Press Tab from the beginning until all has been visited; return the style of the outline by what has the focus."""
    seen: dict[str, str] = {}
    look = """() => {
        const one = document.activeElement;
        return one === document.body ? null : [one.tagName + " " + one.textContent.trim(), getComputedStyle(one).outlineStyle];
    }"""
    for _ in range(100):
        await page.keyboard.press("Tab")
        found = await page.evaluate(look)
        if found is None and not seen:
            continue  # between the last and the first
        if found is None or found[0] in seen:
            break
        seen[found[0]] = found[1]
    return seen
