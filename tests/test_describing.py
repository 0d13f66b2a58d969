"""Attributes filled in from pictures: the probe learns, abstains and travels; runs go on; files, index and page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import goodrate as gr
from calling import called
from goodrate.api.describing import DESCRIBED, describe, fit_describer, open_describer
from goodrate.catalog.inferred import INFERRED
from goodrate.catalog.items import Catalog
from goodrate.understanding.attribute_guess import AttributeGuess, Picture
from goodrate.understanding.attribute_values import answerable, stated_values
from goodrate.understanding.picture_features import open_features
from goodrate.understanding.picture_probe import chosen_threshold, fit_probe

PAINT = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}
KINDS = ("lamp", "chair")


def picture(colour: str, seed: int) -> np.ndarray:
    """A noisy patch of a colour."""
    noise = np.random.default_rng(seed).integers(-25, 25, (16, 16, 3))
    return np.clip(np.asarray(PAINT[colour]) + noise, 0, 255).astype(np.uint8)


def shop(items: int = 240) -> tuple[Catalog, list[np.ndarray], list[str]]:
    """Items whose colour their picture shows and two in three state; the size stands nowhere else."""
    rng = np.random.default_rng(1)
    colours = rng.choice(list(PAINT), items).tolist()
    stated = [f'{{"Color":"{c}","size":"{s}"}}' if n % 3 else "{}"
              for n, (c, s) in enumerate(zip(colours, rng.choice(["S", "M"], items), strict=True))]  # fmt: skip
    titles = [f"oak {kind} {n}" for n, kind in enumerate(rng.choice(KINDS, items))]
    frame = pl.DataFrame({"id": [f"i{n}" for n in range(items)], "title": titles, "attributes": stated})
    return Catalog(frame), [picture(colour, n) for n, colour in enumerate(colours)], colours


class Teller:
    """A describer that counts what it is asked and says the brightest channel of a picture."""

    name, fingerprint = "teller", "1f"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(
        self, items: Catalog, images: Sequence[Picture], attributes: Mapping[str, Sequence[str]]
    ) -> list[list[AttributeGuess]]:
        self.asked += items.ids
        assert set(attributes["Color"]) == set(PAINT)
        said = [list(PAINT)[int(np.asarray(one).mean(axis=(0, 1)).argmax())] for one in images]
        return [[AttributeGuess("Color", value, 0.9)] for value in said]


def test_a_probe_learns_what_pictures_tell_and_is_silent_on_what_they_do_not(tmp_path: Path) -> None:
    items, pictures, colours = shop()
    probe = fit_probe(items, pictures, "pixels")
    heads = {head.attribute: head for head in probe.heads}
    assert heads["size"].threshold is None and heads["Color"].threshold is not None  # a coin is never answered
    assert heads["Color"].learned == 160 and heads["Color"].accuracy is not None and heads["Color"].accuracy > 0.85
    answers = probe.describe(items, pictures, {"color": [], "size": []})
    told = {n: own[0] for n, own in enumerate(answers) if own}
    right = [told[n].value == colours[n] for n in told if not n % 3]
    assert len(right) > 60 and np.mean(right) > 0.95
    assert all(one.attribute == "Color" and one.confidence >= heads["Color"].threshold for one in told.values())
    some = probe.describe(items, pictures, {"Color": ["red", "Blue"], "width": []})
    assert {own[0].value for own in some if own} == {"red", "blue"}
    probe.save(tmp_path / "describer")
    again = open_describer(tmp_path / "describer")
    assert again.fingerprint == probe.fingerprint
    assert again.describe(items, pictures, {"color": []}) == probe.describe(items, pictures, {"color": []})
    nothing = probe.describe(items[:4], [None] * 4, {"color": []})
    assert nothing == [[], [], [], []]  # without a picture it cannot tell


def test_the_threshold_is_the_least_that_keeps_the_precision() -> None:
    confidence = np.linspace(1.0, 0.01, 100)
    right = np.arange(100) < 45
    threshold, precision, answered = chosen_threshold(confidence, right, 0.9)
    assert (threshold, precision, answered) == (confidence[49], 0.9, 0.5)  # 45 of 50
    assert chosen_threshold(confidence, right & (np.arange(100) % 2 == 0), 0.9) == (None, None, 0.0)
    assert chosen_threshold(np.ones(30), np.arange(30) < 20, 0.9)[0] is None  # equally sure: all or none
    assert chosen_threshold(np.ones(10), np.ones(10, dtype=bool), 0.9)[0] is None  # too few to know


def test_what_a_model_may_answer_are_kinds_and_no_names() -> None:
    attributes = [f'{{"Color":"{"Red" if n % 2 else "red"}","code":"c{n}","tags":["a","b"]}}' for n in range(20)]
    attributes += ['{"color":"blue"}'] * 8
    items = Catalog(pl.DataFrame({"id": [str(n) for n in range(28)], "title": ["x"] * 28, "attributes": attributes}))
    stated = stated_values(items)
    assert answerable(stated) == {"Color": ["blue", "Red"]}  # code: names; tags: two at a time
    with pytest.raises(ValueError, match="attribute 'code': expected one with 2 to 60 values"):
        answerable(stated, ["code"])


def test_values_in_other_words_are_learned_as_one(tmp_path: Path) -> None:
    items, pictures, colours = shop()
    frame = items.frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 4 == 1)
        .then(pl.col("attributes").str.replace('"red"', '"crimson"').str.replace('"blue"', '"navy"'))
        .otherwise(pl.col("attributes"))
    )
    (tmp_path / "same.txt").write_text("red, crimson\nnavy => blue\n", encoding="utf-8")
    apart = fit_describer(Catalog(frame), tmp_path / "apart", images=pictures)
    joined = fit_describer(Catalog(frame), tmp_path / "joined", images=pictures, same=tmp_path / "same.txt")
    assert set(apart.attributes["Color"]) > {"crimson", "navy"}
    assert joined.attributes["Color"] == ("blue", "green", "red")
    answers = joined.describe(Catalog(frame), pictures, {"color": []})
    told = [own[0].value == colours[n] for n, own in enumerate(answers) if own]
    assert len(told) > 120 and np.mean(told) > 0.95


def test_features_of_pixels_are_the_same_for_a_file_and_its_pixels() -> None:
    reader = open_features("pixels")
    pixels = np.asarray(Image.fromarray(picture("red", 3)).resize((64, 64)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    rows = reader.rows([pixels, buffer.getvalue(), None])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows.shape == (3, 384) and not rows[2].any()
    # the 64 joint colours are shares of all pixels, as roots
    assert np.square(rows[0, 192:256]).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_run_goes_on_and_asks_only_about_what_changed(tmp_path: Path) -> None:
    items, pictures, colours = shop(90)
    teller = Teller()
    found = gr.describe(items, teller, pictures, out=tmp_path / "out")
    assert (found.computed, len(teller.asked), len(found)) == (90, 90, 30)  # what is stated stays the shop's
    assert found.guesses["value"].to_list() == [colours[n] for n in range(0, 90, 3)]
    assert set(found.guesses["source"]) == {"teller"} and set(found.guesses["model"]) == {"1f"}
    lines = (tmp_path / "out" / DESCRIBED).read_text().splitlines(keepends=True)
    (tmp_path / "out" / DESCRIBED).write_text("".join(lines[:40]) + lines[40][:9])  # the power went
    pictures[0] = picture("blue", 999)
    again = describe(items, teller, pictures, out=tmp_path / "out")
    assert again.computed == 51 and teller.asked[90:] == ["i0", *items.ids[40:]]
    read = gr.read_catalog(tmp_path / "out" / "catalog.parquet")
    assert read.frame.equals(again.items.frame) and read.frame["attributes"].equals(items.frame["attributes"])
    assert len((tmp_path / "out" / DESCRIBED).read_text().splitlines()) == 90
    (tmp_path / "out" / DESCRIBED).write_text('{"key": 1}\n')
    with pytest.raises(ValueError, match=r"described.jsonl, line 1: expected what goodrate understand wrote"):
        describe(items, teller, pictures, out=tmp_path / "out")


def test_an_index_gets_the_values_and_keeps_what_the_shop_says(tmp_path: Path) -> None:
    items, pictures, colours = shop(60)
    index = gr.Index.create(tmp_path / "index", items[:50])
    found = gr.describe(items, Teller(), pictures, index=tmp_path / "index", act_from=0.9, source="night run")
    assert found.catalog is None and found.computed == 60
    reds = index.store.matching(items.ids, "attributes.color = 'red'")
    assert reds == {f"i{n}" for n in range(50) if colours[n] == "red"}
    assert index.store.known_items(["i1"])[INFERRED][0] == "[]"
    gr.describe(items, Teller(), pictures, index=tmp_path / "index", act_from=0.95, source="night run")
    assert index.store.matching(items.ids, "attributes.color = 'red'") < reds
    with pytest.raises(ValueError, match="60 items and 3 pictures"):
        gr.describe(items, Teller(), pictures[:3])


def test_the_command_learns_describes_and_applies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items, pictures, colours = shop()
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    for name, pixels in zip(items.ids, pictures, strict=True):
        Image.fromarray(pixels).save(f"pics/{name}.png")
    items.frame.select("id", "title", "attributes").write_parquet("items.parquet")
    given = ("understand", "items.parquet", "--images", "pics")
    code, out, err = called(monkeypatch, capsys, *given, "--vision", "pixels", "--out", "out")
    assert code == 0 and "Color" in out and "never" in out and "values in 240 items" in err
    guesses = pl.read_parquet("out/inferred.parquet")
    right = [colours[int(item[1:])] == value for item, value in guesses.select("id", "value").rows()]
    assert len(guesses) > 60 and np.mean(right) > 0.9
    assert called(monkeypatch, capsys, "index", "items.parquet", "--out", "index")[0] == 0
    applied = (*given, "--model", "out/describer", "--index", "index", "--act-from", "0.5")
    code, out, err = called(monkeypatch, capsys, *applied)
    assert code == 0 and f"{len(guesses)} values in 240 items" in err and "in index" in err
    index = gr.Index.open("index")
    red = set(guesses.filter(pl.col("value") == "red")["id"])
    assert red and red < index.store.matching(items.ids, "attributes.color = 'red'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vision", "pixels", "--model", "m", "--out", "o"), "--vision learns and --model applies"),
        (("--vision", "pixels"), "name a folder to write with --out"),
        (("--model", "m", "--out", "o", "--precision", "0.5"), "--precision is for --vision"),
        (("--model", "m", "--out", "o", "--same", "s"), "--same is for --vision"),
        (("--model", "m", "--out", "o", "--act-from", "0.5"), "--act-from is a setting of an index"),
        (("--model", "m", "--out", "o", "--types", "t"), "--types is for entities"),
        (("--types", "t"), "entities are written into a folder"),
        (("--model", "gone", "--out", "o"), "gone: there is no such folder"),
        (("--vision", "pixels", "--out", "o"), "no item has a picture"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shop(60)[0].frame.select("id", "title", "attributes").write_parquet("items.parquet")
    code, _, err = called(monkeypatch, capsys, "understand", "items.parquet", *options)
    assert code == 2 and message in err
