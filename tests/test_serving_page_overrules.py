"""Overrules in Chromium: set at a result, marked, listed, undone; no text of a person runs; axe-core finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import page_browser
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.workbench.overrules import Overrules
from goodrate.serving.workbench.store import Workbench
from page_browser import NARROW, WIDE, Served, search, settled, shot, violations
from serving_shop import SCRIPT, FakeSearcher, FakeStore, fake_judge

pytest.importorskip("axe_playwright_python")
pytestmark = page_browser.MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(params=[WIDE, NARROW], ids=["1280", "390"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, request.param)


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def served(workbench: Workbench) -> Iterator[Served]:
    server = Served(SearchPipeline(FakeStore(), FakeSearcher(), fake_judge()), Parts(workbench=workbench))
    yield server
    server.stop()


def card(page: Any, title: str) -> Any:
    return page.locator(".result", has_text=title)


def test_a_verdict_is_set_marked_listed_and_undone(page: Any, served: Served) -> None:
    search(page, served, "red shoes")
    card(page, "Red kettle").get_by_role("button", name="Why").click()
    card(page, "Red kettle").get_by_role("button", name="Overrule the judge").click()
    form = card(page, "Red kettle").locator("form")
    form.get_by_label("It is").select_option("excellent")
    form.get_by_label("Your name").fill("Ada")
    form.get_by_label("Why").fill("sold as one set")
    form.get_by_label("Until").fill("2999-12-31")
    shot(page, f"overrule_form_{page.viewport_size['width']}", whole=False)
    form.get_by_role("button", name="Set").click()
    page.locator(".result").first.get_by_text("Set by Ada until 2999-12-31").wait_for()
    page.get_by_text("Kept: “Red kettle” is excellent for “red shoes”").wait_for()
    first = page.locator(".result").first
    assert first.locator("h3").inner_text() == "Red kettle" and first.locator(".chip").inner_text() == "Good"
    first.get_by_role("button", name="Why").click()
    first.get_by_text("The judge says irrelevant. Ada says excellent: sold as one set.").wait_for()
    first.locator(".reason dt").first.wait_for()
    assert violations(page) == []
    shot(page, f"overrule_set_{page.viewport_size['width']}", whole=False)
    page.get_by_role("navigation", name="Workbench").get_by_role("link", name="Overrules").click()
    row = page.locator("tbody tr")
    row.wait_for()
    assert "Red kettle" in row.inner_text() and "until 2999-12-31" in row.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    shot(page, f"overrules_{page.viewport_size['width']}", whole=False)
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Undone: the judge's verdict").wait_for()
    page.get_by_text("Nobody overrules the judge").wait_for()
    page.get_by_label("also what is expired or undone").check()
    page.get_by_text("undone by Ada").wait_for()
    assert violations(page) == []
    page.locator("tbody a").click()
    settled(page)
    assert page.locator(".result h3").last.inner_text() == "Red kettle" and page.locator(".set-by").count() == 0


def test_no_text_of_a_person_or_item_runs(page: Any, served: Served, workbench: Workbench) -> None:
    Overrules(workbench).set(SCRIPT, "a4", "excellent", SCRIPT, SCRIPT)
    page.goto(f"{served.url}overrules/")
    page.locator("tbody tr").wait_for()
    assert page.locator("tbody").inner_text().count(SCRIPT) == 4  # query, title, name and reason
    page.wait_for_timeout(100)
    assert page.evaluate("window.harmed") is None and page.locator("tbody img, tbody script").count() == 0


def test_without_a_workbench_nothing_is_offered_and_the_page_says_so(page: Any) -> None:
    server = Served(SearchPipeline(FakeStore(), FakeSearcher(), fake_judge()))
    search(page, server, "red shoes")
    card(page, "Red kettle").get_by_role("button", name="Why").click()
    page.locator(".reason dt").first.wait_for()
    assert page.get_by_role("button", name="Overrule the judge").count() == 0
    assert not page.locator("#pages").is_visible()
    page.goto(f"{server.url}overrules")
    page.get_by_text("--workbench DIR").wait_for()
    server.stop()
