"""The layer of filled-in attributes of a catalogue: what acts, what is replaced, how files and judges have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from goodrate.catalog.inferred import INFERRED, acting, layer_of, replaced, shown, sources_of, with_acting
from goodrate.catalog.items import Catalog
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import render_items
from goodrate.catalog.tables import write_table
from goodrate.relevance.pairs import item_texts


def entry(attribute: str, value: str, confidence: float, source: str = "probe", model: str = "1f") -> dict[str, Any]:
    return {"attribute": attribute, "value": value, "confidence": confidence, "source": source, "model": model}


def items(*told: list[dict[str, Any]], attributes: str = "{}", **columns: str) -> Catalog:
    texts = [json.dumps(one) for one in told]
    rows = {"id": [f"i{n}" for n in range(len(told))], "title": ["lamp"] * len(told), INFERRED: texts}
    more = {"attributes": attributes, **columns}
    return Catalog(pl.DataFrame(rows).with_columns(pl.lit(text).alias(name) for name, text in more.items()))


def test_the_most_confident_value_acts_and_the_shops_own_always_wins() -> None:
    told = [entry("color", "red", 0.7), entry("color", "blue", 0.9, "other"), entry("Size", "M", 0.95)]
    found = with_acting(items(told).frame, 0.6)["attributes"][0]
    assert json.loads(found) == {"color": "blue", "Size": "M"}
    assert json.loads(with_acting(items(told).frame, 0.92)["attributes"][0]) == {"Size": "M"}
    own = items(told, attributes='{"COLOR":"green","si\\u007ae":"L"}')  # other letters and an escape, the same names
    assert with_acting(own.frame, 0.0)["attributes"].to_list() == own.frame["attributes"].to_list()
    branded = items([entry("brand", "Acme", 0.99), entry("category", "lamps", 0.99)], brand="Kira")
    assert acting(branded.frame, 0.5)["attribute"].to_list() == ["category"]


def test_a_source_replaces_its_own_values_alone() -> None:
    before = layer_of([{"color": ("red", 0.9), "size": ("M", 0.8)}, {"color": ("blue", 0.9)}], "probe", "1f")
    before = replaced(before, layer_of([{"color": ("teal", 0.7)}, {}], "other", "2e"), {"other"})
    after = replaced(before, layer_of([{"color": ("black", 0.6)}, {}], "probe", "3d"), {"probe"})
    assert [json.loads(text) for text in after] == [
        [entry("color", "teal", 0.7, "other", "2e"), entry("color", "black", 0.6, "probe", "3d")], [],
    ]  # fmt: skip
    assert sources_of(after) == {"other", "probe"} and sources_of(layer_of([{}], "probe", "1f")) == set()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_file_keeps_the_layer(tmp_path: Path, ending: str) -> None:
    catalog = items([entry("color", "navy", 0.87654)], [])
    write_table(tmp_path / f"a{ending}", catalog.frame)
    read = read_catalog(tmp_path / f"a{ending}").frame[INFERRED].to_list()
    assert [json.loads(text) for text in read] == [[entry("color", "navy", 0.8765)], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"color": "red"}', "expected a list such as"),
        ('[{"attribute": "color", "value": "", "source": "a", "confidence": 1}]', "value is ''"),
        ('[{"attribute": "color", "value": "red", "source": "a", "confidence": 1.5}]', "between 0 and 1, found 1.5"),
        (json.dumps([entry("Color", "a", 0.5), entry("color", "b", 0.6)]), "one value an attribute and source"),
    ],
)
def test_what_is_no_layer_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    pl.DataFrame({"id": ["1", "2"], "title": ["a", "b"], INFERRED: ["", text]}).write_csv(path)
    with pytest.raises(ValueError, match="inferred_attributes") as refused:
        read_catalog(path)
    assert message in str(refused.value) and "row 3, column inferred_attributes" in str(refused.value)
    assert len(read_catalog(path, skip_bad=1)) == 1


def test_a_catalogue_without_a_layer_has_the_hash_that_it_had() -> None:
    plain, filled = items([]), items([entry("color", "red", 0.9)])
    assert plain.content_hash == Catalog(plain.frame.drop(INFERRED)).content_hash != filled.content_hash


def test_judges_read_what_is_filled_in_only_where_they_are_asked_to_and_marked() -> None:
    told = [entry("arm_length", "long", 0.9), entry("color", "red", 0.49), entry("style", "modern", 0.6)]
    row = items(told, attributes='{"style":"old"}', description="bright").to_rows()[0]
    for form in ("listing", "text", "short"):
        assert "long" not in item_texts([row], form)[0]
        assert "maybe arm length long" in item_texts([row], f"{form}_filled")[0]
        assert "red" not in item_texts([row], f"{form}_filled")[0]  # less likely right than wrong
    assert item_texts([row], "listing_filled") == ["lamp ; style old ; maybe arm length long ; bright"]
    assert render_items(Catalog(pl.DataFrame([row])).frame, ("title", INFERRED)) == ["lamp ; maybe arm length long"]
    bare = {"title": "lamp", "attributes": '{"style":"old"}'}
    assert item_texts([bare], "listing_filled") == item_texts([bare], "listing")


def test_a_page_shows_what_acts_with_its_confidence() -> None:
    told = json.dumps([entry("color", "red", 0.9), entry("COLOR", "blue", 0.8, "other"), entry("size", "M", 0.4)])
    assert shown(told, {}, {}) == {"color": {"value": "red", "confidence": 0.9, "source": "probe"}}
    assert shown(told, {"Color": "teal"}, {}) == {} == shown("[]", {}, {})
