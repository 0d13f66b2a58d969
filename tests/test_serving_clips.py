"""/clip/{id}: clips of the index's items from one folder and no other place, and the page that plays them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.api.serving import clips_folder
from goodrate.content.clip_file import read_clip, write_clip
from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts

CLIPS = {"a": "a.webp", "b": "more/b.gif", "out": "../secret.webp", "gone": "no.webp", "text": "page.webp", "none": ""}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    write_clip(folder / "secret.webp", frames)
    write_clip(folder / "clips" / "a.webp", frames)
    (folder / "clips" / "more").mkdir()
    write_clip(folder / "clips" / "more" / "b.gif", frames)
    (folder / "clips" / "page.webp").write_text("<script>alert(1)</script>")
    frame = pl.DataFrame({"id": list(CLIPS), "title": [f"lamp {name}" for name in CLIPS], "clip": list(CLIPS.values())})
    gr.Index.create(folder / "index", frame)
    return folder


@pytest.fixture(scope="module")
def client(place: Path) -> TestClient:
    index = gr.Index.open(place / "index")
    return TestClient(create_app(index.pipeline, Parts(clips=place / "clips")))


def test_a_clip_is_sent_as_it_lies_in_the_folder(client: TestClient, place: Path) -> None:
    answer = client.get("/clip/a")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    assert (
        answer.content == (place / "clips" / "a.webp").read_bytes() and len(read_clip(place / "clips" / "a.webp")) == 3
    )
    assert client.get("/clip/b").headers["content-type"] == "image/gif"
    again = client.get("/clip/a", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("item", ["out", "gone", "text", "none", "nobody", "../secret.webp"])
def test_nothing_else_is_sent(client: TestClient, item: str) -> None:
    answer = client.get(f"/clip/{item}")
    assert answer.status_code == 404 and b"secret" not in answer.content.replace(b"../secret.webp", b"")


def test_a_server_without_clips_has_none(place: Path) -> None:
    plain = TestClient(create_app(gr.Index.open(place / "index").pipeline))
    assert plain.get("/clip/a").status_code == 404
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder; --clips"):
        clips_folder("nowhere")


def test_a_clip_is_no_text_and_the_policy_stays_strict(client: TestClient) -> None:
    found = client.get("/search", params={"query": "lamp", "k": 10}).json()["results"]
    assert {one["item_id"]: one["item"]["clip"] for one in found} == CLIPS
    assert all("clip" not in one["item"]["attributes"] for one in found)
    assert client.get("/search", params={"query": "webp", "mode": "lexical"}).json()["results"] == []
    policy = client.get("/").headers["content-security-policy"]
    assert "img-src 'self' data:; " in policy and "media-src" not in policy
