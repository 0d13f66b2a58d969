"""Identifiers: what counts as one, of items and in queries."""

from __future__ import annotations

import polars as pl
import pytest

from goodrate.retrieval.identifiers import is_identifier, item_identifiers, normal_identifier, query_identifiers


@pytest.mark.parametrize(
    ("text", "normal"),
    [("DLM-63090", "dlm63090"), ("dlm 63090", "dlm63090"), ("\uff24\uff2c\uff2d63090", "dlm63090"),
     ("006R90321", "006r90321"), ("SBX/195.00", "sbx19500"), ("  ", "")],
)  # fmt: skip
def test_one_normal_form(text: str, normal: str) -> None:
    assert normal_identifier(text) == normal


@pytest.mark.parametrize("word", ["dlm63090", "006r90321", "4016138712345", "01234567", "364xl", "sbx195", "wh1000xm4"])
def test_identifiers(word: str) -> None:
    assert is_identifier(word)


@pytest.mark.parametrize(
    "word",
    ["laptop", "2019", "1234567", "500gb", "1080p", "3000mah", "1920x1080", "16pin", "a4", "usb3", "100mbps", "24port",
     "", "x" * 41 + "1"],
)  # fmt: skip
def test_words_numbers_and_quantities_are_none(word: str) -> None:
    assert not is_identifier(word)


@pytest.mark.parametrize(
    ("query", "found"),
    [("DLM-63090", ["dlm63090"]), ("006 R 90321", ["006r90321", "r90321"]), ("red desk lamp", []), ("???", []),
     ("cable 4016138712345", ["cable4016138712345", "4016138712345"]), ("40 cm", []), ("tv 55", []), ("", [])],
)  # fmt: skip
def test_a_query_is_read_word_by_word_and_joined(query: str, found: list[str]) -> None:
    assert query_identifiers(query) == found


def test_items_have_their_id_the_codes_of_their_title_and_those_of_their_attributes() -> None:
    frame = pl.DataFrame({
        "id": ["A-1", "2", "3"],
        "title": ["Kira lamp KX-200/77 40W", "Chair", None],
        "attributes": ['{"ean":["4016138712345","0009"],"part number":"P 12"}', '{"model":"Oslo","depth":12345}', None],
    })  # fmt: skip
    assert item_identifiers(frame) == ["a1 kx20077 4016138712345 0009 p12", "2", "3"]
