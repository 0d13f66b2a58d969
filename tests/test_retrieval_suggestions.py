"""Suggestions while typing: beginnings of words in any order, ranked, never two near equal; damaged files say so."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.catalog.items import Catalog
from goodrate.retrieval.rewriting.array_file import load_arrays, save_arrays
from goodrate.retrieval.rewriting.phrases import frequent_phrases
from goodrate.retrieval.rewriting.suggestions import KINDS, Suggestion, SuggestionIndex
from goodrate.retrieval.rewriting.vocabulary import Vocabulary
from goodrate.retrieval.rewriting.words import comparable, folded_words

TITLES = {
    "Kira laptop bag, black": ("Kira", "Bags > Laptop Bags", 12),
    "Kira laptop 15 with bag": ("Kira", "Computers > Notebooks", 6),
    "Café chair Ωmega": ("Olmo", "Chairs", 5),
    "Lampe für Küche": ("Olmo", "Lamps/Ceiling", 4),
    "Lapis bracelet": ("Éclat", "Jewellery", 2),
}
ROWS = [
    {
        "id": f"{title}{n}",
        "title": title,
        "brand": brand,
        "category": category,
        "attributes": '{"product_type":"Thing"}',
    }
    for title, (brand, category, count) in TITLES.items()
    for n in range(count)
]
ITEMS = Catalog(pl.DataFrame(ROWS)).frame
LOG = [("laptop bag black", 40.0), ("Laptop  Bag Black", 2.0), ("kira bags", 3.0), ("hoverboard", 900.0), ("", 5.0)]
SHOP = SuggestionIndex.build(ITEMS, LOG)
BARE = SuggestionIndex.build(ITEMS)


def texts(index: SuggestionIndex, typed: str, k: int = 8) -> list[str]:
    return [suggestion.text for suggestion in index.suggest(typed, k)]


@pytest.mark.parametrize(
    ("typed", "first", "among"),
    [
        ("l", "laptop bag black", {"laptop", "Laptop Bags"}),
        ("lap", "laptop bag black", {"laptop", "Laptop Bags"}),
        ("LAPTOP B", "laptop bag black", {"Laptop Bags"}),
        ("bla", "laptop bag black", set()),
        ("ba lapt", "laptop bag black", set()),  # beginnings in any order
        ("cafe", "café", {"café chair ωmega"}),
        ("chai", "Chairs", {"café chair ωmega"}),
        ("labt", "laptop bag black", {"Laptop Bags"}),  # one error after the first letter
        ("laptpo", "laptop bag black", set()),
        ("noteb", "Notebooks", set()),
        ("ceil", "Ceiling", set()),
        ("ecl", "Éclat", set()),
        ("kir", "kira bags", {"Kira"}),
    ],
)  # fmt: skip
def test_what_is_suggested(typed: str, first: str, among: set[str]) -> None:
    found = texts(SHOP, typed)
    assert found[0] == first and among <= set(found), found


@pytest.mark.parametrize("typed", ["", "  ", "-!", "hover", "xyz", "lqxz", "kira hover", "kira " * 17, "a" * 400])
def test_nothing_is_suggested_for_what_nobody_can_find(typed: str) -> None:
    assert SHOP.suggest(typed) == []


def test_the_last_word_is_completed_to_what_titles_have_with_the_others() -> None:
    vocabulary = Vocabulary.build(ITEMS)
    assert SHOP.suggest("black kira l") == []
    assert SHOP.suggest("Black, kira l", vocabulary=vocabulary) == [Suggestion("Black, kira laptop", "words", 12)]
    assert SHOP.suggest("olmo kira", vocabulary=vocabulary) == SHOP.suggest("zebra la", vocabulary=vocabulary) == []


def test_the_log_adds_up_and_only_what_items_have_counts() -> None:
    asked = {s.text: s for s in SHOP.suggestions if s.kind == "query"}
    assert asked == {
        "laptop bag black": Suggestion("laptop bag black", "query", 12, 42.0),
        "kira bags": Suggestion("kira bags", "query", 18, 3.0),
    }


def test_what_was_asked_often_comes_before_what_has_many_results() -> None:
    assert texts(BARE, "laptop b", 1) != texts(SHOP, "laptop b", 1) == ["laptop bag black"]
    rare = SuggestionIndex.build(ITEMS, [("lapis bracelet", 50.0)])
    assert texts(rare, "la", 1) == ["lapis bracelet"] and texts(BARE, "la", 1) != ["lapis bracelet"]


def test_groups_of_the_catalogue_are_suggested_with_their_items() -> None:
    by_kind = {kind: {s.text: s.results for s in BARE.suggestions if s.kind == kind} for kind in KINDS}
    assert by_kind["brand"] == {"Kira": 18, "Olmo": 9, "Éclat": 2}
    assert by_kind["category"] == {"Laptop Bags": 12, "Notebooks": 6, "Chairs": 5, "Ceiling": 4, "Jewellery": 2}
    assert by_kind["type"] == {"Thing": 29}
    assert by_kind["brand_type"] == {"Kira thing": 18, "Olmo thing": 9}
    untyped = SuggestionIndex.build(ITEMS.with_columns(attributes=pl.lit("{}"))).suggestions
    assert {s.text: s.results for s in untyped if s.kind == "brand_type"} == {
        "Kira laptop bags": 12, "Kira notebooks": 6, "Olmo chairs": 5, "Olmo ceiling": 4,
    }  # fmt: skip


def test_no_two_suggestions_are_near_equal() -> None:
    keys = [tuple(sorted(comparable(s.text))) for s in SHOP.suggestions]
    assert len(set(keys)) == len(keys)


def test_phrases_are_whole_frequent_and_without_numbers() -> None:
    titles = ["Steel desk lamp 40 cm for kids"] * 3 + ["Acme.com desk lamp - desk"] * 3 + ["rare kettle"] * 2
    assert frequent_phrases(titles) == {
        "desk": 6, "lamp": 6, "kids": 3, "steel": 3, "desk lamp": 6, "steel desk lamp": 3,
    }  # fmt: skip
    assert frequent_phrases([]) == {}
    assert frequent_phrases(["of the lamp"] * 2) == {}


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("lapto bgkircé1-"), max_size=12), st.integers(1, 20))
def test_every_suggestion_begins_with_what_was_typed(typed: str, k: int) -> None:
    found = SHOP.suggest(typed, k)
    assert len(found) <= k and len(set(found)) == len(found)
    for suggestion in found:
        words = folded_words(suggestion.text)
        for word in folded_words(typed):
            begins = any(other.startswith(word) for other in words)
            assert begins or (len(word) >= 4 and any(other[0] == word[0] for other in words)), (typed, suggestion)


def test_save_and_load_give_the_same_index(tmp_path: Path) -> None:
    SHOP.save(tmp_path / "suggestions.npz")
    loaded = SuggestionIndex.load(tmp_path / "suggestions.npz")
    assert loaded.suggestions == SHOP.suggestions and loaded.words == SHOP.words
    for typed in ("l", "laptop b", "labt", "kira ba"):
        assert loaded.suggest(typed) == SHOP.suggest(typed)


def test_an_empty_catalogue_suggests_nothing(tmp_path: Path) -> None:
    empty = SuggestionIndex.build(ITEMS.head(0), [("lamp", 3.0)])
    empty.save(tmp_path / "suggestions.npz")
    assert len(empty) == 0 and SuggestionIndex.load(tmp_path / "suggestions.npz").suggest("la") == []


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        SHOP.suggest("la", 0)
    with pytest.raises(ValueError, match="query 'lamp' has the count -1.0; expected a number of at least 0"):
        SuggestionIndex.build(ITEMS, [("lamp", -1.0)])


@pytest.mark.parametrize("damage", ["cut", "kind", "parts"])
def test_a_damaged_file_says_so_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "suggestions.npz"
    SHOP.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "kind":
        save_arrays(path, "spelling", 1, {}, {})
    else:
        arrays, lists = load_arrays(path, "suggestions", 1)
        save_arrays(path, "suggestions", 1, arrays, lists | {"texts": ["lamp"]})
    with pytest.raises(ValueError) as error:
        SuggestionIndex.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
