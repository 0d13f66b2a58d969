"""Side by side in Chromium: votes by mouse and keyboard, resumed, nothing of an item runs, axe-core finds nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import page_browser
from goodrate.serving.http import create_compare_app
from goodrate.serving.workbench.comparisons import Comparisons, MadeOf
from goodrate.serving.workbench.store import Workbench
from page_browser import DRAWING, NARROW, WIDE, Served, shot, until, violations
from serving_shop import ITEMS, SCRIPT

pytest.importorskip("axe_playwright_python")
pytestmark = page_browser.MARKS
QUERIES = ("red shoes", "running", "shoe care")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(params=[WIDE, NARROW], ids=["1280", "390"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    for opened in page_browser.opened_page(browser, request.param):
        opened.route(re.compile("^https:"), lambda route: route.fulfill(body=DRAWING, content_type="image/svg+xml"))
        yield opened


def shown_item(number: int) -> dict[str, Any]:
    item_id, title, brand, category, price, rating, attributes, description = ITEMS[number]
    image = f"https://pictures.example/{item_id}.svg" if number % 2 == 0 else ""
    return {
        "id": item_id, "title": title, "brand": brand, "category": category, "price": price, "currency": "USD",
        "rating": rating, "image": image, "attributes": attributes, "description": description,
    }  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Comparisons:
    kept = Comparisons(Workbench(tmp_path))
    number = kept.begin("old against new", MadeOf({"name": "old"}, {"name": "new"}, 10, 0, "", None))
    for query in QUERIES:
        kept.add(number, query, [shown_item(place) for place in (0, 1, 2, 3)], [shown_item(place) for place in (3, 0)])
    kept.add(number, "kettle", [shown_item(4)], [shown_item(4)])
    kept.finish(number, 0, None)
    return kept


@pytest.fixture
def served(kept: Comparisons) -> Iterator[Served]:
    server = Served(None, app=create_compare_app(kept._workbench))
    yield server
    server.stop()


def begin(page: Any, served: Served, name: str = "Ada") -> None:
    """Open the start, say a name, and take the one set."""
    page.goto(served.url)
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="old against new").click()
    page.get_by_text("0 of 3 compared").wait_for()


def votes(kept: Comparisons) -> list[tuple[str, str, str]]:
    return [(one["rater"], one["label"], one["comment"]) for one in kept.votes(1)]


def test_votes_by_mouse_and_keyboard_until_all_are_done(page: Any, served: Served, kept: Comparisons) -> None:
    width = page.viewport_size["width"]
    page.goto(served.url)
    page.get_by_text("Say who you are").wait_for()
    assert violations(page) == []
    begin(page, served)
    assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".picture.loaded").first.wait_for()
    shot(page, f"compare_{width}", whole=False)
    assert {page.locator("#left .one").count(), page.locator("#right .one").count()} == {4, 2}
    long = "left" if page.locator("#left .one").count() == 4 else "right"
    page.keyboard.press("c")
    page.keyboard.type("1 is better")  # in the comment, digits are text
    page.keyboard.press("Escape")
    page.keyboard.press("1" if long == "left" else "3")
    page.get_by_text("1 of 3 compared").wait_for()
    assert votes(kept) == [("Ada", "bad", "1 is better")]
    page.get_by_role("button", name="The same").click()
    page.get_by_text("2 of 3 compared").wait_for()
    better = "ArrowRight" if page.locator("#right .one").count() == 2 else "ArrowLeft"
    page.keyboard.press(better)
    page.get_by_text("You have compared 3 of 3").wait_for()
    assert [label for _, label, _ in votes(kept)] == ["bad", "same", "good"]
    assert violations(page) == []
    shot(page, f"compare_done_{width}", whole=False)
    page.get_by_role("button", name="Look through them again").click()
    page.locator("[aria-pressed=true]").wait_for()
    assert page.locator("[aria-pressed=true]").inner_text().startswith(long.title())
    assert page.get_by_label("Comment").input_value() == "1 is better"


def test_a_rater_goes_on_where_they_stopped(page: Any, served: Served, kept: Comparisons) -> None:
    begin(page, served)
    first = page.locator("#query").inner_text()
    page.keyboard.press("2")
    page.get_by_text("1 of 3 compared").wait_for()
    second = page.locator("#query").inner_text()
    page.reload()
    page.get_by_text("1 of 3 compared").wait_for()
    assert page.locator("#query").inner_text() == second != first
    page.keyboard.press("s")  # skipped: comes again at the end
    until(page, f"document.getElementById('query').textContent !== {second!r}")
    page.keyboard.press("2")
    page.get_by_text("2 of 3 compared").wait_for()
    assert page.locator("#query").inner_text() == second
    page.get_by_role("button", name="Change").click()
    page.get_by_label("Your name").fill("Bo")
    page.keyboard.press("Enter")
    page.get_by_text("0 of 3 compared").wait_for()
    assert page.locator("#query").inner_text() == first


def test_a_vote_that_is_not_kept_is_not_passed_over(page: Any, served: Served, kept: Comparisons) -> None:
    begin(page, served)
    first = page.locator("#query").inner_text()
    page.route("**/compare/votes", lambda route: route.abort())
    page.keyboard.press("2")
    page.get_by_text("Your vote is not kept.").wait_for()
    assert page.locator("#query").inner_text() == first and votes(kept) == []
    page.unroute("**/compare/votes")
    page.keyboard.press("2")
    page.get_by_text("1 of 3 compared").wait_for()
    assert [label for _, label, _ in votes(kept)] == ["same"]


def test_texts_are_texts_and_pictures_come_from_the_sets_hosts_alone(page: Any, served: Served) -> None:
    begin(page, served)
    assert SCRIPT in page.locator(".lists").inner_text()
    page.locator(".one", has_text="Shoe polish").first.get_by_text("More").click()
    page.wait_for_timeout(100)
    assert page.evaluate("window.harmed") is None and page.locator("main script").count() == 0
    policy = page.request.get(f"{served.url}compare/").headers["content-security-policy"]
    assert "img-src 'self' data: https://pictures.example;" in policy
    assert "old" not in page.locator(".lists").inner_text()


def test_dark_and_empty(browser: Any, served: Served, tmp_path: Path) -> None:
    for page in page_browser.opened_page(browser, NARROW, "dark"):
        begin(page, served)
        assert violations(page, ["color-contrast"]) == []
        empty = Served(None, app=create_compare_app(Workbench(tmp_path / "other")))
        page.goto(empty.url)
        page.get_by_label("Your name").fill("Ada")
        page.keyboard.press("Enter")
        page.get_by_text("There is nothing to compare").wait_for()
        empty.stop()
