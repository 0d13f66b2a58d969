"""The filter language: what it says agrees with Python over a real store, and nothing else reaches the engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import normal_text
from goodrate.retrieval.filter_columns import Column, TagColumn, TextColumn, normal_pattern
from goodrate.retrieval.filters import MAX_CHARACTERS, MAX_NESTING, MAX_WILDCARDS, filter_sql
from goodrate.retrieval.store import Store

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "red lamp", "brand": "Kira", "price": 5.0, "rating": 4.5},
    {"id": "b", "title": "lamp 50% off", "brand": "O'Dare", "price": None, "rating": 3.0},
    {"id": "c", "title": "Lamp\nx_y", "brand": "kira", "price": 20.0, "rating": None},
    {"id": "d", "title": "lamp back\\slash", "brand": "", "price": 0.0, "rating": 0.0},
    {"id": "e", "title": "É lamp", "brand": "AND", "price": -1.5, "rating": None},
    {"id": "F", "title": "lamp -- ; $1", "brand": "Velto", "price": 1e20, "rating": 5.0},
]
TYPES = {"id": str, "title": str, "brand": str, "price": float, "rating": float}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store.create(tmp_path_factory.mktemp("filters") / "s", None, None)
    made.upsert(Catalog(pl.DataFrame(ROWS)), None)
    return made


def passing(store: Store, where: str) -> set[str]:
    return {hit.item_id for hit in store.search_text("lamp", 50, where)}


# ---- generated filters: (text, row -> True, False or None), by SQL's logic with NULL

Truth = bool | None
Filter = tuple[str, Callable[[dict[str, Any]], Truth]]


def negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


def both(left: Truth, right: Truth) -> Truth:
    return False if left is False or right is False else None if left is None or right is None else True


def like(text: str, pattern: str) -> bool:
    """LIKE through Python's own expressions."""
    signs = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    rule = "".join(wild.get(sign) or re.escape(sign[-1]) for sign in signs)
    return re.fullmatch(rule, text, re.DOTALL) is not None


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<>": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
numbers = st.sampled_from([row["price"] for row in ROWS if row["price"] is not None] + [4.5, 3.0]) | st.floats(
    allow_nan=False, allow_infinity=False
)
texts = st.sampled_from([row[name] for row in ROWS for name in ("title", "brand", "id")]) | st.text(max_size=5)
filled_texts = texts.filter(normal_text)
pattern_signs = st.sampled_from(["%", "_", r"\%", r"\_", r"\\", "l", "amp", "LAMP", " ", "k", "É", "\n", "'", "50"])
patterns = st.lists(pattern_signs, max_size=6).map("".join)
spaces = st.sampled_from([" ", "  ", "\n", " \t "])


def typed(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@st.composite
def column_filters(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(TYPES)))
    value = numbers if TYPES[name] is float else texts if name == "id" else filled_texts
    shown = draw(st.sampled_from([name, name.upper(), name.title()]))
    not_, said = draw(st.sampled_from([(False, ""), (True, "not ")]))

    def form(value: Any) -> Any:
        return normal_text(value) if name in ("title", "brand") else value

    def asked(test: Callable[[Any], bool], negation: bool = False) -> Callable[[dict[str, Any]], Truth]:
        return lambda row: None if row[name] in (None, "") else test(form(row[name])) != negation

    kind = draw(
        st.sampled_from(
            ["compare", "mirrored", "in", "between", "null", *(["like"] if name in ("title", "brand") else [])]
        )
    )
    if kind == "null":
        return f"{shown} IS {said}NULL", lambda row: (row[name] in (None, "")) != not_
    if kind == "in":
        choice = draw(st.lists(value, min_size=1, max_size=3))
        return f"{shown} {said}IN ({', '.join(map(typed, choice))})", asked(
            lambda v: v in list(map(form, choice)), not_
        )
    if kind == "between":
        low, high = draw(value), draw(value)
        return f"{shown} {said}BETWEEN {typed(low)} aNd {typed(high)}", asked(
            lambda v: form(low) <= v <= form(high), not_
        )
    if kind == "like":
        pattern, word = draw(patterns.filter(str.strip)), draw(st.sampled_from(["LIKE", "iLike"]))
        return f"{shown} {said}{word} {typed(pattern)}", asked(lambda v: like(v, normal_pattern(pattern)), not_)
    sign, other = draw(st.sampled_from(sorted(COMPARE))), draw(value)
    if kind == "mirrored":
        return f"{typed(other)} {sign} {shown}", asked(lambda v: COMPARE[sign](form(other), v))
    return f"{shown}{sign}{typed(other)}", asked(lambda v: COMPARE[sign](v, form(other)))


