"""The page in Chromium where a token is asked for, and where a search engine finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from PIL import Image

import goodrate as gr
import page_browser
from engine_server import engine, opensearch
from goodrate.serving.access import access_for
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.sources.opening import open_source
from goodrate.serving.sources.searching import SourceSearcher, SourceStore
from page_browser import Served, search, until
from serving_shop import fake_judge, fake_pipeline

pytestmark = page_browser.MARKS
TOKEN = "a-token-for-the-page"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from page_browser.started_chromium()


def test_a_browser_gives_the_token_as_a_password(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text(f"judge {TOKEN}\n", encoding="utf-8")
    guarded = Served(fake_pipeline(fake_judge()), Parts(access=access_for("0.0.0.0", tmp_path / "tokens.txt", False)))
    known = browser.new_context(http_credentials={"username": "anybody", "password": TOKEN})
    page = known.new_page()
    search(page, guarded, "red running shoes")
    assert page.locator(".result").count() == 5
    stranger = browser.new_context()
    with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):  # it was asked for a password and gave none
        stranger.new_page().goto(guarded.url)
    known.close(), stranger.close(), guarded.stop()


def test_pictures_and_clips_are_shown_here_and_in_the_page_of_a_shop(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for name in ("a.png", "a.gif"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / "pics" / name)
    rows = pl.DataFrame({"id": ["a/1"], "title": ["lamp"], "image": ["a.png"], "clip": ["a.gif"]})
    index = gr.Index.create(tmp_path / "index", gr.read_catalog(rows, images=tmp_path / "pics"))
    (tmp_path / "tokens.txt").write_text(f"search {TOKEN}\n", encoding="utf-8")
    empty = FastAPI()
    empty.get("/", response_class=HTMLResponse)(lambda: "a shop")
    shop = Served(None, app=empty)
    access = access_for("127.0.0.1", tmp_path / "tokens.txt", False, origins=[shop.url.rstrip("/")])
    guarded = Served(index.pipeline, Parts(access=access, clips=tmp_path / "pics"))
    known = browser.new_context(http_credentials={"username": "anybody", "password": TOKEN})
    page = known.new_page()
    search(page, guarded, "lamp")
    until(page, "document.querySelector('.picture img')?.naturalWidth === 40")
    page.get_by_role("button", name="Details").click()
    page.get_by_role("button", name="Play the clip").click()
    until(page, "document.querySelector('.clip img')?.naturalWidth === 40")
    known.close()
    strange = browser.new_context().new_page()  # of a shop, whose script sends the token and whose <img> cannot
    strange.goto(shop.url)
    show = """async ([server, token]) => {
        const head = { headers: { authorization: `Bearer ${token}` } };
        const sent = `?pass=${(await (await fetch(`${server}picture-pass`, head)).json()).pass}`;
        const shown = (path) => new Promise((told) => {
            const image = new Image();
            [image.onload, image.onerror] = [() => told(image.naturalWidth), () => told(0)];
            image.src = `${server}${path}${sent}`;
        });
        return [await shown("image/a%2F1"), await shown("clip/a%2F1")];
    }"""
    assert strange.evaluate(show, [guarded.url, TOKEN]) == [40, 40]  # without a pass the browser asks for a password
    strange.context.close(), guarded.stop(), shop.stop()


def test_the_page_is_there_by_its_own_names_alone(browser: Any) -> None:
    served = Served(fake_pipeline(), Parts(access=access_for("127.0.0.1", None, False)))
    port = served.url.rstrip("/").rsplit(":", 1)[1]
    page = browser.new_context().new_page()
    search(page, served, "shoes")
    assert page.goto(f"http://localhost:{port}/").status == 200
    # what a browser sends for a page whose name was made to lead here
    assert page.request.get(served.url, headers={"host": f"evil.example:{port}"}).status == 421
    served.stop()


def test_the_page_shows_what_an_engine_found(browser: Any) -> None:
    with engine(opensearch) as (host, _, _headers):
        source, address = open_source(f"opensearch://{host}/products?title=name&brand=maker&price=cost")
        store = SourceStore(source, address.columns)
        served = Served(SearchPipeline(store, SourceSearcher(source, store), fake_judge(), (source.name,)))
        for page in page_browser.opened_page(browser, page_browser.WIDE):
            search(page, served, "running shoes")
            titles = page.locator(".result h3").all_inner_texts()
            assert titles == ["Road running shoes, blue", "Trail running shoes"]
            assert page.locator(".chip").all_inner_texts() == ["Good", "Good"]
        served.stop()
