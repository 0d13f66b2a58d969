"""Search by a picture: the nearest pictures first, only what changed is encoded, nothing that the index lost."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image

import goodrate as gr
from goodrate.api.image_search import remembered_images
from goodrate.cli.search import command
from goodrate.models.vision.tiny import TinyVision
from goodrate.models.vision.vectors import PictureVectors
from goodrate.retrieval import image_vectors
from goodrate.retrieval.image_vectors import FILE, ImageVectors
from goodrate.shop.pictures import View, draw_item
from goodrate.shop.world import make_world
from test_catalog_images import drawn

COLORS = {"r": "red", "g": "lime", "b": "blue", "k": "black"}


class MeanColor:
    """A vector of four floats: the mean colour and a constant, at length 1. Notes what it encoded."""

    fingerprint, dimension = "mean-color", 4

    def __init__(self) -> None:
        self.encoded: list[bytes] = []

    def encode(self, pictures: Sequence[bytes]) -> np.ndarray:
        rows = np.zeros((len(pictures), 4), dtype=np.float32)
        for row, picture in enumerate(pictures):
            self.encoded.append(picture)
            if picture == b"odd":
                raise ValueError("no picture")
            image = Image.open(BytesIO(picture)).convert("RGB")
            rows[row] = [*(np.asarray(image).mean(axis=(0, 1)) / 255), 0.5]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def items(home: Path, colors: dict[str, str]) -> gr.Catalog:
    (home / "pics").mkdir(exist_ok=True)
    for name, color in colors.items():
        (home / "pics" / f"{name}.png").write_bytes(drawn(color))
    frame = pl.DataFrame(
        {"id": [*colors, "web", "none"], "image": [*[""] * len(colors), "https://a.example/1.png", ""]}
    )
    frame = frame.with_columns(title=pl.lit("lamp"), price=pl.int_range(pl.len()).cast(pl.Float64))
    return gr.read_catalog(frame, images=home / "pics")


@pytest.fixture
def index(tmp_path: Path) -> gr.Index:
    return gr.Index.create(tmp_path / "index", items(tmp_path, COLORS))


def test_the_nearest_picture_is_first(index: gr.Index) -> None:
    encoder = MeanColor()
    report = gr.index_pictures(index, encoder)
    assert (report.encoded, report.unchanged, report.without, report.unusable) == (4, 0, 2, ())
    hits = gr.search_image(index, drawn("#f04000"), 3, encoder=encoder)
    # cosines of (.941, .251, 0, .5) with red (1, 0, 0, .5), green (0, 1, 0, .5), black (0, 0, 0, .5)
    assert [hit.item["id"] for hit in hits] == ["r", "k", "g"]
    length = np.sqrt(0.941**2 + 0.251**2 + 0.25)
    expected = [(0.941 + 0.25) / length / np.sqrt(1.25), 0.5 / length, (0.251 + 0.25) / length / np.sqrt(1.25)]
    assert [hit.cosine for hit in hits] == pytest.approx(expected, abs=2e-3)
    assert [hit.rank for hit in hits] == [1, 2, 3] and hits[0].item["title"] == "lamp"
    assert [h.item["id"] for h in gr.search_image(index, drawn("red"), 9, "price > 0", encoder)] == ["k", "b", "g"]


def test_equal_pictures_stand_by_id_and_removed_items_are_not_found(index: gr.Index, tmp_path: Path) -> None:
    encoder = MeanColor()
    index.add(items(tmp_path, {"z": "red", "a": "red"}))
    gr.index_pictures(index, encoder)
    assert [hit.item["id"] for hit in gr.search_image(index, drawn("red"), 3, encoder=encoder)] == ["a", "r", "z"]
    index.remove(["a"])
    assert [hit.item["id"] for hit in gr.search_image(index, drawn("red"), 2, encoder=encoder)] == ["r", "z"]


def test_only_new_and_changed_pictures_are_encoded(index: gr.Index, tmp_path: Path) -> None:
    encoder = MeanColor()
    gr.index_pictures(index, encoder)
    encoder.encoded.clear()
    assert gr.index_pictures(index, encoder).unchanged == 4 and encoder.encoded == []
    index.add(items(tmp_path, {"r": "white", "n": "navy"}))
    index.remove(["g"])
    report = gr.index_pictures(index, encoder)
    assert (report.encoded, report.unchanged) == (2, 2)
    assert set(encoder.encoded) == {drawn("white"), drawn("navy")}
    held = ImageVectors.read(index.store.path)
    assert held is not None and held.ids == ("b", "k", "n", "r")
    other = MeanColor()
    other.fingerprint = "another"
    assert gr.index_pictures(index, other).encoded == 4  # another space: all anew


def test_an_interrupted_run_goes_on_from_what_it_kept(index: gr.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_vectors, "PART", 1)
    monkeypatch.setattr(image_vectors, "KEPT_EVERY", 1)
    encoder = MeanColor()

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gr.index_pictures(index, encoder, stop)  # b, g, k are kept when the fourth is reported
    assert len(ImageVectors.read(index.store.path).ids) == 3
    report = gr.index_pictures(index, encoder)
    assert (report.encoded, report.unchanged) == (1, 3)


def test_a_picture_that_became_unusable_is_told_and_the_others_are_there(index: gr.Index, tmp_path: Path) -> None:
    (tmp_path / "pics" / "g.png").unlink()
    (tmp_path / "pics" / "b.png").write_bytes(b"odd")
    report = gr.index_pictures(index, MeanColor())
    assert report.encoded == 2 and len(report.unusable) == 2
    assert report.unusable[0].startswith("g: expected a file inside") and report.unusable[1].startswith("b: no picture")


def test_what_cannot_be_asked(index: gr.Index, tmp_path: Path) -> None:
    encoder = MeanColor()
    with pytest.raises(ValueError, match="has no vectors of pictures; encode them: goodrate index"):
        gr.search_image(index, drawn(), encoder=encoder)
    with pytest.raises(ValueError, match="remembers no encoder of pictures"):
        gr.index_pictures(index)
    gr.index_pictures(index, encoder)
    text = tmp_path / "note.txt"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"note.txt: expected a picture in JPEG"):
        gr.search_image(index, text, encoder=encoder)
    other = MeanColor()
    other.fingerprint = "another"
    with pytest.raises(ValueError, match="were encoded by mean-color, not by another"):
        gr.search_image(index, drawn(), encoder=other)
    (index.store.path / FILE).write_bytes(b"PK")
    with pytest.raises(ValueError, match="image_vectors.npz is damaged"):
        gr.search_image(index, drawn(), encoder=encoder)


def test_vectors_are_means_of_tokens_at_length_one() -> None:
    encoder = TinyVision(size=16)
    vectors = PictureVectors(encoder)
    world = make_world(1, num_items=200)
    pictures = [draw_item(world, item, size=16) for item in range(20)]
    made = vectors.encode(pictures)
    assert made.shape == (20, vectors.dimension) and np.linalg.norm(made, axis=1) == pytest.approx(np.ones(20))
    assert np.allclose(made[17], vectors.encode([pictures[17]])[0], atol=1e-6)  # no matter the batch
    assert vectors.fingerprint == f"{encoder.fingerprint}-mean"


def test_from_the_command_line(tmp_path: Path) -> None:
    from goodrate.cli.index import command as index_command

    world = make_world(2, num_items=200)
    (tmp_path / "vision").mkdir()
    TinyVision(size=32).save(tmp_path / "vision")
    (tmp_path / "pics").mkdir()
    for item in range(8):
        Image.fromarray(draw_item(world, item, size=32)).save(tmp_path / "pics" / f"i{item}.png")
    pl.DataFrame({"id": [f"i{n}" for n in range(8)], "title": "thing"}).write_csv(tmp_path / "items.csv")
    asked = ["--out", str(tmp_path / "index"), "--images", str(tmp_path / "pics")]
    run = CliRunner().invoke(
        index_command, [str(tmp_path / "items.csv"), *asked, "--image-encoder", str(tmp_path / "vision")]
    )
    assert run.exit_code == 0 and "pictures: 8 encoded, 0 unchanged, 0 items without one" in run.output
    again = CliRunner().invoke(index_command, [str(tmp_path / "items.csv"), *asked[:2]])  # both are remembered
    assert "pictures: 0 encoded, 8 unchanged" in again.output and f"pictures from {tmp_path / 'pics'}" in again.output
    assert "0 added, 0 changed, 8 unchanged" in again.output
    photo = tmp_path / "photo.png"
    Image.fromarray(draw_item(world, 5, size=32, view=View(light=0.97))).save(photo)
    found = CliRunner().invoke(command, [str(tmp_path / "index"), "--image", str(photo), "-k", "3", "--json"])
    results = json.loads(found.stdout)["results"]
    assert results[0]["id"] == "i5" and [one["rank"] for one in results] == [1, 2, 3]
    shown = CliRunner().invoke(command, [str(tmp_path / "index"), "--image", str(photo)])
    assert re.search(r"1\s+thing\s+i5", shown.output) and "8 of 8 items" in shown.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["lamp", "--image", "x.png"], "it does not go with a query"),
        (["--image", "x.png", "--facets"], "it does not go with --facets"),
        (["--image", "x.png", "--sort", "price"], "it does not go with --sort"),
        (["--image", "gone.png"], "no such file: gone.png"),
        ([], "give a QUERY, or --image FILE"),
    ],
    ids=["query", "facets", "sort", "missing", "nothing"],
)
def test_options_that_do_not_go_together(index: gr.Index, options: list[str], message: str) -> None:
    run = CliRunner().invoke(command, [str(index.store.path), *options])
    assert run.exit_code != 0 and message in str(run.exception)


def test_a_remembered_folder_that_is_gone_is_named(index: gr.Index, tmp_path: Path) -> None:
    assert remembered_images(index.store.path) == (tmp_path / "pics").resolve()
    assert remembered_images(tmp_path / "nowhere") is None
    (tmp_path / "pics").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has its pictures; --images DIR names another folder"):
        remembered_images(index.store.path)
