"""The listing: one line of typed fields."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from goodrate.relevance.listing import MAX_DESCRIPTION, listing, listings


def test_fields_in_order_and_empty_ones_left_out() -> None:
    row = {
        "title": "velto 3 jacket",
        "brand": "kira",
        "category": "outdoor",
        "price": 39.5,
        "attributes": {"color": "red", "fits": ["men", "women"]},
        "description": "Warm.",
    }
    assert listing(row) == (
        "velto 3 jacket ; brand kira ; category outdoor ; price 39.5 ; color red ; fits men, women ; Warm."
    )
    assert listing({"title": "velto", "brand": "", "category": None, "price": None, "attributes": None}) == "velto"


def test_a_price_of_zero_is_a_price() -> None:
    assert listing({"title": "sample", "price": 0.0}) == "sample ; price 0"


def test_attributes_as_json_text_or_mapping_read_the_same() -> None:
    attributes = {"color": "red", "size": "small"}
    as_text = json.dumps(attributes)
    assert listing({"title": "a", "attributes": as_text}) == listing({"title": "a", "attributes": attributes})


def test_a_description_is_cut_and_a_repeated_title_dropped() -> None:
    long = "x" * (MAX_DESCRIPTION + 50)
    assert listing({"title": "a", "description": long}) == "a ; " + "x" * MAX_DESCRIPTION
    assert listing({"title": "a lamp", "description": "a lamp"}) == "a lamp"


def test_listings_keep_the_order_of_rows() -> None:
    assert listings([{"title": "b"}, {"title": "a"}]) == ["b", "a"]


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_always_one_line_with_single_spaces(title: str, brand: str, description: str) -> None:
    line = listing({"title": title, "brand": brand, "description": description})
    assert line == " ".join(line.split())
