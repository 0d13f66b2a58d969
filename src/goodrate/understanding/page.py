"""A page that shows some texts with their entities and who found each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TEMPLATE = Path(__file__).with_name("page.html")


def parts(text: str, found: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The text in pieces, entities (in order, none over another) with their type and origin."""
    end = 0
    for entity in found:
        if entity["start"] > end:
            yield {"text": text[end : entity["start"]], "type": "", "by": ""}
        yield {"text": text[entity["start"] : entity["end"]], "type": entity["type"], "by": entity["by"]}
        end = entity["end"]
    if end < len(text):
        yield {"text": text[end:], "type": "", "by": ""}


def shown(table: pl.DataFrame, texts: Mapping[tuple[str, str], str], most: int) -> list[dict[str, Any]]:
    """`most` of the texts that have entities, from all over the table. texts: (id, field) -> text."""
    places = table.select("id", "field").unique(maintain_order=True)
    drawn = places[np.linspace(0, max(len(places) - 1, 0), min(most, len(places))).round().astype(np.int64)]
    own = table.join(drawn, on=["id", "field"], how="semi", maintain_order="left")
    grouped = own.partition_by("id", "field", maintain_order=True)
    keys = [(part["id"][0], part["field"][0]) for part in grouped]
    return [{"id": key[0], "parts": list(parts(texts[key], part.to_dicts()))}
            for key, part in zip(keys, grouped, strict=True)]  # fmt: skip


def html_page(items: list[dict[str, Any]], about: str, types: Sequence[str] = ()) -> str:
    """The page of what `shown` gave; every text is escaped. types: in whose order the colours are given."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    hues = {name: round(360 * place / max(len(types), 1)) for place, name in enumerate(types)}
    return template.render(items=items, about=about, hues=hues)
