"""Entities of items: where they come from, one spelling, how many, and what bad rows give."""

from __future__ import annotations

import json

import pytest

from goodrate.relevance.catalog_entities import learned_rules, shared_phrases, shared_types, sharing
from goodrate.relevance.entities import CHARACTERS, Entity, EntityRules, attributes, spans
from goodrate.relevance.pairs import text_item

RULES = EntityRules(("brand", "color", "material", "detail"), frozenset({"desk lamp", "clamp base"}))
LAMP = {
    "id": "a", "title": "Kira desk lamp, clamp base", "brand": "KIRA", "category": "Home > Lighting > Desk lamps",
    "attributes": '{"Colour":"Dark Grey, black","material":["steel"],"weight":3.2,"dimmable":true}',
}  # fmt: skip


def test_a_row_by_hand() -> None:
    assert [str(one) for one in RULES.of(LAMP)] == [
        "category: desk lamps", "category: lighting", "brand: kira", "color: dark gray", "color: black",
        "material: steel", "title: kira", "detail: kira", "title: desk lamp", "detail: desk lamp",
        "title: clamp base", "detail: clamp base",
    ]  # fmt: skip


def test_a_span_is_asked_of_as_what_an_item_is_and_as_what_it_has() -> None:
    found = RULES.of({**LAMP, "category": "", "brand": "", "attributes": "{}"})
    assert [one.text for one in found if one.type == "title"] == ["kira", "desk lamp", "clamp base"]
    assert [one.text for one in found if one.type == "detail"] == ["kira", "desk lamp", "clamp base"]


def test_one_spelling_is_one_entity() -> None:
    dark, grey = {"attributes": '{"product_colour":"Dark Grey"}'}, {"attributes": {"COLOR": " dark  gray"}}
    assert RULES.of(dark) == RULES.of(grey) == (Entity("color", "dark gray"),)


def test_sources() -> None:
    assert all(
        one.type == "detail" or one.type == "title" for one in EntityRules(("detail",), sources="spans").of(LAMP)
    )
    structured = EntityRules(("brand", "color"), sources="structured").of(LAMP)
    assert {one.type for one in structured} == {"category", "brand", "color"}
    with pytest.raises(ValueError, match="sources 'titles' is not one of all, structured, spans"):
        EntityRules(sources="titles")


def test_bad_rows() -> None:
    assert RULES.of({"title": "", "attributes": "{}"}) == () == RULES.of(text_item(""))
    assert [one.text for one in RULES.of({"title": "Lamp"})] == ["lamp", "lamp"]
    many = {f"key {i}": f"value {i}" for i in range(5000)} | {"color": [f"color {i}" for i in range(900)]}
    found = RULES.of({**LAMP, "title": "Lamp", "attributes": json.dumps(many)})
    assert len(found) == 8 and sum(one.type == "color" for one in found) == 3
    long = RULES.of({"title": "x" * 300, "attributes": json.dumps({"color": "deep red " * 12})})
    assert {len(one.text) <= CHARACTERS for one in long} == {True} and len(long) == 3
    assert [one.text for one in RULES.of({"title": "赤い デスク ライト"})][::2] == ["赤い", "デスク", "ライト"]
    assert RULES.of(text_item("red desk lamp for kids"))[-1] == Entity("detail", "for kids")


def test_attributes_that_say_nothing_to_a_query() -> None:
    given = {"weight": "3.5", "size": "40 x 60", "text": "word " * 60, "none": "", "arm": "yes", "wifi": False}
    assert attributes({"attributes": given}) == {"arm": ["yes"], "wifi": ["no"]}


def test_no_entity_is_repeated_and_the_limit_holds() -> None:
    row = {"title": " ".join(f"word{i}" for i in range(40)), "brand": "Kira | Kira", "category": "A > B | A > B"}
    found = RULES.of(row)
    assert len(set(found)) == len(found) and sum(one.type == "brand" for one in found) == 1
    assert sum(one.type == "detail" for one in found) == 8


def test_rules_of_a_catalogue() -> None:
    rows = [
        {"title": f"{color} desk lamp model{i}", "brand": "Kira", "attributes": {"colour": color, "sku": f"s{i}",
         "origin": "here"}}
        for i, color in enumerate(["red", "blue"] * 6)
    ]  # fmt: skip
    rules = learned_rules(rows)
    assert rules.types == ("brand", "color", "detail")  # a sku is not shared, an origin has one value
    assert "desk lamp" in rules.phrases and not any("model" in phrase for phrase in rules.phrases)
    assert learned_rules(rows) == rules
    assert learned_rules([]).types == ("detail",)
    assert (
        learned_rules(rows, "spans").types == ("detail",) and learned_rules(rows, "structured").phrases == frozenset()
    )
    told = sharing([rules.of(row) for row in rows])
    assert told["distinct per item"] < told["entities per item"]


def test_phrases_need_more_than_frequent_words() -> None:
    texts = ["red lamp", "red chair", "red rug", "blue lamp", "blue chair", "blue rug"] * 5 + ["ice cream"] * 5
    phrases = shared_phrases(texts)
    assert "ice cream" in phrases and "red lamp" not in phrases
    assert shared_types([{"attributes": {"title": "x", "category": "y"}}] * 9) == []
    assert spans("Ice cream!", phrases) == ["ice cream"]
