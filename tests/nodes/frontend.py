"""The host's real front end in the system's Chromium, for what only it can do: a saved workflow → a graph to run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
READY = """() => !document.querySelector('#splash-loader') && window.app?.graph
    && window.LiteGraph?.registered_node_types?.SaveVideo"""
"""The page has built itself and knows the host's nodes."""
TO_PROMPT = "async workflow => { await app.loadGraphData(workflow); return (await app.graphToPrompt()).output }"


def browser_path() -> str:
    """The browser's command; an error where there is none, for a test that cannot run has not passed."""
    found = next((path for path in map(shutil.which, COMMANDS) if path), None)
    if found is None:
        raise RuntimeError(f"no browser: install Chromium (Debian: apt-get install chromium); looked for {COMMANDS}")
    return found


@contextmanager
def page_of(url: str, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """The host's page, ready for use."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.add_init_script("localStorage.setItem('Comfy.TutorialCompleted', 'true')")
            page.goto(url)
            page.wait_for_function(READY, timeout=60_000)
            yield page
        finally:
            browser.close()


def api_graph(page: Page, workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the front end would queue for a workflow as it saves them."""
    return page.evaluate(TO_PROMPT, workflow)
