"""A real browser that looks at the page of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which .ci/run installs")

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")  # fmt: skip
WIDE, PHONE = (1400, 1000), (390, 844)


@contextmanager
def browser_page(folder: Path, size: tuple[int, int] = WIDE, *, dark: bool = False) -> Iterator[tuple[Page, list[str]]]:
    """Open a browser that keeps its own in `folder`; yields a page and, as they come, its errors and the addresses it asks."""
    with sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            folder,
            executable_path=CHROMIUM,
            args=list(_FLAGS),
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
        )
        try:
            page, seen = context.new_page(), list[str]()
            page.set_default_timeout(60_000)
            page.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: seen.append(str(error)))
            page.on("request", lambda request: seen.append(request.url))
            yield page, seen
        finally:
            context.close()
