"""The page shows the index's own pictures, from the server's own address, under a policy that is as strict as ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

import goodrate as gr
import page_browser
from goodrate.shop.pictures import View, draw_item, picture_share
from goodrate.shop.world import item_records, make_world
from page_browser import NARROW, WIDE, Served, search, shot, until

pytestmark = page_browser.MARKS
WORLD = make_world(5, num_items=240)
KIND = WORLD.taxonomy.categories.index("kettle")
GONE = "p/gone 1?"  # an id that has to be written out in an address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The kettles of a small shop with pictures by id; one has a path, one no picture, one a picture elsewhere."""
    home = tmp_path_factory.mktemp("pictured")
    chosen = [i for i in range(len(WORLD)) if WORLD.category[i] == KIND]
    records = item_records(WORLD)
    rows = [{**records[i], "title": f"kettle {records[i]['title']}", "image": ""} for i in chosen]
    (home / "pics").mkdir()
    shown = picture_share(WORLD, 0)
    for i, row in zip(chosen[:-1], rows[:-1], strict=True):
        picture = draw_item(WORLD, i, size=160, view=View(angle=30, seed=i), shown=shown[i])
        Image.fromarray(picture).save(home / "pics" / f"{row['id']}.png")
    rows[0] |= {"id": GONE, "image": f"{rows[0]['id']}.png"}
    rows[1] |= {"image": "https://elsewhere.example/a.png"}
    items = gr.read_catalog(pl.DataFrame(rows), images=home / "pics")
    server = Served(gr.Index.create(home / "index", items).pipeline)
    yield server
    server.stop()


def asked(page: Any) -> list[str]:
    """The addresses of pictures that a page asks for from here on; https ones are answered with nothing."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if request.resource_type == "image" else None)
    page.route("https://**", lambda route: route.fulfill(status=404))
    return requests


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_results_show_their_pictures(browser: Any, shop: Served, viewport: dict[str, int]) -> None:
    for page in page_browser.opened_page(browser, viewport):
        requests = asked(page)
        search(page, shop, "kettle")
        for place in range(page.locator(".picture").count()):
            page.locator(".picture").nth(place).scroll_into_view_if_needed()
        until(page, "[...document.querySelectorAll('.picture img')].every((image) => image.naturalWidth > 0)")
        own = [url for url in requests if not url.startswith(("data:", "https:"))]
        assert own and all(url.startswith(f"{shop.url}image/") and url.endswith("?size=192") for url in own)
        assert f"{shop.url}image/p%2Fgone%201%3F?size=192" in own
        widths = page.locator(".picture img").evaluate_all("all => all.map((image) => image.naturalWidth)")
        assert set(widths) == {160} and len(widths) == len(set(own))  # as large as it is, not enlarged
        assert page.locator(".picture:not(:has(img))").count() == 2  # of none, and of one that is gone elsewhere
        shot(page, f"pictures-{'wide' if viewport is WIDE else 'narrow'}", whole=False)


def test_the_policy_is_as_strict_as_ever(browser: Any, shop: Served) -> None:
    for page in page_browser.opened_page(browser, WIDE):
        answer = page.goto(shop.url)
        assert "img-src 'self' data: https://elsewhere.example;" in answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]


def test_the_folder_of_pictures_is_no_part_of_the_page(shop: Served, tmp_path: Path) -> None:
    import httpx

    first = next(i for i in range(len(WORLD)) if WORLD.category[i] == KIND)
    assert httpx.get(f"{shop.url}image/p{first:06d}.png").status_code == 404  # a file's name is no id
    assert httpx.get(f"{shop.url}image/..%2F..%2Fstore.json").status_code == 404
