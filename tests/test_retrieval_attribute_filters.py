"""Filters on attributes, lists, brands and categories: against plain Python, and through changes of the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceted_shop import catalog_of, made_items, numbers, values
from goodrate.catalog.items import Catalog
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.store import Store
from goodrate.retrieval.tags import item_tags, number_and_unit

ITEMS = made_items(120, seed=1)
Test = Callable[[dict[str, Any]], bool]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store.create(tmp_path_factory.mktemp("attributes") / "s", None, None)
    made.upsert(catalog_of(ITEMS), None)
    return made


def passing(store: Store, where: str) -> set[str]:
    return {hit.item_id for hit in store.search_text("kettle stool lamp", 500, where)}


def those(test: Test) -> set[str]:
    return {item["id"] for item in ITEMS if test(item)}


def has(field: str, *wanted: str) -> Test:
    return lambda item: bool(values(item, field).intersection(wanted))


def a_number(field: str, test: Callable[[float], bool]) -> Test:
    return lambda item: any(map(test, numbers(item, field)))


CASES: list[tuple[str, Test]] = [
    ("brand = 'hp'", has("brand", "hp")),
    ("brand = '\uff28\uff30' AND brand = 'KIRA'", lambda i: {"hp", "kira"} <= values(i, "brand")),
    ("brand LIKE 'd%'", has("brand", "dell")),
    ("brand > 'dz'", has("brand", "hp", "kira")),
    ("brand IN ('dell', 'KIRA')", has("brand", "dell", "kira")),
    ("category = 'lighting'", has("category", "lighting")),
    ("category = 'HOME > Lighting'", has("category", "home > lighting")),
    ("category = 'Lighting > Lamps'", lambda i: False),
    ("category ILIKE '%kitchen'", has("category", "kitchen")),
    ("attributes.colour = 'red'", has("attributes.colour", "red")),
    ('attributes."COLOUR" IN (\'sea  GREEN\', \'blue\')', has("attributes.colour", "sea green", "blue")),
    ("attributes.Colour LIKE '%e'", has("attributes.colour", "blue")),
    ('attributes."screen size" >= 15.6', a_number("attributes.screen size", lambda n: n >= 15.6)),
    ('attributes."screen size" = 15', a_number("attributes.screen size", lambda n: n == 15)),
    ("attributes.\"screen size\" = '15 inch'", a_number("attributes.screen size", lambda n: n == 15)),
    ("15 < attributes.weight", a_number("attributes.weight", lambda n: n > 15)),
    ("attributes.weight BETWEEN 1.5 AND 20.25", a_number("attributes.weight", lambda n: 1.5 <= n <= 20.25)),
    ("attributes.sizes >= 45", a_number("attributes.sizes", lambda n: n >= 45)),
    ("attributes.sizes = 41", a_number("attributes.sizes", lambda n: n == 41)),
    ("attributes.sizes IN (36, 46)", a_number("attributes.sizes", lambda n: n in (36, 46))),
    ("attributes.sizes BETWEEN 37.5 AND 38.5", a_number("attributes.sizes", lambda n: n == 38)),
    ("attributes.wireless = true", has("attributes.wireless", "true")),
    ("attributes.fits = 4", has("attributes.fits", "4")),
    ("attributes.ean = '4016138700007'", has("attributes.ean", "4016138700007")),
]  # fmt: skip


@pytest.mark.parametrize(("where", "test"), CASES)
def test_a_filter_and_its_complement(store: Store, where: str, test: Test) -> None:
    field = next(f for f in ("brand", "category", "colour", "screen size", "weight", "sizes", "wireless", "fits", "ean")
                 if f in where.lower())  # fmt: skip
    name = field if field in ("brand", "category") else f"attributes.{field}"
    expected = those(test)
    assert passing(store, where) == expected
    if " AND brand" not in where:
        assert passing(store, f"NOT ({where})") == those(lambda item: bool(values(item, name))) - expected


@pytest.mark.parametrize("field", ["brand", "category", "attributes.colour", "attributes.sizes", "attributes.wireless"])
def test_null_is_what_has_no_value(store: Store, field: str) -> None:
    assert passing(store, f"{field} IS NULL") == those(lambda item: not values(item, field))
    assert passing(store, f"NOT {field} IS NULL") == passing(store, f"{field} IS NOT NULL")
    assert passing(store, f"{field} IS NOT NULL") == those(lambda item: bool(values(item, field)))


bounds = st.floats(-1, 31).map(lambda x: round(x, 3))


@settings(max_examples=100, deadline=None)
@given(bounds, bounds, st.sampled_from(["<", "<=", ">", ">="]))
def test_any_range_of_numbers(store: Store, low: float, high: float, sign: str) -> None:
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda n: n < low, "<=": lambda n: n <= low, ">": lambda n: n > low, ">=": lambda n: n >= low,
    }  # fmt: skip
    assert passing(store, f"attributes.weight {sign} {low}") == those(a_number("attributes.weight", compare[sign]))
    between = a_number("attributes.weight", lambda n: low <= n <= high)
    assert passing(store, f"attributes.weight BETWEEN {low} AND {high}") == those(between)


def test_a_wide_range_asks_for_buckets_in_place_of_every_value(store: Store) -> None:
    sql = str(filter_sql("attributes.weight >= 5", store.columns))
    assert "'attributes.weight\t\t1.2e+01'" in sql and sql.count("', '") < 60  # 120 items weigh 96 different things


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("attributes.color = 'red'", "no column named attributes.color .*the nearest: attributes.colour"),
        ("attributes.screensize > 3", 'the nearest: attributes."screen size"'),
        ("colour = 'red'", "no column named colour .*the nearest: attributes.colour"),
        ("attributes.colour > 3", "'attributes.colour' holds '.*' and is compared with a text in single"),
        ("attributes.weight > 'a'", "'attributes.weight' holds .* is compared with a number, found 'a'"),
        ("attributes.wireless = 1", "is compared with TRUE or FALSE, found 1"),
        ("attributes.fits > 3", "'attributes.fits' holds '.*' and is compared with a text"),
        ("attributes.colour = '  '", "no attributes.colour is equal to an empty text"),
        ("attributes = 'x'", "no column named attributes that"),
        ('attributes."colour = 1', "cannot read|expected"),
    ],
)  # fmt: skip
def test_a_wrong_filter_names_what_is_there(store: Store, where: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.search_text("lamp", 5, where)


def test_values_decide_the_type() -> None:
    assert number_and_unit("17 inch") == (17.0, "inch") and number_and_unit("-4.5") == (-4.5, "")
    for text in ("1920x1080", "15-17", "007", "1234567890123456", "1,5", "15 cm wide", "red"):
        assert number_and_unit(text) is None


def rows(**attributes: Any) -> Catalog:
    """Items a, b, ... one for each value of the one attribute."""
    ((name, given),) = attributes.items()
    made = [{"id": chr(97 + n), "title": "lamp", "attributes": pl.Series([value])} for n, value in enumerate(given)]
    from goodrate.strict_json import compact

    return Catalog(
        pl.DataFrame([{**row, "attributes": compact({name: v})} for row, v in zip(made, given, strict=True)])
    )


def test_units_that_differ_make_texts_and_a_stray_word_does_not(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", None, None)
    store.upsert(rows(memory=["500 GB", "1 TB"]), None)
    with pytest.raises(ValueError, match="'attributes.memory' holds '1 TB', '500 GB'|holds '500 GB', '1 TB'"):
        store.search_text("lamp", 5, "attributes.memory > 400")
    other = Store.create(tmp_path / "t", None, None)
    other.upsert(rows(depth=[*range(20), "n/a"]), None)
    assert {hit.item_id for hit in other.search_text("lamp", 50, "attributes.depth >= 18")} == {"s", "t"}
    assert {hit.item_id for hit in other.search_text("lamp", 50, "attributes.depth = 'N/A'")} == {"u"}


def test_tags_and_entries_of_an_item() -> None:
    frame = pl.DataFrame({
        "brand": ["HP"], "category": ["Home > Lamps"], "currency": ["EUR"], "parent_id": [""],
        "attributes": ['{"Colour":["Red","red",null],"on":true,"deep":{"x":1},"w":15.0,"q":"a\\"b","n":null}'],
    })  # fmt: skip
    tagged = item_tags(frame)
    assert tagged["tags"][0].to_list() == sorted([
        "attributes.colour", "attributes.colour\tred", "attributes.on", "attributes.on\ttrue",
        "attributes.w", "attributes.w\t15", "attributes.w\t\t1.5e+01", "attributes.q", 'attributes.q\ta"b',
        "attributes.x", "attributes.x\t1", "attributes.x\t\t1.0e+00",  # of an object in it, as the full text has it
        "brand", "brand\thp", "category", "category\thome", "category\thome > lamps", "category\tlamps",
        "currency", "currency\teur",
    ])  # fmt: skip
    assert "attributes.Colour\tRed" in tagged["facets"][0].to_list()


# ---- the index changes


def colours(store: Store) -> dict[str, int]:
    terms = store.facets.table().field("attributes.colour")
    return {} if terms is None else dict(zip(terms.values.to_list(), terms.counts.tolist(), strict=True))


def test_writing_keeps_tags_and_counts_right(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", None, None)
    reader = Store.open(tmp_path / "s")
    assert colours(reader) == {} and len(reader.facets.table().rows) == 0
    store.upsert(rows(colour=["Red", "red", "Blue"]), None)
    assert colours(reader) == {"red": 2, "blue": 1}
    assert passing(reader, "attributes.colour = 'RED'") == {"a", "b"}
    store.upsert(rows(colour=["green"]), None)  # a is another one
    assert colours(reader) == {"green": 1, "red": 1, "blue": 1}
    assert passing(reader, "attributes.colour = 'red'") == {"b"} and passing(reader, "attributes.colour LIKE 'g%'") == {
        "a"
    }
    store.update(rows(colour=["green", "green"]))  # the items stay, their attributes change
    assert colours(reader) == {"green": 2, "blue": 1}
    assert store.remove(["a", "b"]) == 2
    assert colours(reader) == {"blue": 1} and passing(reader, "attributes.colour IS NOT NULL") == {"c"}
    store.remove(["c"])
    assert colours(reader) == {}
    with pytest.raises(ValueError, match="no column named attributes.colour"):
        reader.search_text("lamp", 5, "attributes.colour = 'blue'")


def test_another_process_writes_and_a_killed_one_is_taken_up(tmp_path: Path) -> None:
    """Parts that were written before a run was cut off are found with their tags, and those after it too."""
    store, reader = Store.create(tmp_path / "s", None, None), Store.open(tmp_path / "s")
    items = made_items(40, seed=2)
    store.upsert(catalog_of(items[:20]), None, refresh=False)  # cut off here: no index knows these yet
    first = {item["id"] for item in items[:20] if "hp" in values(item, "brand")}
    assert passing(reader, "brand = 'hp'") == first
    again = Store.open(tmp_path / "s")
    again.upsert(catalog_of(items), None)
    hp = {item["id"] for item in items if "hp" in values(item, "brand")}
    assert passing(reader, "brand = 'hp'") == hp == passing(store, "brand = 'HP'")
    assert len(reader.facets.table().rows) == 40


def test_an_index_that_is_made_anew_is_read_anew(tmp_path: Path) -> None:
    import shutil

    store = Store.create(tmp_path / "s", None, None)
    store.upsert(rows(colour=["red"]), None)
    reader = Store.open(tmp_path / "s")
    assert colours(reader) == {"red": 1}
    shutil.rmtree(tmp_path / "s")
    other = Store.create(tmp_path / "s", None, None)
    other.upsert(rows(colour=["blue", "blue"]), None)
    assert colours(reader) == {"blue": 2}


def test_a_few_changed_items_are_read_alone_and_give_the_same_table(tmp_path: Path) -> None:
    items = made_items(200, seed=3)
    store, reader = Store.create(tmp_path / "s", None, None), Store.open(tmp_path / "s")
    store.upsert(catalog_of(items), None)
    before = reader.facets.table()
    moved = [{**item, "price": 7.0, "brand": "Dell"} for item in items[10:20]]
    store.update(catalog_of(moved))
    store.remove([items[5]["id"]])
    after, anew = reader.facets.table(), Store.open(tmp_path / "s").facets.table()
    assert after.dictionary is before.dictionary or len(before.dictionary.codes) > len(anew.dictionary.codes)
    left = [*items[:5], *items[6:10], *moved, *items[20:]]
    for table in (after, anew):
        assert len(table.rows) == 199 and (table.columns["price"] == 7.0).sum() == 10
        brands = table.field("brand")
        expected = Counter(value for item in left for value in values(item, "brand"))
        assert brands is not None and dict(zip(brands.values, brands.counts, strict=True)) == expected
    assert (after.rows == anew.rows).all() and (after.starts == anew.starts).all()
    assert (
        after.dictionary.terms["value"].gather(after.codes) == anew.dictionary.terms["value"].gather(anew.codes)
    ).all()
    store.update(catalog_of([{**items[0], "brand": "Never seen"}]))
    fresh = reader.facets.table()
    assert fresh.field("brand").values.to_list() == ["dell", "hp", "kira", "never seen"]
