"""A headless Chromium for the tests of the page."""

import json
import os
import shutil

import pytest
from playwright.sync_api import Error, sync_playwright

from tspo_trl.viewer import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")  # Playwright runs an event loop, which would disturb tests of asyncio
def browser():
    """Starts the system's Chromium or Playwright's. Without one, tests skip, or fail if REQUIRE_BROWSER=1."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            if os.environ.get("REQUIRE_BROWSER"):
                raise
            pytest.skip(f"no Chromium: install it, or run `playwright install chromium` ({error.message[:200]})")
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """Opens pages. An error on a page or a request to the network fails the test."""
    contexts, problems = [], []

    def open_page(url, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def open_report(new_page, tmp_path):
    """Opens the report of some lines from disk."""

    def open_lines(*lines, address="", **settings):
        file = tmp_path / "step_000001.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
        path = write_report(file, tmp_path / "report.html", title="A run")
        return new_page(path.as_uri() + address, **settings)

    return open_lines
