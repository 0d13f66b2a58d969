"""The rule book: every combination against logic written here, and what a broken book is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from goodrate.relevance.rulebook import BOOKS, combinations, load_rulebook, named_rulebook

BOOK = load_rulebook()
EXAMPLE = Path(__file__).parents[1] / "examples" / "rules.toml"

SMALL = """
scale = "four_level"
[columns]
category = ["same", "other"]
must = ["match", "conflict"]
[[rules]]
id = "wrong_kind"
when = { category = ["other"] }
label = "irrelevant"
[[rules]]
id = "fails"
when = { must = ["conflict"] }
label = "mismatch"
because = "it fails"
[[rules]]
id = "fine"
when = { category = ["same"] }
label = "excellent"
"""


def expected_label(row: dict[str, str]) -> str:
    """What the book is meant to say, without rules or order: first how bad it is, then what the category leaves."""
    violated = row["must"] == "conflict" or row["not"] == "conflict" or row["alternative"] == "costlier"
    doubtful = "unknown" in (row["must"], row["not"]) or row["may"] == "conflict"
    if row["category"] in ("other", "accessory"):
        return "irrelevant"
    if row["category"] == "sibling":
        return "irrelevant" if violated else "mismatch"
    if violated:
        return "mismatch"
    return "related" if doubtful else "excellent"


def decide(**row: str) -> tuple[str, str]:
    """(rule id, label) of one row; columns left out are none."""
    full = {"must": "none", "may": "none", "not": "none", "alternative": "none", **row}
    position = int(BOOK.decide({name: BOOK.codes(name, [value]) for name, value in full.items()})[0])
    return BOOK.rules[position].id, BOOK.scale.labels[int(BOOK.labels(np.asarray([position]))[0])]


def test_every_combination_has_the_label_that_the_logic_gives() -> None:
    rows = combinations(BOOK)
    assert len(rows) == 4 * 4 * 4 * 4 * 3
    wrong = [(row, decide(**row)) for row in rows if decide(**row)[1] != expected_label(row)]
    assert wrong == []


def test_label_counts_over_all_combinations() -> None:
    # 192 rows a category. Nothing violated: must 3 x not 3 x alternative 2 x may 4 = 72, so 120 rows are violated.
    # excellent: must 2 x not 2 x alternative 2 x may 3 = 24; related 72 - 24 = 48; mismatch 120 + 72 of siblings;
    # irrelevant: other 192, accessory 192, siblings 120.
    counts = Counter(decide(**row)[1] for row in combinations(BOOK))
    assert counts == {"irrelevant": 504, "mismatch": 192, "related": 48, "excellent": 24}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"category": "same"}, "all_met"),
        ({"category": "same", "may": "unknown"}, "all_met"),
        ({"category": "same", "may": "conflict"}, "preference_failed"),
        ({"category": "same", "must": "unknown", "may": "conflict"}, "requirement_unknown"),
        ({"category": "same", "must": "unknown", "not": "unknown"}, "requirement_unknown"),
        ({"category": "same", "not": "unknown"}, "exclusion_unknown"),
        ({"category": "same", "must": "conflict", "not": "conflict"}, "excluded_value"),
        ({"category": "same", "must": "conflict", "alternative": "costlier"}, "not_cheaper"),
        ({"category": "same", "must": "conflict", "alternative": "cheaper"}, "requirement_failed"),
        ({"category": "sibling", "must": "match"}, "sibling_only"),
        ({"category": "sibling", "must": "conflict", "not": "conflict"}, "sibling_conflict"),
        ({"category": "sibling", "not": "conflict"}, "sibling_excluded"),
        ({"category": "sibling", "alternative": "costlier"}, "sibling_costlier"),
        ({"category": "accessory", "must": "match"}, "accessory_only"),
        ({"category": "other", "must": "match"}, "other_category"),
    ],
)
def test_the_deciding_rule(row: dict[str, str], rule: str) -> None:
    assert decide(**row)[0] == rule


def test_every_rule_says_why_in_its_own_words() -> None:
    assert len({rule.because for rule in BOOK.rules}) == len(BOOK.rules)
    assert all(" " in rule.because for rule in BOOK.rules)


def test_labels_never_rise_when_one_check_gets_worse() -> None:
    order = ("match", "unknown", "conflict")
    for row in combinations(BOOK):
        for column in ("must", "may", "not"):
            if row[column] in order[:2]:
                worse = {**row, column: order[order.index(row[column]) + 1]}
                labels = [BOOK.scale.index(decide(**r)[1]) for r in (row, worse)]
                assert labels[0] >= labels[1], (row, column)


def test_decide_broadcasts_a_catalogue_against_one_query() -> None:
    columns = {name: np.zeros(1, dtype=np.int64) for name in BOOK.columns}
    rules = BOOK.decide({**columns, "category": np.asarray([0, 1, 2, 3])})
    assert [BOOK.rules[r].id for r in rules] == ["all_met", "sibling_only", "accessory_only", "other_category"]
    assert BOOK.labels(rules).tolist() == [3, 1, 0, 0]


def test_wrong_use_names_what_is_accepted() -> None:
    with pytest.raises(ValueError, match="no value 'maybe'; accepted: none, match, unknown, conflict"):
        BOOK.codes("must", ["match", "maybe"])
    with pytest.raises(ValueError, match="no column 'colour'; columns: category"):
        BOOK.codes("colour", ["red"])
    with pytest.raises(ValueError, match="needs column 'must'"):
        BOOK.decide({"category": np.zeros(1, dtype=np.int64)})
    with pytest.raises(ValueError, match="no rule 'al_met'; known: other_category"):
        BOOK.index("al_met")


def saved(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_small_book_is_right_so_that_the_errors_below_are_about_their_one_change(tmp_path: Path) -> None:
    book = load_rulebook(saved(tmp_path, SMALL))
    assert book.table.tolist() == [[2, 1], [0, 0]]
    assert book.rules[0].because == "wrong_kind" and book.rules[1].because == "it fails"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('must = ["conflict"] }', 'must = ["conflict"], category = ["other"] }', "rule 'fails' can never decide"),
        ('category = ["same"] }', 'category = ["same"], must = ["conflict"] }', "no rule covers category=same"),
        ("when = { must", "when = { musst", "rule 'fails' names column 'musst'; columns: category, must"),
        ('when = { must = ["conflict"]', 'when = { must = ["conflct"]', "rule 'fails', column 'must': 'conflct' "),
        ('label = "mismatch"', 'label = "mismach"', "rule 'fails': label 'mismach' is not on scale four_level"),
        ('label = "mismatch"', "", "rule number 2 has no 'label'"),
        ('id = "fails"', 'id = "fine"', "rule id 'fine' occurs 2 times"),
        ('id = "fails"', 'id = "it fails"', "rule id 'it fails' must be one word"),
        ('when = { must = ["conflict"] }', 'when = "conflict"', "rule 'fails': when must be a table"),
        ('must = ["conflict"] }', 'must = "conflict" }', "rule 'fails', column 'must': expected a list of texts"),
        ('must = ["match", "conflict"]', 'must = "match"', "column 'must': expected a list of texts"),
        ('must = ["match", "conflict"]', 'must = ["match", "match"]', "column 'must': 'match' occurs twice"),
        ('must = ["match", "conflict"]', "must = [1, 2]", "column 'must': expected a list of texts"),
        ('scale = "four_level"', 'scale = "five"', "unknown scale 'five'; known: four_level"),
        ('scale = "four_level"', "", "'scale' is missing"),
        ("[[rules]]", "[[rule]]", "'rules' is missing"),
        ("[[rules]]", "[[rules]", "not valid TOML"),
    ],
)
def test_a_broken_book_is_refused_with_file_and_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    path = saved(tmp_path, SMALL.replace(old, new))
    with pytest.raises(ValueError) as error:
        load_rulebook(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_a_book_that_is_not_utf8_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'scale = "caf\xe9"')
    with pytest.raises(ValueError, match=r"latin\.toml, line 1: byte 0x"):
        load_rulebook(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_rulebook(tmp_path / "nowhere.toml")


def test_the_hash_follows_the_text(tmp_path: Path) -> None:
    one = load_rulebook(saved(tmp_path, SMALL)).hash
    assert load_rulebook(saved(tmp_path, SMALL + "# a remark\n")).hash != one
    assert load_rulebook(saved(tmp_path, SMALL)).hash == one


def test_the_example_book_of_the_docs_loads_and_decides() -> None:
    book = load_rulebook(EXAMPLE)
    assert book.scale.name == "esci"
    row = {"product": "same", "requirements": "met", "stock": "gone"}
    rule = int(book.decide({name: book.codes(name, [value]) for name, value in row.items()})[0])
    assert book.rules[rule].id == "sold_out" and book.rules[rule].label == "substitute"


def label_of(name: str, **values: str) -> str:
    """The label that a book that ships gives to a pair; columns that are not named have their first value."""
    book = named_rulebook(name)
    chosen = {column: book.codes(column, [values.get(column, known[0])]) for column, known in book.columns.items()}
    return book.scale.labels[int(book.labels(book.decide(chosen))[0])]


@pytest.mark.parametrize(
    ("book", "values", "label"),
    [
        ("esci", {}, "exact"),
        ("esci", {"must": "unknown", "brand": "match"}, "exact"),
        ("esci", {"brand": "conflict"}, "substitute"),
        ("esci", {"not": "conflict"}, "substitute"),
        ("esci", {"quantity": "conflict"}, "substitute"),
        ("esci", {"category": "sibling"}, "substitute"),
        ("esci", {"category": "sibling", "must": "conflict"}, "irrelevant"),
        ("esci", {"category": "accessory"}, "complement"),
        ("esci", {"category": "accessory", "fits": "conflict"}, "irrelevant"),
        ("esci", {"fits": "conflict"}, "irrelevant"),
        ("graded_0_3", {}, "3"),
        ("graded_0_3", {"category": "accessory"}, "0"),
        ("graded_0_3", {"category": "sibling"}, "1"),
        ("graded_0_3", {"category": "sibling", "not": "conflict"}, "0"),
        ("graded_0_3", {"brand": "conflict"}, "1"),
        ("graded_0_3", {"must": "unknown"}, "2"),
        ("graded_0_3", {"may": "conflict"}, "2"),
        ("graded_0_3", {"quantity": "conflict", "must": "conflict"}, "1"),
        ("graded_0_3", {"fits": "conflict"}, "0"),
    ],
)
def test_the_books_for_real_catalogues_pass_the_validator_and_decide(book: str, values: dict, label: str) -> None:
    assert label_of(book, **values) == label


def test_books_by_name_and_by_file(tmp_path: Path) -> None:
    assert list(BOOKS) == ["esci", "graded_0_3", "shop"] and all(named_rulebook(name).rules for name in BOOKS)
    assert named_rulebook("shop").hash == load_rulebook().hash
    with pytest.raises(
        FileNotFoundError, match="no rule book 'esc': expected a TOML file, or one of esci, graded_0_3, shop"
    ):
        named_rulebook("esc")
