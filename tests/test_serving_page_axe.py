"""axe-core finds nothing wrong with the page in any of its states, wide and narrow, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

import page_browser
from goodrate.serving.pipeline import SearchPipeline
from page_browser import NARROW, WIDE, Served, settled, shot, violations
from page_shop import FRAME
from serving_shop import FakeSearcher, FakeStore, fake_judge

pytest.importorskip("axe_playwright_python")
pytestmark = page_browser.MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import goodrate as gr

    server = Served(gr.Index.create(tmp_path_factory.mktemp("axe") / "index", FRAME).pipeline)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def judged() -> Iterator[Served]:
    server = Served(SearchPipeline(FakeStore(), FakeSearcher(), fake_judge()))
    yield server
    server.stop()


def states(page: Any, shop: Served, judged: Served) -> Iterator[str]:
    """Bring the page into one state after the other."""
    page.goto(shop.url)
    page.get_by_text("What would a customer type?").wait_for()
    yield "start"
    page.get_by_label("Search the catalogue").press_sequentially("kett")
    page.locator("#suggestions [role=option]").first.wait_for()
    page.keyboard.press("ArrowDown")
    yield "suggestions"
    page.goto(
        f"{shop.url}?query=kettle+without+blue+under+%2470&f.brand=brand+%3D+%27Zorvo%27&ignore=not-7+without+blue"
    )
    settled(page)
    page.locator(".result .why").first.click()
    yield "chips"
    page.goto(f"{shop.url}?query=kettle")
    settled(page)
    yield "results"
    if page.viewport_size == NARROW:
        page.get_by_role("button", name="Filter", exact=True).click()
        page.get_by_role("dialog").get_by_role("checkbox", name=re.compile("^Zorvo")).click()
        page.get_by_role("button", name=re.compile("^Show .* items")).wait_for()
        yield "sheet"
    page.goto(f"{shop.url}?query=kettle&f.brand=brand+%3D+%27Zorvo%27&price_from=9999")
    page.get_by_text("No item passes the filters").wait_for()
    yield "empty"
    page.goto(f"{shop.url}?query=kettle&where=bad+%3D+3")
    page.get_by_role("alert").wait_for()
    yield "error"
    page.goto(f"{judged.url}?query=shoes")
    settled(page)
    page.locator(".result .why").first.click()
    page.locator(".reason dt").first.wait_for()
    yield "judged"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "390"])
def test_no_state_has_a_violation(
    browser: Any, shop: Served, judged: Served, viewport: dict[str, int], scheme: str
) -> None:
    for page in page_browser.opened_page(browser, viewport, scheme):
        page.route(
            re.compile("^https:"),
            lambda route: route.fulfill(body=page_browser.DRAWING, content_type="image/svg+xml"),
        )
        found: dict[str, list[str]] = {}
        for state in states(page, shop, judged):
            found[state] = violations(page, ["color-contrast"] if scheme == "dark" else None)  # colours alone differ
            shot(page, f"axe_{viewport['width']}_{scheme}_{state}", whole=False)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], state
        assert {state: wrong for state, wrong in found.items() if wrong} == {} and len(found) >= 7
