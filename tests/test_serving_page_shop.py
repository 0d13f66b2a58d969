"""The page over a real index: filters, chips, sorting, more results, pictures, and an address that holds all of it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import page_browser
from page_browser import NARROW, WIDE, Served, search, settled, shot, until
from page_shop import FINISHES, FRAME, KETTLES, PICTURES

pytestmark = page_browser.MARKS
OF_BRAND = {
    brand: sum(one["brand"] == brand for one in KETTLES) for brand in ("Brumm", "Zorvo", "O'Dare", "Mel & Quist")
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    for opened in page_browser.opened_page(browser, WIDE):
        with_pictures(opened)
        yield opened


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    for opened in page_browser.opened_page(browser, NARROW):
        with_pictures(opened)
        yield opened


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if os.environ.get("PAGE_DEV"):
        yield SimpleNamespace(url=os.environ["PAGE_DEV"])
        return
    import goodrate as gr

    server = Served(gr.Index.create(tmp_path_factory.mktemp("shop") / "index", FRAME).pipeline)
    yield server
    server.stop()


def with_pictures(page: Any) -> None:
    """Stand in for the host of the pictures: number 5 has gone. What was asked for is kept in page.pictures."""
    page.pictures = []

    def answer(route: Any) -> None:
        page.pictures.append(route.request)
        gone = route.request.url.endswith("/5.svg")
        route.fulfill(status=404) if gone else route.fulfill(body=page_browser.DRAWING, content_type="image/svg+xml")

    page.route(re.compile("^https:"), answer)


def titles(page: Any) -> list[str]:
    return list(page.locator("#results:not(.waiting) .result h3").all_inner_texts())


def facts(page: Any) -> str:
    return "\n".join(page.locator(".result .facts").all_inner_texts())


def choose(page: Any, text: str) -> None:
    """Click a value of a facet, and wait until its chip has come or gone and the results are there."""
    box = page.locator(".choice", has=page.locator(f'.name:text-is("{text}")')).locator("input")
    chosen = box.is_checked()
    box.click()
    page.locator(f'.part.filter:has-text("{text}")').wait_for(state="detached" if chosen else "attached")
    settled(page)


def chips(page: Any) -> list[str]:
    return [text.removesuffix(" ×") for text in page.locator("#chips .part").all_inner_texts()]


def counts(page: Any, facet: str) -> dict[str, str]:
    """The values of a facet that are shown, with their counts."""
    rows = page.get_by_role("group", name=facet, exact=True).locator(".choice")
    pairs = [text.split("\n") for text in rows.all_inner_texts()]
    return {pair[0]: pair[-1] for pair in pairs}


def prices(page: Any) -> list[float]:
    return [float(text.removeprefix("€")) for text in page.locator(".result > .body > .facts .price").all_inner_texts()]


def test_values_of_one_facet_are_joined_by_or_and_facets_by_and(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    before = counts(page, "Brand")
    assert before == {brand: str(count) for brand, count in OF_BRAND.items()}
    choose(page, "O'Dare")
    choose(page, "Zorvo")
    both = OF_BRAND["O'Dare"] + OF_BRAND["Zorvo"]
    assert f"of {both} results" in page.locator("#status").inner_text()
    assert counts(page, "Brand") == before  # as if no brand were chosen, so that another can be
    choose(page, "red")
    shown = facts(page)
    wanted = [one for one in KETTLES if one["brand"] in ("O'Dare", "Zorvo") and '"red"' in str(one["attributes"])]
    assert page.locator(".result").count() == len(wanted)
    assert "O'Dare" in shown and "Zorvo" in shown and "Brumm" not in shown
    assert chips(page) == ["Brand: O'Dare", "Brand: Zorvo", "Colour: red"]
    shot(page, "wide_filters")
    page.locator("#chips").get_by_role("button", name="Clear all").click()
    page.locator(".part.filter").first.wait_for(state="detached")
    settled(page)
    assert counts(page, "Brand") == before and page.locator(".choice input:checked").count() == 0


@pytest.mark.parametrize("window", ["page", "phone"])
def test_a_facet_counts_what_its_other_values_would_find(
    request: pytest.FixtureRequest, window: str, shop: Served
) -> None:
    page = request.getfixturevalue(window)
    search(page, shop, "kettle")
    page.keyboard.press("Escape")
    if window == "phone":
        page.get_by_role("button", name="Filter", exact=True).click()
        page.get_by_role("dialog", name="Filters").wait_for()
    for value in ("O'Dare", "Zorvo", "red"):
        choose(page, value)
    of_brands = [one for one in KETTLES if one["brand"] in ("O'Dare", "Zorvo")]
    red = Counter(str(one["brand"]) for one in KETTLES if '"red"' in str(one["attributes"]))
    colours = Counter(json.loads(str(one["attributes"]))["colour"] for one in of_brands)
    assert counts(page, "Brand") == {brand: str(count) for brand, count in red.items()}
    assert counts(page, "Colour") == {colour: str(count) for colour, count in colours.items()}
    assert page.locator(".choice input:checked").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    shot(page, f"disjunctive_{window}", whole=False)


def test_a_chip_takes_its_filter_away_and_the_focus_stays_near(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    choose(page, "Zorvo")
    choose(page, "blue")
    page.get_by_role("button", name="Brand: Zorvo: remove this filter").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Brand: Zorvo").wait_for(state="detached")
    settled(page)
    assert chips(page) == ["Colour: blue"] and "Zorvo" not in page.url
    assert "Colour: blue" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.locator(".part.filter").wait_for(state="detached")
    settled(page)
    assert page.evaluate("document.activeElement.id") == "results"  # nothing is left to hold it
    page.get_by_role("checkbox", name=re.compile("^blue")).focus()
    page.keyboard.press("Space")
    page.locator(".part.filter").wait_for()
    settled(page)
    assert page.evaluate("document.activeElement.parentElement.innerText").startswith("blue")


def test_a_facet_with_many_values_shows_a_few_and_the_rest_on_demand(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    assert len(counts(page, "Finish")) == 7
    page.get_by_role("group", name="Finish", exact=True).get_by_role("button", name="Show 3 more").click()
    assert set(counts(page, "Finish")) == set(FINISHES)
    assert page.evaluate("document.activeElement.type") == "checkbox"  # the first of those that came


def test_prices_have_their_currency_ranges_and_bounds(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    assert page.locator(".result .price").first.inner_text().startswith("€")
    group = page.get_by_role("group", name="Price", exact=True)
    assert all("€" in name for name in counts(page, "Price"))
    group.get_by_label("Price from").fill("20")
    group.get_by_label("Price to").fill("40")
    page.keyboard.press("Tab")
    page.get_by_text("Price: up to €40").wait_for()
    settled(page)
    assert chips(page) == ["Price: from €20", "Price: up to €40"]
    inside = sum(20 <= one["price"] <= 40 for one in KETTLES)
    assert len(prices(page)) == min(inside, 20) and all(20 <= price <= 40 for price in prices(page))


def test_sorting_by_price_and_rating(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    for value, place in (("price", 0), ("-price", -1)):
        page.get_by_label("Sort").select_option(value)
        page.wait_for_url(re.compile(f"sort={value}"))
        settled(page)
        shown = prices(page)
        assert shown == sorted(shown, reverse=place == -1) and len(shown) == 20
        assert shown[0] == sorted(one["price"] for one in KETTLES)[place]
    page.get_by_label("Sort").select_option("-rating")
    page.wait_for_url(re.compile("sort=-rating"))
    settled(page)
    ratings = [float(found) for found in re.findall(r"★ (\d\.\d)", facts(page))]
    assert len(ratings) == 20 and ratings == sorted(ratings, reverse=True)


def test_more_results_go_on_where_the_list_ends(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    more = page.get_by_role("button", name="More results")
    assert page.locator(".result").count() == 20
    more.click()
    page.locator(".result").nth(39).wait_for()
    assert "40 of 45 results" in page.locator("#status").inner_text() and "shown=40" in page.url
    assert page.evaluate("document.activeElement.querySelector('.place').textContent") == "21"
    more.click()
    page.locator(".result").nth(44).wait_for()
    assert page.locator(".place").all_inner_texts() == [str(place) for place in range(1, 46)]
    assert sorted(titles(page)) == sorted(str(one["title"]) for one in KETTLES)
    assert not more.is_visible()
    page.reload()
    settled(page)
    assert page.locator(".result").count() == 45


def test_back_forward_and_reload_restore_the_view_and_where_it_was_scrolled(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    choose(page, "O'Dare")
    page.get_by_label("Sort").select_option("price")
    page.wait_for_url(re.compile("sort=price"))
    settled(page)
    page.evaluate("scrollTo(0, 300)")
    choose(page, "red")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    page.get_by_text("Colour: red").wait_for(state="detached")
    settled(page)
    until(page, "scrollY === 300")
    assert page.get_by_label("Search the catalogue").input_value() == "kettle"
    assert page.get_by_label("Sort").input_value() == "price" and len(titles(page)) == 20 and "Brumm" not in facts(page)
    page.reload()
    settled(page)
    until(page, "scrollY === 300")
    assert len(titles(page)) == 20 and "Brumm" not in facts(page)
    page.go_back()
    page.go_back()
    page.locator(".part.filter").wait_for(state="detached")
    settled(page)
    assert page.get_by_label("Sort").input_value() == "" and "Brumm" in facts(page)
    page.evaluate("scrollTo(0, 200)")
    page.go_forward()
    page.get_by_text("Brand: O'Dare").wait_for()
    settled(page)
    page.go_back()
    page.get_by_text("Brand: O'Dare").wait_for(state="detached")
    until(page, "scrollY === 200")
    page.go_forward()
    page.get_by_text("Brand: O'Dare").wait_for()
    settled(page)
    assert len(titles(page)) == 20 and "Brumm" not in facts(page)
    for _ in range(2):
        page.go_back()
    page.get_by_text("What would a customer type?").wait_for()


def test_a_shared_address_shows_the_same_to_somebody_else(page: Any, phone: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    choose(page, "O'Dare")
    choose(page, "Brumm")
    page.get_by_label("Sort").select_option("-price")
    page.wait_for_url(re.compile("sort=-price"))
    settled(page)
    page.get_by_role("button", name="More results").click()
    page.locator(".result").nth(20).wait_for()
    phone.goto(page.url)
    settled(phone)
    assert titles(phone) == titles(page) and chips(phone) == chips(page) and len(titles(page)) > 20
    assert phone.get_by_label("Sort").input_value() == "-price"


def test_an_older_answer_never_replaces_a_newer_one(page: Any, shop: Served) -> None:
    held = []
    page.route("**/search?query=kettle*", lambda route: held.append(route))
    page.goto(shop.url)
    field = page.get_by_label("Search the catalogue")
    field.fill("kettle")
    page.keyboard.press("Enter")
    page.get_by_text("Searching…").wait_for()
    field.fill("lamp")
    page.keyboard.press("Enter")
    page.locator("h3:text('Desk lamp')").first.wait_for()
    for route in held:
        route.continue_()
    page.wait_for_timeout(300)
    assert held and all("lamp" in title for title in titles(page)) and "query=lamp" in page.url


def test_pictures_keep_their_place_and_a_missing_one_is_neutral(page: Any, shop: Served) -> None:
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => "
        "{ moved += one.value; })).observe({ type: 'layout-shift' });"
    )
    held: list[Any] = []
    page.route(re.compile("^https:"), lambda route: held.append(route))
    page.goto(f"{shop.url}?query=kettle&sort=price")
    settled(page)
    until(page, "document.querySelectorAll('.picture img').length > 9")
    page.evaluate("moved = 0")
    for route in held:
        route.fulfill(body=page_browser.DRAWING, content_type="image/svg+xml")
    until(page, "document.querySelectorAll('.picture.loaded').length > 2")
    page.wait_for_timeout(100)
    assert page.evaluate("moved") == 0
    sizes = page.locator(".picture").evaluate_all("all => all.map((one) => `${one.offsetWidth} ${one.offsetHeight}`)")
    assert set(sizes) == {"96 96"} and len(sizes) == 20
    image = page.locator(".picture img").first
    title = image.locator("xpath=ancestor::li//h3").inner_text()
    assert image.get_attribute("alt") == title and image.get_attribute("loading") == "lazy"
    assert page.locator(".picture:not(:has(img))").count() > 0  # of items without one
    assert held and all(route.request.url.startswith(PICTURES) for route in held)
    assert all("referer" not in route.request.headers for route in held)


def test_a_picture_that_has_gone_leaves_the_neutral_one(page: Any, shop: Served) -> None:
    search(page, shop, "kettle 05")
    gone = page.locator(".result", has_text="kettle 05").locator(".picture")
    gone.locator("img").wait_for(state="detached")
    assert gone.evaluate("one => [one.offsetWidth, one.offsetHeight]") == [96, 96]
    assert f"{PICTURES}/5.svg" in [request.url for request in page.pictures]


def test_only_the_catalogues_own_hosts_are_asked_for_pictures(page: Any, shop: Served) -> None:
    page.goto(shop.url)
    page.evaluate(
        "const image = new Image(); image.onerror = () => { window.refused = true; }; image.src = 'https://other.example/a.png';"
    )
    until(page, "window.refused")
    assert page.pictures == []


def test_nothing_found_offers_to_take_filters_away(page: Any, shop: Served) -> None:
    page.goto(f"{shop.url}?query=kettle&f.brand=brand+%3D+%27Zorvo%27&price_from=9999")
    notice = page.locator(".notice")
    notice.get_by_text("No item passes the filters").wait_for()
    ways = notice.get_by_role("button").all_inner_texts()
    assert ways == ["Without Brand: Zorvo", "Without Price: from 9,999", "Without any filter"]
    shot(page, "wide_empty")
    notice.get_by_role("button", name="Without Price").click()
    page.locator(".result").first.wait_for()
    assert len(titles(page)) == OF_BRAND["Zorvo"] and chips(page) == ["Brand: Zorvo"]


def test_a_wrong_condition_is_said_and_can_be_taken_away(page: Any, shop: Served) -> None:
    search(page, shop, "kettle")
    page.get_by_text("More options").click()
    page.get_by_label("Condition", exact=True).fill("bad = 3")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("alert").wait_for()
    assert "bad" in page.locator(".notice.error").inner_text() and chips(page) == ["Condition: bad = 3"]
    page.get_by_role("button", name="Condition: bad = 3: remove this filter").click()
    page.locator(".result").first.wait_for()
    assert "where=" not in page.url


def test_suggestions_are_gone_through_with_arrows(page: Any, shop: Served) -> None:
    page.goto(shop.url)
    field = page.get_by_role("combobox", name="Search the catalogue")
    field.press_sequentially("kett")
    first = page.locator("#suggestions [role=option]").first
    first.wait_for()
    assert field.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    assert field.get_attribute("aria-activedescendant") == first.get_attribute("id")
    assert first.get_attribute("aria-selected") == "true"
    wanted = first.locator("span").first.inner_text()
    page.keyboard.press("Enter")
    settled(page)
    assert field.input_value() == wanted and not page.locator("#suggestions").is_visible()
    field.press_sequentially(" ")
    page.keyboard.press("Escape")
    assert field.get_attribute("aria-expanded") == "false"


def test_filters_are_on_a_sheet_in_a_narrow_window(phone: Any, shop: Served) -> None:
    search(phone, shop, "kettle")
    assert not phone.locator("#facets").is_visible()
    phone.keyboard.press("Escape")
    button = phone.get_by_role("button", name="Filter", exact=True)
    button.focus()
    phone.keyboard.press("Enter")
    sheet = phone.get_by_role("dialog", name="Filters")
    sheet.wait_for()
    assert phone.evaluate("document.getElementById('sheet').contains(document.activeElement)")
    sheet.get_by_role("checkbox", name=re.compile("^Zorvo")).click()
    phone.get_by_role("button", name=f"Show {OF_BRAND['Zorvo']} items").wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    shot(phone, "narrow_sheet", whole=False)
    phone.go_back()
    sheet.wait_for(state="hidden")
    phone.get_by_text("Brand: Zorvo").wait_for(state="detached")
    phone.go_forward()
    phone.get_by_text("Brand: Zorvo").wait_for()
    settled(phone)
    phone.locator("#open-filters").press("Enter")
    sheet.wait_for()
    phone.keyboard.press("Escape")
    sheet.wait_for(state="hidden")
    assert phone.evaluate("document.activeElement.id") == "open-filters"
    assert phone.locator("#open-filters").inner_text() == "Filter (1)" and len(titles(phone)) == OF_BRAND["Zorvo"]
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    shot(phone, "narrow_results", whole=False)
    phone.set_viewport_size({"width": 1280, "height": 900})
    phone.locator("#side #facets").wait_for()
    assert phone.locator("#side .choice input:checked").count() == 1
