"""What a generator is told of a catalogue's item: values of attributes, what it is, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goodrate.catalog.items import PATH_SEPARATOR
from goodrate.catalog.normal_form import normal_text
from goodrate.strict_json import parse


def item_caption(item: Mapping[str, Any], attributes: Sequence[str] = ()) -> str:
    """One line in normal form: values, the last level of the category or else the title, "by" the brand.

    item: a row of a catalogue. attributes: the names whose values are told, in this order; none = all that it has.

    >>> item_caption({"title": "Lima 12 Kettle", "brand": "Zib", "attributes": '{"color":"red","lid":true}'}, ["color"])
    'red lima 12 kettle by zib'
    """
    held = item.get("attributes") or {}
    values = parse(held) if isinstance(held, str) else held
    told = [_words(values[name]) for name in (attributes or values) if name in values]
    kind = str(item.get("category") or "").split(PATH_SEPARATOR)[-1] or str(item.get("title") or "")
    maker = [f"by {item['brand']}"] if item.get("brand") else []
    return normal_text(" ".join([*told, kind, *maker]))


def _words(value: Any) -> str:
    """A value as text; a list as its values in order; yes and no are no words of a picture."""
    if value is None or isinstance(value, bool):
        return ""
    return " ".join(map(_words, value)) if isinstance(value, list) else str(value)
