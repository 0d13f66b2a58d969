"""Spelling: towards the catalogue's words, never away from them; files that are cut or changed say so in one line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from goodrate.catalog.items import Catalog
from goodrate.retrieval.rewriting.array_file import load_arrays, save_arrays
from goodrate.retrieval.rewriting.spelling import Change, Correction, SpellingIndex
from goodrate.retrieval.rewriting.typos import NearWords, edit_cost, signature
from goodrate.retrieval.rewriting.words import catalogue_texts, fold, same_stem, whole_words

TITLES = {
    "HP laptop 15 inch": 40,
    "Acer laptop bag black": 20,
    "wireless mouse": 30,
    "USB cable 2m": 25,
    "bluetooth headset": 25,
    "waterproof camera": 10,
    "lapdog toy": 12,
    "coffee grinder": 15,
    "copper kettle": 15,
    "café chair": 9,
    "Straßenlampe klein": 9,
    "чайник электрический": 9,
    "अलमारी लकड़ी": 9,
    "smalltalk novel": 2,
    "batteries pack": 8,
}
TEXTS = [(title, 1.0) for title, count in TITLES.items() for _ in range(count)]
SHOP = SpellingIndex.build(TEXTS)


def corrected(query: str) -> str | None:
    found = SHOP.correct(query)
    return found.text if found else None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labtop", "laptop"),
        ("hp lapotp", "hp laptop"),
        ("HP Lapotp 15", "HP laptop 15"),
        ("wireles mouse", "wireless mouse"),
        ("wirelss  muose", "wireless  mouse"),
        ("usbcable", "usb cable"),
        ("blue tooth headset", "bluetooth headset"),
        ("ubs cable", "usb cable"),
        ("laptpo, bag", "laptop, bag"),
        ("hp-labtop", "hp-laptop"),
        ("batteriess", "batteries"),
        ("cafee chiar", "café chair"),
        ("strassenlmape", "straßenlampe"),
        ("чайинк", "чайник"),
        ("mealltalk", None),
        ("xmalltalk", "smalltalk"),  # one edit, though in the first letter and of a rare word
        ("msalltlak", None),  # two edits of a rare word
        ("अलमरी", "अलमारी"),
        ("WATERPROFF camera", "waterproof camera"),
    ],
)
def test_misspellings(query: str, expected: str | None) -> None:
    assert corrected(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "laptop", "LAPTOP", "laptops", "laptop's", "cafe chair", "CAFÉ", "Strassenlampe", "battery", "bag",
        "labtop15", "wh-lapotp-1000", "mouze2", "lapotp_15", "inches", "watts", "ub", "ubs", "bga", "lap", "",
        "   ", "!?", "zebra", "лампа", "笔记本电脑包", "노트북가방", "lapdog", "cable USB", "a" * 500,
    ],
)  # fmt: skip
def test_words_that_stay(query: str) -> None:
    assert corrected(query) is None


def test_the_other_words_of_the_query_decide_between_equals() -> None:
    index = SpellingIndex.build([("red mintablo", 1.0), ("blue mindablo", 1.0)] * 20)
    found = [index.correct(query) for query in ("red minablo", "blue minablo", "minablo")]
    assert [one and (one.text, one.sure) for one in found] == [
        ("red mintablo", True), ("blue mindablo", True), ("mindablo", False),
    ]  # fmt: skip


def test_changes_are_where_the_text_differs() -> None:
    assert SHOP.correct("hp lapotp  usbcable") == Correction(
        "hp laptop  usb cable", (Change(3, 9, "lapotp"), Change(11, 20, "usbcable")), sure=True
    )


def test_nothing_is_corrected_to_a_number_or_a_rare_word() -> None:
    index = SpellingIndex.build([("lamq4242 desk", 1.0)] * 20 + [("chandelier", 0.1)] * 9)
    assert [index.correct(word) for word in ("lamq4243", "lampq", "chandeler")] == [None] * 3
    index = SpellingIndex.build([("chandelier", 0.1)] * 10)
    assert index.correct("chandeler") == Correction("chandelier", (Change(0, 10, "chandeler"),), sure=True)


def test_known_words_stay_and_a_dictionary_makes_bolder() -> None:
    assert SHOP.correct("coppers") is None and corrected("coper") == "copper"
    assert SpellingIndex.build(TEXTS, known=["Coper"]).correct("coper") is None
    letters = "bcdfghjklm"
    dictionary = [f"{a}{b}{c}{d}zz" for a in letters for b in letters for c in letters for d in letters[:5]]
    knowing = SpellingIndex.build(TEXTS, known=dictionary)
    assert corrected("lpatpo") is None  # two swaps in six letters
    assert knowing.correct("lpatpo") == Correction("laptop", (Change(0, 6, "lpatpo"),), sure=False)


def test_split_needs_titles_with_both_words() -> None:
    assert corrected("camerakettle") is None and corrected("laptopbag") == "laptop bag"


def test_build_from_items_reads_every_text_and_weighs_titles_most() -> None:
    rows = [{"id": str(n), "title": "Oak table", "brand": "Kira", "description": "varnished legs",
             "attributes": '{"finish":"glossy"}'} for n in range(10)]  # fmt: skip
    frame = Catalog(pl.DataFrame(rows)).frame
    assert catalogue_texts(frame)[::10] == [("Oak table ; Kira ; ", 1.0), ("varnished legs ; finish glossy", 0.1)]
    index = SpellingIndex.build(frame)
    assert [word in index for word in ("oak", "Kira", "varnished", "glossy", "strong")] == [True] * 4 + [False]
    words = index.vocabulary
    assert words.frequency[words.row_of["table"]] == 10
    assert words.frequency[words.row_of["glossy"]] == pytest.approx(1)
    assert index.correct("varnihsed tabel").text == "varnished table"  # type: ignore[union-attr]


def test_a_long_text_is_no_query() -> None:
    assert corrected("laptop " * 31 + "labtop") == "laptop " * 31 + "laptop"
    assert corrected("laptop " * 32 + "labtop") is None


def test_save_and_load_give_the_same_index(tmp_path: Path) -> None:
    SHOP.save(tmp_path / "spelling.npz")
    loaded = SpellingIndex.load(tmp_path / "spelling.npz")
    queries = ["hp lapotp", "ubs cable", "cafee chiar", "usbcable", "laptop", "batteriess"]
    assert [loaded.correct(query) for query in queries] == [SHOP.correct(query) for query in queries]
    assert loaded.vocabulary.shown == SHOP.vocabulary.shown and len(loaded) == len(SHOP)


def test_an_empty_catalogue_corrects_nothing(tmp_path: Path) -> None:
    empty = SpellingIndex.build([])
    empty.save(tmp_path / "spelling.npz")
    assert empty.correct("labtop") is None and SpellingIndex.load(tmp_path / "spelling.npz").correct("labtop") is None


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="the weight of 'lamp' is .*; expected a number of at least 0"):
        SpellingIndex.build([("lamp", weight)])


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped", "kind", "version", "parts", "lists"])
def test_a_damaged_file_says_so_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "spelling.npz"
    SHOP.save(path)
    whole = path.read_bytes()
    if damage == "kind":
        save_arrays(path, "suggestions", 1, {}, {})
    elif damage == "version":
        save_arrays(path, "spelling", 99, {}, {})
    elif damage == "parts":
        save_arrays(path, "spelling", 1, {"frequency": np.zeros(1)}, {"words": ["a"]})
    elif damage == "lists":
        arrays, texts = load_arrays(path, "spelling", 1)
        save_arrays(path, "spelling", 1, arrays, texts | {"words": ["lamp"]})
    else:
        half = len(whole) // 2
        flipped = whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]
        path.write_bytes({"cut": whole[:half], "empty": b"", "text": b"no zip", "flipped": flipped}[damage])
    with pytest.raises(ValueError) as error:
        SpellingIndex.load(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and "index the catalogue again" in message


def test_wherever_a_file_is_changed_or_cut_the_error_is_one_line(tmp_path: Path) -> None:
    path, rng = tmp_path / "spelling.npz", random.Random(3)
    SpellingIndex.build([("hp laptop", 1.0), ("café lamp", 1.0)] * 5).save(path)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        at = rng.randrange(len(whole))
        changed = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        path.write_bytes(rng.choice([changed, whole[:at], whole[:at] + whole[at + 9 :]]))
        try:
            assert SpellingIndex.load(path).vocabulary.words == ["cafe", "hp", "lamp", "laptop"]
        except ValueError as error:
            refused += str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused > 200


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*spelling\.npz; index the catalogue again"):
        SpellingIndex.load(tmp_path / "spelling.npz")


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
LETTERS = st.text(st.sampled_from("abcdeé ßяİ1ि-"), min_size=1, max_size=10)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(WORDS, LETTERS), min_size=1, max_size=12), st.data())
@example(["notebook", "note", "book"], None)
def test_a_query_of_the_catalogues_words_is_never_changed(titles: list[str], data: st.DataObject | None) -> None:
    index = SpellingIndex.build([(title, 1.0) for title in titles * 5])
    texts = titles if data is None else data.draw(st.lists(st.sampled_from(titles), min_size=1, max_size=5))
    for between in (" ", ", ", "  "):
        query = between.join(texts)
        assert index.correct(query) is None, query


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("abcdeé1 -"), max_size=20))
def test_a_correction_holds_only_the_catalogues_words_where_it_changed_something(query: str) -> None:
    index = SpellingIndex.build([("abcde cabbed deeba", 1.0)] * 9)
    found = index.correct(query)
    for change in found.changes if found else ():
        assert all(word in index for word in found.text[change.start : change.end].split())  # type: ignore[union-attr]
        assert not any(sign.isdigit() for sign in change.typed)


@pytest.mark.parametrize(
    ("typed", "meant", "cost"),
    [
        ("lamp", "lamp", 0.0), ("lmap", "lamp", 0.7), ("lammp", "lamp", 0.7), ("kettle", "ketle", 0.7),
        ("lsmp", "lamp", 0.8), ("lemp", "lamp", 0.8), ("lqxp", "lamp", 1.8), ("lamqp", "lamp", 1.0),
        ("amp", "lamp", 1.4), ("", "ab", 2.4),
        ("alpm", "lamp", 1.4), ("almp", "lamp", 0.7),
    ],
)  # fmt: skip
def test_edit_cost(typed: str, meant: str, cost: float) -> None:
    assert edit_cost(typed, meant) == pytest.approx(cost)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abcdё", min_size=1, max_size=7), min_size=1, max_size=30, unique=True), st.text("abcdё"))
def test_the_filter_by_signature_loses_no_near_word(words: list[str], word: str) -> None:
    from rapidfuzz.distance import OSA

    near = NearWords(words, np.array([signature(w) for w in words], dtype=np.uint64), np.array([len(w) for w in words]))
    for distance in (1, 2):
        expected = {row for row, other in enumerate(words) if OSA.distance(word, other) <= distance}
        assert set(near.within(word, distance)) == expected


def test_forms_and_folding() -> None:
    assert set(same_stem("cables")) == {"cables", "cable"} and "charge" in set(same_stem("charging"))
    assert "wireless" not in set(same_stem("wireles"))
    assert [fold(word) for word in ("İstanbul", "ÅNGSTRÖM", "ﬁne", "ёлка")] == ["istanbul", "angstrom", "fine", "ёлка"]
    assert whole_words(["Ġlamps", "lamps", "Ġ12345", "Ġthe"]) == ["lamps"]


def test_two_words_are_also_asked_as_the_one_that_titles_have() -> None:
    titles = ["black headset", "head lamp", "set of bolts", "table top", "tabletop", "lamp 2m", "in side", "inside"]
    index = SpellingIndex.build([(title, 1.0) for title in titles * 3])
    (found,) = index.joined("Head Set for lamps")
    assert (found.text, found.replaced) == ("headset for lamps", (("Head Set", "headset"),))
    assert [one.text for one in index.joined("table top head set")] == ["tabletop head set", "table top headset"]
    # Nothing of the kind, too short a part, another sign between, or a word of two titles alone.
    assert [index.joined(query) for query in ("head lamp", "in side", "head, set", "headset", "")] == [[]] * 5
    rare = SpellingIndex.build([("head set", 1.0)] * 3 + [("headset", 1.0)] * 2)
    assert rare.joined("head set") == []
