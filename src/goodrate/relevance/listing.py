"""The item as the judge reads it: one line of typed fields, so that a value can be found by its name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_DESCRIPTION = 300  # characters; a judge reads fields, the description only rounds them off


def listing(row: Mapping[str, Any], maybe: str = "") -> str:
    """One line: title ; brand .. ; category .. ; price .. ; <attribute> <value> ; ... ; description.

    row: the catalogue columns of DESIGN section 7 (attributes is a JSON object or a mapping). Empty fields are left
    out; prices drop a zero fraction. The truth of a pair never depends on anything that is not in this line. maybe:
    what models fill in (catalog.rendering.maybe_texts), which stands behind the attributes.
    >>> listing({"title": "velto 3 jacket", "brand": "kira", "price": 40.0, "attributes": '{"color": "red"}'})
    'velto 3 jacket ; brand kira ; price 40 ; color red'
    """
    attributes = row.get("attributes") or {}
    named = json.loads(attributes) if isinstance(attributes, str) else attributes
    fields = [str(row.get("title") or "")]
    fields += [f"{name} {row[name]}" for name in ("brand", "category") if row.get(name)]
    if row.get("price") is not None:
        fields.append(f"price {row['price']:g}")
    fields += [f"{name} {_value(value)}" for name, value in named.items()]
    fields += [maybe] if maybe else []
    description = str(row.get("description") or "")[:MAX_DESCRIPTION]
    if description and description != fields[0]:
        fields.append(description)
    return " ".join(" ; ".join(fields).split())


def listings(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Listings of many rows, in order."""
    return [listing(row) for row in rows]


def filled_listings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Listings of many rows with what models fill in, each value behind the word "maybe".

    >>> told = '[{"attribute":"color","value":"red","confidence":0.9,"source":"probe","model":"1f"}]'
    >>> filled_listings([{"title": "lamp", "attributes": '{"arm":"long"}', "inferred_attributes": told}])
    ['lamp ; arm long ; maybe color red']
    """
    from goodrate.catalog.rendering import maybe_rows

    return [listing(row, maybe) for row, maybe in zip(rows, maybe_rows(rows), strict=True)]


def _value(value: object) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
