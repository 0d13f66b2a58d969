"""The page over an index with variants and ranking rules: one result for all variants, and what a rule has moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import page_browser
from page_browser import WIDE, Served, search, settled, shot
from page_shop import FRAME

pytestmark = page_browser.MARKS
RULES = """
[[pin]]
name = "summer sale"
query = "kettle"
ids = ["k44", "l51"]
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, WIDE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import goodrate as gr

    folder = tmp_path_factory.mktemp("ranked")
    (folder / "rules.toml").write_text(RULES)
    index = gr.Index.create(folder / "index", FRAME)
    index.remember_grouping("parent_id")
    server = Served(index.with_rules(folder / "rules.toml").pipeline)
    yield server
    server.stop()


def test_variants_are_one_result_and_unfold(page: Any, shop: Served) -> None:
    search(page, shop, "lamp")
    cards = page.locator(".result")
    assert cards.count() == 1
    assert page.locator("#status").inner_text().startswith("1 result, 3 items found")
    folded = cards.first.locator(".variants")
    rows = folded.locator("li")
    assert not rows.first.is_visible()
    folded.get_by_text("2 more variants").click()
    titles = [cards.first.locator("h3").inner_text(), *rows.locator("> span:first-child").all_inner_texts()]
    assert sorted(title.split()[3] for title in titles) == ["blue", "red", "steel"]
    assert all("€" in text for text in rows.all_inner_texts()) and rows.count() == 2
    shot(page, "wide_variants")


def test_a_result_says_which_rule_moved_it(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    first = page.locator(".result").first
    assert first.locator("h3").inner_text() == "Mel & Quist kettle 44"
    assert first.locator(".rule").all_inner_texts() == ["Rule: summer sale"]
    fetched = page.locator(".result").nth(1)
    assert "Desk lamp" in fetched.locator("h3").inner_text()
    fetched.get_by_role("button", name="Details").click()
    assert "Not found by the search: a rule of the shop put it here." in fetched.locator(".detail").inner_text()
    assert page.locator(".rule").count() == 2
    shot(page, "wide_rules")
    page.get_by_label("Sort").select_option("price")
    page.locator(".rule").first.wait_for(state="detached")  # sorted results have no pinned places
    settled(page)
