"""The world: the same for a seed, names apart from words, every category filled, unknowns spread evenly."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from goodrate.shop.taxonomy import ACCESSORY, OTHER, SAME, SIBLING, load_taxonomy
from goodrate.shop.world import (
    DISTRACTORS,
    PRICES,
    SIGNATURE_ATTRIBUTES,
    STATED_SHARE,
    World,
    draw_surfaces,
    invent_names,
    item_record,
    item_records,
    make_world,
)

WORLD = make_world(3, num_items=2000)
T = load_taxonomy()


def same(left: World, right: World) -> bool:
    pairs = [(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(World)]
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_a_seed_makes_one_world() -> None:
    assert same(WORLD, make_world(3, num_items=2000))
    other = make_world(4, num_items=2000)
    assert not same(WORLD, other) and not set(WORLD.brands) & set(other.brands)


def test_the_taxonomy_is_as_large_as_the_design_asks() -> None:
    assert (len(T.categories), len(T.departments)) == (24, 6)
    assert len(T.attributes) >= 12 and all(6 <= len(values) <= 20 for values in T.values)
    assert len(WORLD.brands) >= 60


def test_every_surface_means_one_thing() -> None:
    surfaces = [s for group in [*T.category_surfaces, *(v for a in T.value_surfaces for v in a)] for s in group]
    assert len(surfaces) == len(set(surfaces))
    assert all(len(group) >= 3 for group in T.category_surfaces)
    assert not {s for s in surfaces if s in DISTRACTORS}


def test_relations_are_symmetric_and_as_the_file_says() -> None:
    c = T.categories.index
    assert np.array_equal(T.relation, T.relation.T)
    assert T.relation[c("phone"), c("phone")] == SAME
    assert T.relation[c("phone"), c("phone case")] == ACCESSORY
    assert T.relation[c("phone case"), c("charger")] == SIBLING  # both belong to phones, not to each other
    assert T.relation[c("phone"), c("jacket")] == OTHER
    # 24 same; 7 accessory pairs both ways; 6 departments x 4 x 3 ordered pairs minus those 14; the rest other.
    assert np.bincount(T.relation.reshape(-1)).tolist() == [24, 72 - 14, 14, 576 - 96]


def test_names_are_invented_distinct_and_no_words() -> None:
    words = {word for surface in T.words() for word in surface.split()}
    names = [*WORLD.brands, *WORLD.lines]
    assert len(set(names)) == len(names) == 64 + 256
    assert not words & set(names) and all(name.isalpha() and name.islower() for name in names)


def test_names_that_are_taken_are_not_given_again() -> None:
    taken: set[str] = set()
    first = invent_names(np.random.default_rng(1), 50, taken)
    assert taken == set(first)
    second = invent_names(np.random.default_rng(1), 50, taken)
    assert not set(first) & set(second)


def test_every_category_has_items_even_in_the_smallest_shop() -> None:
    small = make_world(0, num_items=200)
    assert np.bincount(small.category, minlength=24).min() >= 4  # 200 / 24 = 8.3, by lines of about one item
    assert np.bincount(WORLD.category, minlength=24).min() >= 60


def test_items_inherit_from_their_line() -> None:
    w = WORLD
    assert np.array_equal(w.category, w.line_category[w.line])
    assert np.array_equal(w.brand, w.line_brand[w.line])
    rows = np.arange(len(w))
    assert np.array_equal(w.values[rows, w.line_attribute[w.line]], w.line_value[w.line])
    assert {T.attributes[a] for a in w.line_attribute} == set(SIGNATURE_ATTRIBUTES)


def test_model_numbers_are_two_digits_and_distinct_within_a_line() -> None:
    keys = WORLD.line * 100 + WORLD.model
    assert len(np.unique(keys)) == len(WORLD)
    assert WORLD.model.min() >= 10 and WORLD.model.max() <= 99
    assert PRICES[0] <= WORLD.price.min() and WORLD.price.max() <= PRICES[1]


def test_unknown_rates_do_not_depend_on_category_value_or_relation() -> None:
    world = make_world(5, num_items=6000)
    # 6000 x 12 cells; per category 3000 cells: standard error sqrt(.7 * .3 / 3000) = 0.008, so 0.035 is over four.
    by_category = [world.stated[world.category == c].mean() for c in range(24)]
    assert np.abs(np.asarray(by_category) - STATED_SHARE).max() < 0.035
    by_relation = [world.stated[np.isin(world.category, np.flatnonzero(T.relation[0] == r))].mean() for r in range(4)]
    assert max(by_relation) - min(by_relation) < 0.03
    for attribute, values in enumerate(T.values):
        rates = [world.stated[world.values[:, attribute] == v, attribute].mean() for v in range(len(values))]
        assert np.abs(np.asarray(rates) - STATED_SHARE).max() < 0.08  # 750 items: standard error 0.017


def test_the_rare_surface_is_rare() -> None:
    drawn = draw_surfaces(np.random.default_rng(0), np.full(20_000, 3))
    shares = np.bincount(drawn) / len(drawn)
    # 0.85 / 2 each for the common two, 0.15 for the last; standard error under 0.004.
    assert shares == pytest.approx([0.425, 0.425, 0.15], abs=0.015)


@pytest.mark.parametrize("index", [0, 7, 1999])
def test_a_record_tells_exactly_the_stated_values(index: int) -> None:
    record = item_record(WORLD, index)
    told = json.loads(str(record["attributes"]))
    assert set(told) == {T.attributes[a] for a in np.flatnonzero(WORLD.stated[index])}
    for name, surface in told.items():
        a = T.attributes.index(name)
        assert surface in T.value_surfaces[a][WORLD.values[index, a]]
    assert record["price"] == WORLD.price[index] and 1 <= float(str(record["rating"])) <= 5


def test_the_catalogue_text_keeps_attribute_values() -> None:
    polars = pytest.importorskip("polars")
    from goodrate.catalog.items import Catalog

    record = item_records(make_world(3, num_items=200))[0]
    text = Catalog(polars.DataFrame([record])).text()[0]
    for name, value in json.loads(str(record["attributes"])).items():
        assert f"; {name} {value}" in text
