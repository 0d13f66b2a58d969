"""An invented shop of kettles and lamps for the tests of the page: brands, colours, prices, pictures, variants."""

from __future__ import annotations

import json

import polars as pl

BRANDS = ("Brumm", "Zorvo", "Mel & Quist", "O'Dare")
COLOURS = ("red", "blue", "steel")
FINISHES = ("matt", "gloss", "satin", "brushed", "polished", "hammered", "enamel", "bare", "waxed", "etched")
PICTURES = "https://pictures.example"


def kettle(number: int) -> dict[str, object]:
    """A kettle of its own; prices from 10.50 on, each once, in no order."""
    brand = BRANDS[min(number % 7, 3)]
    return {
        "id": f"k{number:02d}",
        "title": f"{brand} kettle {number:02d}",
        "brand": brand,
        "category": "Home > Kitchen > Kettles" if number % 2 else "Home > Travel",
        "price": 10.5 + number * 29 % 61,
        "rating": (number * 7 % 21) / 10 + 3 if number % 5 else None,
        "currency": "EUR",
        "image": f"{PICTURES}/{number}.svg" if number % 4 else "",
        "parent_id": "",
        "attributes": json.dumps({"colour": COLOURS[number % 3], "finish": FINISHES[number % 10]}),
    }


def lamp(number: int, colour: str) -> dict[str, object]:
    """One of the colours of one lamp."""
    return {
        **kettle(number),
        "id": f"l{number}",
        "title": f"Desk lamp Ovo {colour}",
        "brand": "Ovo",
        "category": "Home > Lighting",
        "parent_id": "ovo",
        "image": "",
        "attributes": json.dumps({"colour": colour}),
    }


KETTLES = [kettle(number) for number in range(45)]
FRAME = pl.DataFrame([*KETTLES, *(lamp(50 + place, colour) for place, colour in enumerate(COLOURS))])
