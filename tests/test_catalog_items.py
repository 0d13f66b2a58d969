"""Items and their text."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.catalog.items import ITEM_COLUMNS, Catalog, render_item, render_items
from goodrate.catalog.normal_form import composed_text
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import lexical_form, lexical_texts


def catalog(*titles: str) -> Catalog:
    return Catalog(pl.DataFrame({"id": [f"i{n}" for n in range(len(titles))], "title": list(titles)}))


def test_missing_columns_get_their_empty_value_and_rows_keep_the_asked_order() -> None:
    items = catalog("lamp", "desk", "chair")
    assert items.frame.schema == ITEM_COLUMNS
    assert items.frame.row(0) == ("i0", "lamp", "", "", "", None, None, "", "", "", "", "{}", "[]")
    assert items.rows(["i2", "i0", "i2"])["title"].to_list() == ["chair", "lamp", "chair"]
    with pytest.raises(ValueError, match="1 of 2 ids are not in the catalogue, such as 'x'"):
        items.rows(["i0", "x"])
    with pytest.raises(ValueError, match="'i0' occurs more than once"):
        Catalog(pl.concat([items.frame, items.frame]))


def test_content_hash_sees_every_value_and_the_order() -> None:
    one = catalog("lamp", "desk")
    assert one.content_hash == catalog("lamp", "desk").content_hash
    assert one.content_hash != catalog("lamp", "desks").content_hash
    assert one.content_hash != Catalog(one.frame.reverse()).content_hash


def test_rendering_of_every_kind_of_value() -> None:
    row = {
        "title": "Zeno hub", "brand": "Zeno", "category": "hubs", "description": "Fast hub\nwith 4 ports, <Z>",
        "attributes": {
            "usb_ports": 4.0, "weight": 0.25, "black": True, "wifi": False, "for": ["PC", "Mac, iPad"],
            "note": 'a "b"\\c',
        },
    }  # fmt: skip
    assert render_item(row) == (
        "Zeno hub ; brand Zeno ; category hubs ; usb ports 4 ; weight 0.25 ; black yes ; wifi no ; for PC, Mac, iPad ; "
        'note a "b"\\c ; Fast hub with 4 ports, <Z>'
    )
    assert render_item({"title": "lamp", "description": "lamp"}) == "lamp"  # a description that says nothing new


def test_fields_and_length_can_be_chosen() -> None:
    frame = Catalog(pl.DataFrame({"id": ["1"], "title": ["lamp"], "brand": ["Velto"]})).frame
    assert render_items(frame, fields=("brand", "title")) == ["brand Velto ; lamp"]
    assert render_items(frame, max_chars=6) == ["lamp ;"]
    with pytest.raises(ValueError, match="cannot render field 'price'"):
        render_items(frame, fields=("price",))


def test_words_of_the_layout_and_false_attributes_are_no_words_of_the_lexical_channel() -> None:
    attributes = '{"touchscreen":false,"backlit":true,"note":"true:false,"}'
    row = {"id": "1", "title": "hub", "brand": "Kira", "category": "Home > Hubs", "attributes": attributes}
    frame = Catalog(pl.DataFrame([row])).frame
    assert lexical_texts(frame) == (["hub ; Kira ; Home > Hubs ; hub"], ["backlit ; note true:false,"])
    assert render_items(frame, ("brand", "category")) == ["brand Kira ; category Home > Hubs"]


plain = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
value = st.one_of(
    plain, st.text(max_size=12), st.integers(-999, 999), st.booleans(), st.lists(plain, min_size=1, max_size=3)
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(plain, value, max_size=5))
def test_every_word_of_every_attribute_is_rendered(attributes: dict) -> None:
    """No value can break the reading of its neighbours: all words of all texts come out, composed and in order."""
    text = render_item({"title": "t", "attributes": json.dumps(attributes)})
    position = 0
    for name, given_value in attributes.items():
        shown = given_value if isinstance(given_value, list) else [given_value]
        words = [name, *(word for part in shown if isinstance(part, str) for word in _words(part))]
        words = words if given_value != "" else []  # an empty value is no attribute
        for word in map(composed_text, words):
            position = text.index(word, position) + len(word)


def _words(text: str) -> list[str]:
    """Runs of letters and digits."""
    return "".join(sign if sign.isalnum() else " " for sign in text).split()


def test_attributes_written_with_spaces_or_escapes_are_read_too() -> None:
    loose = ['{"color": "r\\u00e9d", "sizes": [1, 2], "wifi": false}', '{ "color" :"x"}', '{"a":"say \\": hi"}']
    items = Catalog(pl.DataFrame({"id": ["1", "2", "3"], "title": ["t"] * 3, "attributes": loose}))
    assert items.frame["attributes"].to_list() == [
        '{"color":"r\u00e9d","sizes":[1,2],"wifi":false}',
        '{"color":"x"}',
        '{"a":"say \\": hi"}',
    ]
    assert items.text() == ["t ; color r\u00e9d ; sizes 1, 2 ; wifi no", "t ; color x", 't ; a say ": hi']
    for wrong in ("[1]", "red", '{"a": }'):
        with pytest.raises(ValueError, match="attributes .*(are not a JSON object|not valid JSON)"):
            Catalog(pl.DataFrame({"id": ["1"], "title": ["t"], "attributes": [wrong]}))


def test_a_catalogue_by_hand_has_the_attributes_that_a_read_one_has(tmp_path: Path) -> None:
    empty, full = {"color": "red", "size": None, "tags": [], "note": ""}, {"size": 2, "tags": ["a"], "note": "b"}
    told = [empty, full]
    rows = [{"id": str(n), "title": "t", "attributes": attributes} for n, attributes in enumerate(told)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = read_catalog(tmp_path / "items.jsonl").frame["attributes"].to_list()
    assert read == ['{"color":"red"}', '{"size":2,"tags":["a"],"note":"b"}']
    for attributes in (told, [json.dumps(t) for t in told], [json.dumps(t, separators=(",", ":")) for t in told]):
        by_hand = Catalog(pl.DataFrame({"id": ["0", "1"], "title": "t", "attributes": attributes}))
        assert by_hand.frame["attributes"].to_list() == read


def test_a_number_and_its_unit_are_one_word() -> None:
    texts = pl.Series(["cable 2 m (6.6 ft)", "2-m cable", "500 GB", "4 mats", "a 2 b", "7 Metal legs"])
    expected = ["cable 2m (6.6ft)", "2m cable", "500GB", "4 mats", "a 2 b", "7 Metal legs"]
    assert lexical_form(texts).to_list() == expected


def test_columns_that_are_not_ours_become_attributes_in_a_frame_as_in_a_file(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": ["1", "2", "3"],
            "title": ["lamp", "desk", "rug"],
            "attributes": ['{"color":"red","arm":3}', '{"color":"oak"}', None],
            "color": ["blue", "oak", ""],
            "weight": [1.5, float("nan"), None],
        }
    )
    # A name that both have keeps both values, once each; empty values and what is no number are left out.
    expected = ['{"color":["red","blue"],"arm":3,"weight":1.5}', '{"color":"oak"}', "{}"]
    assert Catalog(frame).frame["attributes"].to_list() == expected
    frame = frame.with_columns(pl.col("weight").fill_nan(None))
    frame.write_parquet(tmp_path / "items.parquet")
    (tmp_path / "items.jsonl").write_text(frame.write_ndjson())
    frame.write_csv(tmp_path / "items.csv")  # there all values are texts
    for name, weight in (("items.parquet", "1.5"), ("items.jsonl", "1.5"), ("items.csv", '"1.5"')):
        texts = read_catalog(tmp_path / name).frame["attributes"].to_list()
        assert texts == [text.replace("1.5", weight) for text in expected]
    assert Catalog(frame.drop("attributes")).frame["attributes"].to_list() == [
        '{"color":"blue","weight":1.5}', '{"color":"oak"}', "{}",
    ]  # fmt: skip