@st.composite
def joined_filters(draw: st.DrawFn, parts: st.SearchStrategy[Filter]) -> Filter:
    """Some filters in parentheses, each perhaps negated, with one word between them."""
    word = draw(st.sampled_from(["AND", "OR", "or"]))
    chosen = draw(st.lists(st.tuples(st.booleans(), parts), min_size=1, max_size=4))
    gap = draw(spaces)
    said = f"{gap}{word}{gap}".join(f"{'NOT ' if no else ''}({part[0]})" for no, part in chosen)

    def truth(row: dict[str, Any]) -> Truth:
        each = [negated(part[1](row)) if no else part[1](row) for no, part in chosen]
        whole: Truth = True
        for one in each:
            whole = both(whole, one if word == "AND" else negated(one))
        return whole if word == "AND" else negated(whole)

    return said, truth


filters = st.recursive(column_filters(), joined_filters, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(filters)
def test_a_filter_lets_through_what_it_says(store: Store, given_filter: Filter) -> None:
    where, truth = given_filter
    assert passing(store, where) == {row["id"] for row in ROWS if truth(row) is True}


def test_and_binds_before_or_and_not_before_and(store: Store) -> None:
    assert passing(store, "brand = 'Kira' OR price > 1 AND rating < 5") == {"a", "c"}
    assert passing(store, "(brand = 'Kira' OR price > 1) AND rating = 5") == {"F"}
    # NOT of an unknown price is unknown: b passes neither
    assert passing(store, "NOT price < 5 AND id != 'F'") == {"a", "c"}
    assert passing(store, "NOT (price < 5 OR rating < 4)") == {"a", "F"}
    assert passing(store, "price != 0 OR price NOT IN (5)") == {"a", "c", "d", "e", "F"}
    assert passing(store, "price <= -0.0 AND price = -0 AND 0 <= price") == {"d"}


def test_long_filters_are_answered(store: Store) -> None:
    alternatives = " OR ".join(f"price = {number}" for number in range(500))
    assert passing(store, alternatives) == {"a", "c", "d"}
    assert passing(store, f"NOT ({alternatives})") == {"e", "F"}
    assert passing(store, f"id IN ({', '.join(repr(str(number)) for number in range(1200))}, 'a')") == {"a"}
    assert passing(store, "NOT " * 2001 + "price > 1") == {"d", "e"}
    assert passing(store, "(" * 50 + "price > 6" + ")" * 50) == {"c", "F"}


def nested(depth: int) -> str:
    """AND and OR in each other, every one on the right, where the engine's parser ends first."""
    opened = "".join(f"(rating < {level} {'AND' if level % 2 else 'OR'} " for level in range(depth))
    return f"{opened}price NOT BETWEEN 1 AND 6{')' * depth}"


def test_the_deepest_filter_is_answered_and_a_deeper_one_refused(store: Store) -> None:
    # from the inside: level 1 is AND with rating < 1 (d), level 0 OR with rating < 0 (none); the rest lets d through
    assert passing(store, nested(MAX_NESTING)) == {"d"}
    with pytest.raises(ValueError, match="nested too deeply"):
        filter_sql(nested(MAX_NESTING + 1))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("price+" + "1+" * 900 + "1>0", r"expected a comparison, found '\+1' at character 6"),
        ("length(repeat('a',2000000000))>0", "no column named length"),
        ("array_length(range(0,1000000000))>0", "no column named array_length"),
        ("length(repeat(title,100000))>0", "no column named length"),
        ("price > $1", r"cannot read '\$1' at character 9"),
        ("brnd = 'x'", r"no column named brnd .*columns: price, rating \(number\), id, title, brand, category"),
        ("vector IS NULL", "no column named vector"),
        ('brand = "Kira"', "at character 9; texts go in single quotes"),
        ("brand = Kira", r"a value after = \(texts go in single quotes\), found 'Kira'"),
        ("brand = 'Kira", "begins at character 9 is not closed"),
        ("price < 'x'", "column 'price' is compared with a number, found 'x'"),
        ("'x' > price", "column 'price' is compared with a number, found 'x'"),
        ("title < 5", "column 'title' is compared with a text in single quotes, found 5"),
        ("brand = ' '", "no brand is equal to an empty text; write brand IS NULL"),
        ("attributes.gr\u00f6\u00dfe = 5", "goes in double quotes: attributes"),
        ("brand = 5", "column 'brand' is compared with a text in single quotes, found 5"),
        ("brand IN ('a', TRUE)", "column 'brand' .* found TRUE"),
        ("price BETWEEN 1 AND 'z'", "column 'price' .* found 'z'"),
        ("price LIKE '5%'", "LIKE is for texts, and column 'price' is compared with a number"),
        ("price NOT ILIKE 5", "NOT ILIKE is for texts"),
        ("price = NULL", "write IS NULL or IS NOT NULL"),
        ("price <", "expected a value after <, found the end"),
        ("price", "expected a comparison, found the end"),
        ("price < rating", "found 'rating'"),
        ("1 > 0", "expected a column, found '0'"),
        ("price IS 5", "expected NULL or NOT NULL, found '5'"),
        ("price NOT 5", "expected IN, BETWEEN, LIKE or ILIKE, found '5'"),
        ("price BETWEEN 1 OR 2", "expected AND and the upper bound, found 'OR'"),
        ("price IN ()", r"expected a value, found '\)'"),
        ("price IN (1", r"expected ',' or '\)', found the end"),
        ("AND = 'x'", "expected a column, found 'AND'"),
        ("price < 10 brand = 'Kira'", "expected AND, OR or the end, found 'brand'"),
        ("price < 10) OR (brand = 'Kira'", r"expected AND, OR or the end, found '\)'"),
        ("(price < 10", r"expected AND, OR or '\)', found the end"),
        ("price < 10); DROP TABLE items", r"comments and ';' are not accepted"),
        ("price < 10 -- x", "comments"),
        ("price > 1e999", "number at character 9 is too large"),
        ("price > \u0665", "cannot read"),
        ("title LIKE '" + "%a" * (MAX_WILDCARDS + 1) + "'", f"more than {MAX_WILDCARDS} signs"),
        (r"title LIKE 'a\x'", "backslash stands before"),
        ("title LIKE '\\'", "backslash stands before"),
        ("(" * 51 + "price > 1" + ")" * 51, "more than 50 parentheses"),
        ("x" * (MAX_CHARACTERS + 1), "it has 10,001 characters; at most 10,000 are read"),
        ("  ", "it is empty"),
        ("", "it is empty"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_the_accepted_forms(where: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        filter_sql(where)
    assert "accepted: COLUMN = != < <= > >= VALUE" in str(refused.value) and len(str(refused.value)) < 900


WORDS = """price title BRAND and or not in between like ilike is null true
5 -1.5e3 'x' '' '''' ( ) , = <> < >= % ; -- $1 " ."""
words = st.sampled_from(WORDS.split())
noise = st.text(max_size=40) | st.lists(words, max_size=12).map(" ".join) | st.lists(words, max_size=12).map("".join)


@settings(max_examples=500, deadline=None)
@given(noise)
@example("'" * 9_999)
@example("9" * 9_999)
@example("(" * 9_999)
@example("price = 1 OR " * 769)
@example("title = '\udc80'")
def test_any_text_is_a_filter_that_runs_or_a_value_error(store: Store, where: str) -> None:
    try:
        sql = filter_sql(where)
    except ValueError:
        return
    assert sql is not None
    passing(store, where)


def test_a_column_says_how_it_is_compared() -> None:
    columns = {
        "title": TextColumn("title", str),
        "brand": TagColumn("brand", str),
        "in_stock": Column("in_stock", bool),
    }
    assert (
        filter_sql("title = 'KIRA' AND NOT In_Stock = true", columns) == "(title_normal = 'kira' AND in_stock != TRUE)"
    )
    assert filter_sql("brand <> 'KIRA'", columns) == (
        "(array_has(tags, 'brand') AND NOT array_has(tags, 'brand\tkira'))"
    )
    with pytest.raises(ValueError, match=r"'in_stock' is compared with TRUE or FALSE, found 1.*: title, brand \("):
        filter_sql("in_stock = 1", columns)
