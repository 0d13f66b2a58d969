"""The page in Chromium: results, tiers, reasons, filters, keyboard, states, and that no catalogue text can run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

import page_browser
from goodrate.retrieval.filters import filter_sql
from goodrate.serving.pipeline import SearchPipeline
from page_browser import Served, search, settled, shot
from serving_shop import SCRIPT, FakeSearcher, FakeStore, fake_judge, fake_pipeline

pytestmark = page_browser.MARKS


@pytest.fixture(scope="module")
def searcher() -> FakeSearcher:
    return FakeSearcher()


@pytest.fixture(scope="module")
def served(searcher: FakeSearcher) -> Iterator[Served]:
    server = Served(SearchPipeline(FakeStore(), searcher, fake_judge()))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    yield from page_browser.opened_page(browser, {"width": 1100, "height": 800})


def test_results_show_tier_odds_and_facts(page: Any, served: Served) -> None:
    search(page, served, "red running shoes")
    cards = page.locator(".result")
    assert cards.count() == 5
    assert page.locator(".chip").all_inner_texts() == ["Good", "Good", "Mid", "No verdict", "Bad"]
    first = cards.first
    assert first.locator("h3").inner_text() == "Road running shoes, blue"
    assert first.locator(".facts").inner_text().split("\n") == ["120.50", "★ 4.1", "Zorvo", "running shoes"]
    assert (
        first.locator(".odds").get_attribute("aria-label") == "irrelevant 0%, mismatch 0%, related 20%, excellent 80%"
    )
    assert first.locator(".label").inner_text() == "excellent 80%"
    assert "5 results: 2 Good, 1 Mid, 1 Bad" in page.locator("#status").inner_text()
    assert "1 could not be judged" in page.locator("#status").inner_text()
    assert "query=red+running+shoes" in page.url
    shot(page, "desktop")


def test_why_opens_reason_channels_and_attributes(page: Any, served: Served) -> None:
    search(page, served, "red running shoes")
    why = page.locator(".result").nth(1).get_by_role("button", name="Why")
    why.click()
    detail = page.locator(".result").nth(1).locator(".detail")
    detail.locator(".reason dt").first.wait_for()  # attributes are a list of terms too
    text = detail.inner_text()
    assert "running shoes; colour red (required); price 100 (at most)" in text
    assert "lexical\t1\t8.000\t75%" in text and "41, 42" in text and "excellent\t50.0%" in text
    assert why.get_attribute("aria-expanded") == "true" and "null" not in text
    page.locator(".result").nth(0).get_by_role("button", name="Why").click()
    page.get_by_text("These steps lead to another label").wait_for()
    shot(page, "desktop_why")
    why.click()
    assert not detail.is_visible()


def test_no_text_of_the_catalogue_runs(page: Any, served: Served) -> None:
    search(page, served, SCRIPT)
    polish = page.locator(".result", has_text="Shoe polish")
    assert polish.locator("h3").inner_text() == f"Shoe polish {SCRIPT}"
    polish.get_by_role("button").click()
    assert SCRIPT in polish.locator(".description").inner_text()
    page.wait_for_timeout(100)
    assert page.evaluate("window.harmed") is None
    assert page.locator("main script, main img").count() == 0


def test_filters_become_one_condition(page: Any, served: Served, searcher: FakeSearcher) -> None:
    search(page, served, "shoes")
    page.get_by_label("Price from").fill("10")
    page.keyboard.press("Tab")
    page.wait_for_url(re.compile("price_from=10"))
    page.get_by_label("Price to").fill("99.5")
    page.keyboard.press("Tab")
    page.wait_for_url(re.compile("price_to=99.5"))
    page.locator("[name=rating_from]").select_option("4")
    page.get_by_text("More options").click()
    page.get_by_label("Condition", exact=True).fill("category = 'socks' OR price > 3")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name="Condition:").wait_for()
    settled(page)
    wanted = "price >= 10 AND price <= 99.5 AND rating >= 4 AND (category = 'socks' OR price > 3)"
    assert filter_sql(wanted) is not None
    assert ("shoes", 50, wanted, "hybrid") in searcher.asked
    searcher.asked.clear()
    page.reload()
    settled(page)
    assert page.get_by_label("Price to").input_value() == "99.5" and ("shoes", 50, wanted, "hybrid") in searcher.asked
    page.get_by_role("button", name="Clear all").click()
    page.get_by_role("button", name="Condition:").wait_for(state="detached")
    settled(page)
    assert searcher.asked[-1] == ("shoes", 50, None, "hybrid") and "price" not in page.url


def test_empty_and_start_states(page: Any, served: Served) -> None:
    page.goto(served.url)
    page.get_by_text("What would a customer type?").wait_for()
    assert page.evaluate("document.activeElement.id") == "query" and not page.locator("#side").is_visible()
    shot(page, "start")
    search(page, served, "nothing")
    assert "Nothing found for “nothing”" in page.locator(".notice").inner_text()
    shot(page, "empty")


def test_what_is_typed_stays_when_the_server_says_late_what_it_serves(page: Any, served: Served) -> None:
    held: list[Any] = []
    page.route("**/healthz*", lambda route: held.append(route))
    page.goto(served.url)
    page.get_by_label("Search the catalogue").fill("shoes")
    held[0].continue_()
    page.get_by_text("5 items, judge fake").wait_for()
    assert page.get_by_label("Search the catalogue").input_value() == "shoes"


def test_an_error_says_what_is_wrong_and_can_be_tried_again(page: Any, served: Served) -> None:
    page.goto(f"{served.url}?query=shoes&where=bad")
    page.get_by_text("no column named bad").wait_for()
    shot(page, "error")
    page.route(
        "**/search?*", lambda route: route.continue_(url=route.request.url.replace("where=", "mode=hybrid&ignore="))
    )
    page.get_by_role("button", name="Try again").click()
    page.locator(".result").first.wait_for()


def test_a_stopped_server_is_said_so(page: Any) -> None:
    server = Served(fake_pipeline())
    page.goto(server.url)
    page.get_by_text("no judge").wait_for()
    server.stop()
    page.get_by_label("Search the catalogue").fill("shoes")
    page.keyboard.press("Enter")
    page.get_by_text("The server does not answer. Is goodrate serve").wait_for()


def test_keyboard(page: Any, served: Served) -> None:
    search(page, served, "shoes")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.querySelector('.place').textContent") == "2"
    page.keyboard.press("k")
    page.keyboard.press("o")
    assert page.locator(".result").first.locator(".detail").is_visible()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_mobile_does_not_scroll_sideways(browser: Any, served: Served, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    search(page, served, "red running shoes")
    page.locator(".result").first.get_by_role("button", name="Why").click()
    page.locator(".reason dt").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Price from").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shot(page, f"mobile_{scheme}")
    context.close()


def test_dark_scheme_changes_the_ground(browser: Any, served: Served) -> None:
    context = browser.new_context(viewport={"width": 1100, "height": 800}, color_scheme="dark")
    page = context.new_page()
    search(page, served, "red running shoes")
    page.locator(".result").first.get_by_role("button", name="Why").click()
    page.locator(".reason dt").first.wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 19)"
    shot(page, "dark")
    context.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real index of four items, without a judge."""
    import polars as pl

    import goodrate as gr

    titles = ["kettle with whistle", "kettle, no whistle", "steel kettle", "red laptop"]
    frame = pl.DataFrame({"id": list("abcd"), "title": titles, "price": [10.0, 15.0, 90.0, 500.0]})
    server = Served(gr.Index.create(tmp_path_factory.mktemp("page") / "index", frame).pipeline)
    yield server
    server.stop()


