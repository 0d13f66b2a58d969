"""The page plays an item's clip when a person asks for it, and stops it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

import goodrate as gr
import page_browser
from goodrate.content.clip_file import write_clip
from goodrate.serving.parts import Parts
from goodrate.shop.clips import turntable
from goodrate.shop.world import make_world
from page_browser import WIDE, Served, search, shot, until, violations

pytestmark = page_browser.MARKS
GONE = "p/gone 1?"  # an id that has to be written out in an address, whose clip is not there


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("filmed")
    world = make_world(5, num_items=60, num_brands=8)
    desk = int(np.flatnonzero(world.category == world.taxonomy.categories.index("desk"))[0])
    write_clip(home / "clips" / "desk.webp", turntable(world, desk, frames=4, size=32))
    rows = [["d1", "desk one", "desk.webp"], [GONE, "desk two desk", "gone.webp"], ["d3", "lamp for a desk", ""]]
    index = gr.Index.create(home / "index", pl.DataFrame(rows, schema=["id", "title", "clip"], orient="row"))
    server = Served(index.pipeline, Parts(clips=home / "clips"))
    yield server
    server.stop()


def test_a_clip_plays_only_while_it_is_wanted(browser: Any, shop: Served) -> None:
    for page in page_browser.opened_page(browser, WIDE):
        search(page, shop, "desk")
        for row in page.locator(".result").all():
            row.get_by_role("button", name="Details").click()
        assert page.get_by_role("button", name="Play the clip").count() == 2  # the lamp has none
        assert page.locator(".clip img").count() == 0  # nothing moves, and nothing is loaded, unasked
        one = page.locator(".result").filter(has_text="desk one")
        one.get_by_role("button", name="Play the clip").click()
        until(page, "document.querySelector('.clip img')?.naturalWidth === 256")
        assert one.locator(".clip img").get_attribute("alt") == "desk one, turning"
        assert violations(page) == []
        shot(page, "clip")
        one.get_by_role("button", name="Stop the clip").click()
        assert page.locator(".clip img").count() == 0
        two = page.locator(".result").filter(has_text="desk two")
        two.get_by_role("button", name="Play the clip").click()
        two.get_by_text("This clip cannot be shown.").wait_for()
