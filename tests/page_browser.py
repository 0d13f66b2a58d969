"""The page in Chromium, for its tests: a server in a thread, a browser, axe-core, pictures for people to look at."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
MARKS = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
SHOTS = os.environ.get("GOODRATE_SCREENSHOTS")  # a folder to keep pictures in
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
DRAWING = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='300' height='200'>"
    "<rect width='300' height='200' fill='#cde'/><circle cx='150' cy='100' r='60' fill='#48a'/></svg>"
)


class Served:
    """An app on a free local port, in a thread."""

    def __init__(self, pipeline: Any, parts: Parts | None = None, app: Any = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._server = uvicorn.Server(uvicorn.Config(app or create_app(pipeline, parts), log_level="error"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(timeout=120)
        self._socket.close()


def started_chromium() -> Iterator[Any]:
    """A browser, closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def opened_page(browser: Any, viewport: dict[str, int], scheme: str = "light") -> Iterator[Any]:
    """A page in a context of its own; a script that fails on it fails the test."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-US")
    context.set_default_timeout(20_000)
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    yield opened
    assert opened.problems == []
    context.close()


def shot(page: Any, name: str, whole: bool = True) -> None:
    """Keep a picture where one is wanted."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=whole)


def search(page: Any, served: Served, query: str) -> None:
    """Type a query on the start page and wait for the answer."""
    page.goto(served.url)
    page.get_by_label("Search the catalogue").fill(query)
    page.keyboard.press("Enter")
    settled(page)


def settled(page: Any) -> None:
    """Wait until an answer is shown: results, or that there are none."""
    page.locator("#results:not(.waiting) .result, .notice h2:text('found')").first.wait_for()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids what the browser driver does for this."""
    deadline = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)


def violations(page: Any, rules: list[str] | None = None) -> list[str]:
    """What axe-core finds wrong with the page as it is shown: rule and elements. rules: None for all."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("(rules) => axe.run(document, rules ? { runOnly: rules } : {})", rules)["violations"]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]