def test_conditions_that_were_read_can_be_taken_back_with_a_click(page: Any, shop: Served) -> None:
    search(page, shop, "kettle without whistle under $20")
    parts, titles = page.locator(".part"), page.locator(".result h3")
    assert [text.split(" ×")[0] for text in parts.all_inner_texts()] == ["without whistle", "under $20"]
    assert titles.all_inner_texts() == ["kettle, no whistle", "kettle with whistle"]
    assert page.locator(".excluded").all_inner_texts() == ["has what you asked to be without"]
    shot(page, "conditions")
    parts.nth(1).click()
    page.locator(".part.off").wait_for()
    page.locator(".result h3:text('steel kettle')").wait_for()
    page.locator(".part.off").click()
    page.locator(".part.off").wait_for(state="detached")
    assert titles.count() == 2


def test_a_misspelt_query_is_corrected_and_can_be_asked_as_it_was_typed(page: Any, shop: Served) -> None:
    search(page, shop, "labtop")
    assert page.locator(".meant").inner_text() == "Results for laptop. Search for “labtop” instead"
    assert page.locator(".result h3").all_inner_texts() == ["red laptop"]
    shot(page, "corrected")
    page.get_by_role("button", name="instead").click()
    page.locator(".notice h2:text('Nothing found')").wait_for()
    page.get_by_role("button", name="laptop").click()
    page.locator(".result h3:text('red laptop')").wait_for()


def test_suggestions_follow_what_is_typed(page: Any, shop: Served) -> None:
    page.goto(shop.url)
    page.get_by_label("Search the catalogue").press_sequentially("kett")
    page.locator("#suggestions [role=option]:has-text('kettle')").first.wait_for()
