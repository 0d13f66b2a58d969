"""A value of an item by its name: a column, or an attribute as attributes.NAME."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

ATTRIBUTE = "attributes."


def check_name(name: str, columns: Collection[str], option: str) -> None:
    """ValueError unless it is one of the columns or names an attribute. option: what was given, for the message."""
    if name not in columns and not (name.startswith(ATTRIBUTE) and len(name) > len(ATTRIBUTE)):
        raise ValueError(f"{option} {name!r}: expected {', '.join(columns)} or {ATTRIBUTE}NAME")


def item_value(item: Mapping[str, Any], name: str) -> Any:
    """What an item as it is shown (its attributes a mapping) holds; None for nothing."""
    if name.startswith(ATTRIBUTE):
        return item["attributes"].get(name.removeprefix(ATTRIBUTE))
    return item.get(name)


def number(value: Any) -> float | None:
    """The value as a finite number, None when it is none; a text such as "2.5" is read."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except ValueError:
        return None
    return read if math.isfinite(read) else None
