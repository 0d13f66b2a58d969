"""Facets that ignore what the filter asks of their own field: counts against plain Python, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from faceted_shop import catalog_of, counts, made_items, numbers, values
from goodrate.api.index import Index
from goodrate.catalog.normal_form import normal_text
from goodrate.cli import app
from goodrate.ranking.rule_file import Bury, RankingRules
from goodrate.retrieval.filter_parts import MOST_NARROWED, without_own
from goodrate.serving.http import create_app
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import SearchRequest

ITEMS = made_items(300, seed=3)
KETTLES = [item for item in ITEMS if item["title"].startswith("kettle")]
BRAND, COLOUR, PRICE = "brand IN ('hp', 'kira')", "attributes.colour IN ('red', 'blue')", "price BETWEEN 20 AND 80"
WHERE = f"{BRAND} AND {COLOUR} AND {PRICE}"


def of_brand(item: dict[str, Any]) -> bool:
    return bool({"hp", "kira"} & values(item, "brand"))


def of_colour(item: dict[str, Any]) -> bool:
    return bool({"red", "blue"} & values(item, "attributes.colour"))


def of_price(item: dict[str, Any]) -> bool:
    return any(20 <= number <= 80 for number in numbers(item, "price"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.create(tmp_path_factory.mktemp("disjunctive") / "i", catalog_of(ITEMS))


def counted(facet: dict[str, Any]) -> dict[str, int]:
    return {normal_text(value["value"]): value["count"] for value in facet["values"]}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("brand", (of_colour, of_price)), ("attributes.colour", (of_brand, of_price)),
        ("attributes.fits", (of_brand, of_colour, of_price)),
    ],
)  # fmt: skip
def test_a_facet_ignores_its_own_conditions_alone(
    index: Index, name: str, others: tuple[Callable[[dict[str, Any]], bool], ...]
) -> None:
    found = index.search("kettle", where=WHERE, facets=[name], disjunctive=True)
    of = [item for item in KETTLES if all(one(item) for one in others)]
    (facet,) = found.facets.facets
    assert counted(facet) == counts(of, name) and len(counted(facet)) > 2
    assert facet.get("counted", found.facets.counted) == len(of)
    whole = [item for item in KETTLES if of_brand(item) and of_colour(item) and of_price(item)]
    assert found.facets.counted == len(whole) and found.facets.complete
    (alone,) = index.search("kettle", where=WHERE, facets=[name]).facets.facets
    assert counted(alone) == counts(whole, name)


def test_ranges_of_a_bounded_price_are_those_without_the_bounds(index: Index) -> None:
    (facet,) = index.search("kettle", where=WHERE, facets=["price"], disjunctive=True).facets.facets
    of = [item for item in KETTLES if of_brand(item) and of_colour(item)]
    for value in facet["values"]:
        inside = [any(value["from"] <= n < value["to"] for n in numbers(item, "price")) for item in of]
        assert value["count"] == sum(inside) > 0
    assert sum(value["count"] for value in facet["values"]) == sum(item["price"] is not None for item in of)


def test_auto_has_every_field_that_is_narrowed(index: Index) -> None:
    where = f"{WHERE} AND rating >= 2 AND id != 'i0001'"
    found = index.search("kettle", where=where, facets=True, disjunctive=True).facets.facets
    by_name = {facet["name"]: facet for facet in found}
    assert {"brand", "price", "attributes.colour", "rating"} <= {n for n, one in by_name.items() if "counted" in one}
    assert len(found) == len(by_name) and "id" not in by_name


def test_what_a_rule_takes_out_is_not_counted_there_either(index: Index) -> None:
    rules = RankingRules(bury=[Bury(name="no dell", to="out", where="brand = 'dell'")])
    pipeline = SearchPipeline(index.store, index.searcher, modes=index.modes, rules=rules)
    request = SearchRequest("kettle", where="brand = 'hp'", facets=("brand",), disjunctive=True)
    (facet,) = pipeline.search(request).facets.facets
    kept = [item for item in KETTLES if "dell" not in values(item, "brand")]
    assert counted(facet) == counts(kept, "brand")


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        (None, {}),
        ("brand = 'a AND b'", {"brand": None}),
        ("Brand = 'a' and BRAND != 'b' AND price < 5", {"brand": "price < 5", "price": "Brand = 'a' AND BRAND != 'b'"}),
        ("price BETWEEN 1 AND 5 AND rating > 3", {"price": "rating > 3", "rating": "price BETWEEN 1 AND 5"}),
        ("NOT price NOT BETWEEN 1 AND 5", {"price": None}),
        ("(brand = 'a' OR price < 5) AND rating > 3", {"rating": "(brand = 'a' OR price < 5)"}),
        ("brand = 'a' OR brand = 'b' AND brand != 'c'", {"brand": None}),
        ("brand = 'a' AND price < 5 OR rating > 3", {}),
        ("(brand = 'a' AND price < 5)", {}),
        ("5 > price AND attributes.\"Screen  Size\" IN (1, 2)",
         {"price": 'attributes."Screen  Size" IN (1, 2)', "attributes.screen size": "5 > price"}),
        ("attributes.on = TRUE AND ((brand IS NULL))", {"attributes.on": "((brand IS NULL))",
                                                        "brand": "attributes.on = TRUE"}),
    ],
)  # fmt: skip
def test_a_filter_without_the_conditions_on_one_field(where: str | None, parts: dict[str, str | None]) -> None:
    assert without_own(where) == parts


def test_http_and_the_command_say_the_same_and_refuse_too_many_fields(index: Index, tmp_path: Path) -> None:
    client = TestClient(create_app(index.pipeline))
    asked = {"query": "kettle", "where": BRAND, "facets": ["brand"], "disjunctive": True}
    answer = client.post("/search", json=asked).json()
    assert answer == {**client.get("/search", params=asked).json(), "latency_ms": answer["latency_ms"]}
    assert counted(answer["facets"][0]) == counts(KETTLES, "brand")
    many = " AND ".join(f"attributes.a{n} = 1" for n in range(MOST_NARROWED + 1))
    for n in range(MOST_NARROWED + 1):
        ITEMS[0]["attributes"][f"a{n}"] = 1
    narrow = Index.create(tmp_path / "narrow", catalog_of(ITEMS[:2]))
    with pytest.raises(ValueError, match="the filter narrows 11 fields; disjunctive facets take at most 10"):
        narrow.search("kettle", where=many, facets=["brand"], disjunctive=True)
    shell = CliRunner()
    line = ["search", str(index.store.path), "kettle", "--where", BRAND, "--facet", "brand", "--disjunctive", "--json"]
    assert json.loads(shell.invoke(app, line).stdout)["facets"] == answer["facets"]
    with pytest.raises(ValueError, match="--disjunctive says how facets are counted; give --facets"):
        shell.invoke(app, [*line[:5], "--disjunctive"], catch_exceptions=False)
