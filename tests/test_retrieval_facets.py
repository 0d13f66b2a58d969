"""Facets: their counts against counting in plain Python, their filters, and what they are counted over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceted_shop import catalog_of, counts, made_items, numbers, values
from goodrate.api.index import Index
from goodrate.catalog.normal_form import normal_text
from goodrate.ranking.rule_file import Bury, RankingRules
from goodrate.retrieval.number_ranges import edges_of, round_step
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import SearchRequest

ITEMS = made_items(400)
KETTLES = [item for item in ITEMS if item["title"].startswith("kettle")]
VALUE_FACETS = ["brand", "attributes.colour", "attributes.wireless", "attributes.fits", 'attributes."screen size"']
RANGE_FACETS = ["price", "attributes.sizes", "attributes.weight"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.create(tmp_path_factory.mktemp("facets") / "i", catalog_of(ITEMS))


def facet(index: Index, name: str, query: str = "kettle", where: str | None = None) -> dict[str, Any]:
    (found,) = index.search(query, where=where, facets=[name]).facets.facets
    return found


def cheap(item: dict[str, Any]) -> bool:
    return item["price"] is not None and item["price"] < 60 and "hp" in values(item, "brand")


@pytest.mark.parametrize("name", VALUE_FACETS)
@pytest.mark.parametrize("filtered", [False, True])
def test_values_have_the_counts_of_plain_python(index: Index, name: str, filtered: bool) -> None:
    of = [item for item in KETTLES if cheap(item)] if filtered else KETTLES
    where = "price < 60 AND brand = 'hp'" if filtered else None
    found = facet(index, name, where=where)
    assert {normal_text(value["value"]): value["count"] for value in found["values"]} == counts(
        of, name.replace('"', "")
    )
    assert found["kind"] == "values" and found["others"] == 0
    assert index.search("kettle", where=where, facets=[name]).facets.counted == len(of)


@pytest.mark.parametrize("name", RANGE_FACETS)
def test_ranges_have_the_counts_of_plain_python(index: Index, name: str) -> None:
    found = facet(index, name)
    assert found["kind"] == "ranges" and 3 <= len(found["values"]) <= 5
    for value in found["values"]:
        inside = [any(value["from"] <= n < value["to"] for n in numbers(item, name)) for item in KETTLES]
        assert value["count"] == sum(inside) > 0
    if name != "attributes.sizes":  # an item with two sizes is in two ranges
        known = sum(bool(numbers(item, name)) for item in KETTLES)
        assert sum(value["count"] for value in found["values"]) == known
        assert max(v["count"] for v in found["values"]) < 2.5 * min(v["count"] for v in found["values"])


def test_the_category_is_a_tree(index: Index) -> None:
    found = facet(index, "category")
    assert found["kind"] == "tree" and found["label"] == "Category"
    expected = counts(KETTLES, "category")
    paths = [value["path"] for value in found["values"]]
    assert set(paths) == {
        "Home", "Home > Lighting", "Home > Lighting > Lamps", "Home > Kitchen", "Garden", "Garden > Tools",
        "Garden > Lighting", "Office",
    }  # fmt: skip
    for value in found["values"]:
        above, _, own = value["path"].rpartition(" > ")
        assert value["count"] == expected[normal_text(value["path"])] and value["value"] == own
        assert value["depth"] == value["path"].count(" > ")
        assert not above or above in paths[: paths.index(value["path"])]
    assert paths[:2] == ["Home", "Home > Lighting"]  # the largest first, its parts behind it


@pytest.mark.parametrize("name", [*VALUE_FACETS, *RANGE_FACETS, "category", "rating"])
def test_a_value_s_filter_lets_through_what_was_counted(index: Index, name: str) -> None:
    for value in facet(index, name)["values"]:
        again = index.search("kettle", k=500, where=value["where"], facets=["brand"])
        assert again.facets.counted == len(again.results) == value["count"], value


def test_the_spelling_that_most_items_have_is_shown(index: Index) -> None:
    spelt = {value["value"] for value in facet(index, "attributes.colour")["values"]}
    written = [one for item in ITEMS for one in _listed(item["attributes"]["Colour"]) if one and one.lower() == "red"]
    assert max(set(written), key=written.count) in spelt and "Sea green" in spelt
    assert facet(index, "attributes.colour")["label"] == "Colour"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_auto_is_brand_category_price_and_attributes_that_split(index: Index) -> None:
    names = [found["name"] for found in index.search("kettle", facets=True).facets.facets]
    assert names[:3] == ["brand", "category", "price"]
    assert set(names[3:]) == {
        "attributes.sizes", 'attributes."screen size"', "attributes.colour", "attributes.fits", "attributes.wireless"
    }  # fmt: skip
    # wireless: 1 bit of the 80 % that have one; weight: hardly two items weigh the same; an ean is an identifier
    one_left = index.search("kettle", where="brand = 'dell' AND attributes.wireless = TRUE", facets=["auto"])
    assert "attributes.wireless" not in [found["name"] for found in one_left.facets.facets]  # splits nothing any more


def test_a_search_that_finds_nothing_has_empty_facets(index: Index) -> None:
    none = index.search("zzzz", facets=["auto", "brand", "price", "category", "attributes.sizes"]).facets
    assert none.counted == 0 and none.complete
    assert [found["values"] for found in none.facets] == [[], [], [], []]
    assert index.search("kettle").facets is None


def test_an_unknown_facet_names_the_nearest(index: Index) -> None:
    with pytest.raises(ValueError, match=r"no facet 'attributes.color'; the nearest: attributes.colour; accepted"):
        index.search("kettle", facets=["attributes.color"])
    with pytest.raises(ValueError, match="no facet 'id'; accepted"):
        index.search("kettle", facets=["id"])
    assert facet(index, "attributes.Screen Size")["name"] == 'attributes."screen size"'


def test_facets_are_counted_under_the_price_that_the_query_names(index: Index) -> None:
    response = index.search("kettle under 60 euro", k=500, facets=["brand"])
    expected = [item for item in KETTLES if item["price"] is None or item["price"] <= 60]
    assert response.facets.counted == len(expected) == len(response.results)


def test_what_a_rule_takes_out_is_not_counted(index: Index) -> None:
    rules = RankingRules(
        bury=[
            Bury(name="no blue", where="attributes.colour = 'blue'", to="out"),
            Bury(name="old", ids=["i0001", KETTLES[0]["id"]], to="out"),
            Bury(name="gone", where="attributes.gone = 1", to="out"),
            Bury(name="last", where="brand = 'dell'", to="end"),
        ]
    )
    pipeline = SearchPipeline(index.store, index.searcher, modes=index.modes, rules=rules)
    response = pipeline.search(SearchRequest("kettle", k=400, facets=("brand", "attributes.colour")))
    left = [i for i in KETTLES if "blue" not in values(i, "attributes.colour") and i["id"] not in rules.bury[1].ids]
    assert response.facets.counted == len(left) == len(response.results)
    assert "Blue" not in [value["value"] for value in response.facets.facets[1]["values"]]


def test_very_many_matches_are_counted_over_the_best(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodrate.retrieval.search.FACET_ROWS", 50)
    counted = index.search("kettle", facets=["brand"]).facets
    assert not counted.complete and counted.counted == 50


def test_meaning_adds_what_it_found_and_dense_counts_that_alone(tmp_path: Path) -> None:
    class Encoder:
        fingerprint, dimension = "ones", 4

        def encode_items(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 4), dtype=np.float32) / 2

        encode_queries = encode_items

    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    encoder, items = Encoder(), made_items(60)
    store = Store.create(tmp_path / "s", encoder.fingerprint, encoder.dimension)
    index_catalog(store, catalog_of(items), encoder)
    dense = Index(store, encoder)  # type: ignore[arg-type]
    lamps = {item["id"] for item in items if item["title"].startswith("kettle")}
    hybrid = dense.search("kettle", k=5, depth=0, facets=["brand"])
    assert len(lamps) < hybrid.facets.counted == hybrid.retrieved == 60, "meaning finds them all; k decides nothing"
    alone = dense.search("kettle", k=5, mode="dense", facets=["brand"])
    assert not alone.facets.complete and alone.facets.counted == alone.retrieved


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60))
def test_every_number_is_in_a_range(drawn: list[float]) -> None:
    edges = edges_of(np.array(drawn))
    assert (np.diff(edges) > 0).all() and edges[0] <= min(drawn) and max(drawn) < edges[-1]


def test_steps_are_1_2_or_5_times_a_power_of_ten() -> None:
    assert [round_step(x) for x in (0.01, 0.0299, 3.0, 1000.0, 9e5)] == [0.01, 0.02, 2.0, 1000.0, 500000.0]
