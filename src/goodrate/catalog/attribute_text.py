"""Attributes of items as compact JSON objects: text that other text is found in, without parsing what is in form."""

from __future__ import annotations

from typing import Any

import polars as pl

from goodrate.strict_json import compact, parse

# One name and value of a compact JSON object: a quoted text, a list, or a bare number or word.
TEXT = r'"(?:[^"\\]|\\.)*"'
PAIR = rf'{TEXT}:(?:{TEXT}|\[(?:{TEXT}|[^\]"])*\]|[^,"\[\]{{}}]+)'

# What json.dumps writes by default, empty values, and anything that is no object: parsed before the patterns fit.
_LOOSE = r'": |\\u|^[^{]|[^}]$|^\{ |, "|" [:,]|\n|":(null|""|\[\])'


def compact_attributes(attributes: pl.Series) -> pl.Series:
    """JSON objects (texts or structs) without empty values and spaces, letters as they are, as read_catalog has them.

    Only those that need it are parsed. Raises ValueError with the offending text when one is no JSON object.
    """
    attributes = attributes.struct.json_encode() if isinstance(attributes.dtype, pl.Struct) else attributes
    loose = attributes.str.contains(_LOOSE).fill_null(False)
    if not loose.any():
        return attributes
    compact_texts = {text: compact_object(text) for text in attributes.filter(loose).unique()}
    return attributes.replace(compact_texts)


def compact_object(text: str) -> str:
    """One JSON object in compact form, without nulls, empty texts and empty lists. Raises ValueError when it is none.

    >>> compact_object('{"color": "red", "size": null, "tags": []}')
    '{"color":"red"}'
    """
    value = parse(text, f"attributes {text[:60]!r}")
    if not isinstance(value, dict):
        raise ValueError(f"attributes {text[:60]!r} are not a JSON object")
    return compact({name: inner for name, inner in value.items() if inner not in (None, "", [])})


def merged_objects(own: pl.Series, more: pl.Series) -> pl.Series:
    """Compact JSON objects row by row as one; where both have a name with other values, its value is the list of both.

    >>> merged_objects(pl.Series(['{"color":"red"}']), pl.Series(['{"color":"blue","size":"M"}'])).to_list()
    ['{"color":["red","blue"],"size":"M"}']
    """
    pairs = zip(own, more, strict=True)
    merged = [one if other == "{}" else other if one == "{}" else _merged(one, other) for one, other in pairs]
    return pl.Series(own.name, merged, dtype=pl.String)


def _merged(one: str, other: str) -> str:
    values = parse(one)
    for name, value in parse(other).items():
        before = values.get(name, value)
        values[name] = before if before == value else [*_listed(before), *_listed(value)]
    return compact(values)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
