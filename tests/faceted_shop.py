"""An invented catalogue with attributes of every kind, and what filters and facets should say of it."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import normal_text
from goodrate.strict_json import compact

COLOURS = ["Red", "red", "RED", "Blue", "Sea green"]
BRANDS = ["HP", "hp", "\uff28\uff30", "Dell", "Kira | HP", ""]
CATEGORIES = [
    "Home > Lighting > Lamps", "Home > Lighting", "Home > Kitchen", "Garden > Lighting", "Office",
    "Home > Kitchen | Garden > Tools", "",
]  # fmt: skip


def made_items(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Items whose titles say "kettle" or "stool", words that no other field has."""
    draw = random.Random(seed)

    def maybe(value: Any) -> Any:
        return value if draw.random() < 0.8 else None

    return [
        {
            "id": f"i{number:04d}",
            "title": f"{draw.choice(['kettle', 'stool'])} {number}",
            "brand": draw.choice(BRANDS),
            "category": draw.choice(CATEGORIES),
            "price": maybe(round(draw.lognormvariate(4, 1), 2)),
            "rating": maybe(draw.randint(1, 5) * 1.0),
            "attributes": {
                "Colour": maybe(draw.sample(COLOURS, 2) if draw.random() < 0.3 else draw.choice(COLOURS)),
                "screen size": maybe(f"{draw.choice([13, 15, 15.6, 17])} inch"),
                "Sizes": maybe(sorted(draw.sample(range(36, 47), draw.randint(1, 3)))),
                "weight": maybe(round(draw.uniform(0, 30), 3)),
                "wireless": maybe(draw.random() < 0.5),
                "ean": f"40161387{number:05d}",
                "fits": maybe(draw.choice(["A4", "A5", 4])),
            },
        }
        for number in range(count)
    ]  # fmt: skip


def catalog_of(items: list[dict[str, Any]]) -> Catalog:
    """The items as a catalogue."""
    known = [{name: value for name, value in item["attributes"].items() if value is not None} for item in items]
    rows = [{**item, "attributes": compact(own)} for item, own in zip(items, known, strict=True)]
    return Catalog(pl.DataFrame(rows))


def values(item: dict[str, Any], field: str) -> set[str]:
    """The values of a field in the normal form; those of a category are its paths from the root on, and its parts."""
    if field == "brand":
        return {normal_text(one) for one in item["brand"].split(" | ") if one}
    if field == "category":
        paths = [path.split(" > ") for path in item["category"].split(" | ") if path]
        starts = {" > ".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
        return {normal_text(one) for one in starts | {part for path in paths for part in path}}
    found = next((v for n, v in item["attributes"].items() if f"attributes.{normal_text(n)}" == field), None)
    entries = found if isinstance(found, list) else [] if found is None else [found]
    return {normal_text(f"{one:g}" if isinstance(one, float) else str(one)) for one in entries}


def counts(items: list[dict[str, Any]], field: str) -> Counter[str]:
    """Value -> items that have it."""
    return Counter(value for item in items for value in values(item, field))


def numbers(item: dict[str, Any], field: str) -> list[float]:
    """The numbers of a field."""
    if field in ("price", "rating"):
        return [] if item[field] is None else [item[field]]
    return [float(value.split()[0]) for value in values(item, field)]
