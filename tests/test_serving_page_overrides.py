"""Overrides of entities in Chromium: previewed and saved at a result, listed, taken away; axe-core finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import page_browser
from entity_shop import LABELS, entity_pipeline
from goodrate.catalog.judgements import frame_judgements
from goodrate.relevance.override_file import OverrideFile
from goodrate.relevance.overrides import Override
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.store import Workbench
from page_browser import NARROW, WIDE, Served, search, settled, shot, violations
from serving_shop import SCRIPT

pytest.importorskip("axe_playwright_python")
pytestmark = page_browser.MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(params=[WIDE, NARROW], ids=["1280", "390"])
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, request.param)


@pytest.fixture
def wide(browser: Any) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, WIDE)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "judge").mkdir()
    labels = frame_judgements(pl.DataFrame(LABELS, schema=["query", "item_id", "label"], orient="row"), FOUR_LEVEL)
    server = Served(entity_pipeline(tmp_path / "judge"), Parts(workbench=Workbench(tmp_path), labels=labels))
    yield server
    server.stop()


def test_an_entity_is_overruled_after_a_look_at_what_that_changes(page: Any, served: Served) -> None:
    search(page, served, "red lamp")
    blue = page.locator(".result", has_text="blue lamp")
    assert "mismatch" in blue.inner_text()
    blue.get_by_role("button", name="Why").click()
    blue.get_by_role("button", name="What each entity says").click()
    blue.get_by_role("row", name="color: blue 0.00 0.75").wait_for()
    blue.get_by_role("button", name="Overrule: color: blue").click()
    form = blue.locator("form")
    assert form.get_by_role("button", name="Save").is_disabled()  # nobody has seen what it changes
    form.get_by_label("The entity").select_option("neutral")
    form.get_by_label("Your name").fill("Ada")
    form.get_by_role("button", name="Preview").click()
    form.get_by_text("nearer to their label: 1; further from it: 0").wait_for()
    form.get_by_label("The entity").select_option("support")
    assert form.get_by_role("button", name="Save").is_disabled()  # that was another one
    form.get_by_label("The entity").select_option("neutral")
    form.get_by_role("button", name="Preview").click()
    form.get_by_text("1 of 3 judged pairs change").wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    shot(page, f"overrides_form_{page.viewport_size['width']}", whole=False)
    form.get_by_role("button", name="Save").click()
    page.get_by_text("Saved, for every search from here on. 1 of 3 judged pairs change.").wait_for()
    assert "related" in page.locator(".result", has_text="blue lamp").inner_text()
    page.get_by_role("navigation", name="Workbench").get_by_role("link", name="Entities").click()
    page.get_by_role("button", name="Take away…").click()
    page.get_by_text("nearer to their label: 0; further from it: 1").wait_for()
    assert "1 better, 0 worse of 3" in page.locator("#log").inner_text()
    assert violations(page) == []
    shot(page, f"overrides_{page.viewport_size['width']}", whole=False)
    page.get_by_role("button", name="Take it away").click()
    page.get_by_text("Nobody overrules an entity").wait_for()
    search(page, served, "red lamp")
    assert "mismatch" in page.locator(".result", has_text="blue lamp").inner_text()


def test_a_class_of_queries_is_said_on_the_page(wide: Any, served: Served) -> None:
    wide.goto(f"{served.url}overrides/")
    form = wide.locator("form.overrule")
    form.get_by_label("Your name").fill("Ada")
    form.get_by_label("Query or words").fill("minus, without")
    form.get_by_role("button", name="Preview").click()
    form.get_by_text("none of the 5 labels").wait_for()
    form.get_by_role("button", name="Save").click()
    wide.get_by_text("1 override", exact=False).first.wait_for()
    assert "with {what}" in wide.locator("#list tbody").inner_text()
    wide.goto(f"{served.url}?query=lamp+minus+blue")
    settled(wide)
    assert "mismatch" in wide.locator(".result", has_text="blue lamp").inner_text()


def test_no_text_of_an_editor_runs(wide: Any, served: Served, tmp_path: Path) -> None:
    file = OverrideFile(tmp_path / "judge")
    file.add(file.read(), Override(verdict="support", query=SCRIPT, entity=SCRIPT, type=SCRIPT, note=SCRIPT), SCRIPT)
    wide.goto(f"{served.url}overrides/")
    wide.locator("#list tbody tr").wait_for()
    assert wide.locator("#list tbody").inner_text().count(SCRIPT) == 4
    wide.wait_for_timeout(100)
    assert wide.evaluate("window.harmed") is None and wide.locator("tbody img, tbody script").count() == 0
