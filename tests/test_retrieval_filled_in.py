"""Filled-in attributes in an index: found, filtered and counted from a confidence on, never over the shop's own."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from goodrate.api.index import Index
from goodrate.catalog.inferred import INFERRED, layer_of
from goodrate.catalog.items import Catalog
from goodrate.retrieval.filled_in import act_from, fill_in, filled_items
from goodrate.retrieval.store import Store

IDS = ["a", "b", "c"]


def shop(**more: list[str]) -> Catalog:
    """Three lamps, of which the first says its colour."""
    attributes = ['{"Color":"blue"}', "{}", '{"size":"M"}']
    return Catalog(pl.DataFrame({"id": IDS, "title": ["oak lamp"] * 3, "attributes": attributes} | more))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = Index.create(tmp_path / "index", shop())
    told = [{"color": ("red", 0.9)}, {"color": ("red", 0.95)}, {"color": ("green", 0.6)}]
    fill_in(made.store, IDS, layer_of(told, "probe", "1f"), "probe")
    return made


def matching(store: Store, value: str) -> set[str]:
    return store.matching(IDS, f"attributes.color = '{value}'")


def test_what_is_filled_in_is_found_filtered_and_counted_like_the_shops_own(index: Index) -> None:
    assert (matching(index.store, "red"), matching(index.store, "blue")) == ({"b"}, {"a"})  # never over the shop's own
    found = index.search("red", facets=["attributes.color"])
    assert [result.item["id"] for result in found] == ["b"]
    everything = index.search("lamp", facets=["attributes.color"]).facets
    assert everything is not None
    counts = [(value["value"], value["count"]) for value in everything.facets[0]["values"]]
    assert counts == [("blue", 1), ("red", 1)]  # green is not sure enough
    shown = found[0].item
    assert shown["attributes"] == {}
    assert shown[INFERRED] == {"color": {"value": "red", "confidence": 0.95, "source": "probe"}}


def test_the_confidence_from_which_it_acts_is_a_setting_of_the_index(index: Index) -> None:
    act_from(index.store, 0.5)
    assert matching(index.store, "green") == {"c"}
    act_from(index.store, 0.97)
    assert [matching(index.store, value) for value in ("red", "green", "blue")] == [set(), set(), {"a"}]
    assert Store.open(index.store.path).manifest.inferred_from == 0.97
    with pytest.raises(ValueError, match="between 0 and 1, found 1.5"):
        act_from(index.store, 1.5)


def test_a_new_run_replaces_its_own_values_and_an_upsert_keeps_them_all(index: Index) -> None:
    fill_in(index.store, IDS, layer_of([{}, {"size": ("L", 0.9)}, {}], "other", "2e"), "other")
    fill_in(
        index.store,
        ["b", "gone"],
        layer_of([{"color": ("teal", 0.9)}, {"color": ("red", 1.0)}], "probe", "3d"),
        "probe",
    )
    assert (matching(index.store, "red"), matching(index.store, "teal")) == (set(), {"b"})
    before = index.store.known_items(IDS).sort("id")[INFERRED].to_list()
    report = index.add(shop())
    assert (report.changed, report.unchanged) == (0, 3)
    index.add(shop(title=["oak lamp", "red oak lamp", "oak lamp"]))
    assert index.store.known_items(IDS).sort("id")[INFERRED].to_list() == before
    assert index.store.matching(IDS, "attributes.size = 'L'") == {"b"} == matching(index.store, "teal")
    stated = shop(attributes=['{"Color":"blue"}', '{"color":"pink"}', "{}"])
    index.add(stated)  # the shop now says it: its word counts
    assert (matching(index.store, "teal"), matching(index.store, "pink")) == (set(), {"b"})


def test_a_catalogue_with_a_layer_brings_its_sources_anew(index: Index) -> None:
    fill_in(index.store, IDS, layer_of([{}, {"size": ("L", 0.9)}, {}], "other", "2e"), "other")
    column = layer_of([{}, {}, {"color": ("black", 0.9)}], "probe", "3d")
    index.add(Catalog(shop().frame.with_columns(column)))
    assert (matching(index.store, "red"), matching(index.store, "black")) == (set(), {"c"})
    assert index.store.matching(IDS, "attributes.size = 'L'") == {"b"}
    assert filled_items(index.store).ids == ["b", "c"]


def test_a_store_keeps_the_layer_whoever_writes(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", None, None)
    store.upsert(shop(), None)
    fill_in(store, IDS, layer_of([{}, {"color": ("red", 0.9)}, {}], "probe", "1f"), "probe")
    store.upsert(shop(), None)
    store.update(shop(title=["a", "b", "c"]))
    assert matching(store, "red") == {"b"}
    assert store.remove(["b"]) == 1 and filled_items(store).ids == []
