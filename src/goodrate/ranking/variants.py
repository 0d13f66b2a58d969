"""One result for all variants of a thing: its best-ranked one, with what distinguishes the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from goodrate.catalog.normal_form import normal_text
from goodrate.ranking.item_values import check_name, item_value
from goodrate.ranking.results import Result, Variant
from goodrate.ranking.title_groups import title_group

UNGROUPED = "none"  # in place of a name: the index's own grouping is not wanted
GROUP_COLUMNS = ("parent_id", "title", "brand", "category")
MAX_VARIANTS = 50  # listed with a result
MAX_DIFFERING = 8  # attributes listed with a variant
GroupOf = Callable[[Mapping[str, Any]], Hashable]


def check_group_by(name: str) -> None:
    """ValueError unless items can be grouped by it."""
    if name != UNGROUPED:
        check_name(name, (*GROUP_COLUMNS, UNGROUPED), "group_by")


def group_of(name: str, language: str) -> GroupOf:
    """What says which group an item (as it is shown) is in; None for one that stands alone.

    name: a column, attributes.NAME, or title for titles that are equal but for colour, size and count (title_group). An
    item without parent_id is in the group of its own id, so a parent is with its children. language: of title_group.
    """
    if name == "title":
        return lambda item: title_group(item, item["attributes"], language)
    if name == "parent_id":
        return lambda item: item.get("parent_id") or item["id"]
    return lambda item: _comparable(item_value(item, name))


def grouped(results: Iterable[Result], group: GroupOf) -> list[list[Result]]:
    """The results by group, in the order of the first of each; none is lost."""
    groups: dict[Hashable, list[Result]] = {}
    for place, result in enumerate(results):
        key = group(result.item)
        groups.setdefault((place,) if key is None else (None, key), []).append(result)
    return list(groups.values())


def one_result(members: Sequence[Result]) -> Result:
    """The first of a group with the others as its variants."""
    if len(members) == 1:
        return members[0]
    items = [member.item for member in members[: MAX_VARIANTS + 1]]
    names = differing_attributes([item["attributes"] for item in items])
    variants = tuple(
        Variant(
            item["id"], item["title"], item.get("price"), item.get("image") or "",
            {name: item["attributes"][name] for name in names if name in item["attributes"]},
        )
        for item in items[1:]
    )  # fmt: skip
    return replace(members[0], variants=variants, variant_count=len(members) - 1)


def differing_attributes(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of attributes whose values are not the same in all items: those that most have first, then those with the
    fewest values (a colour before an article number), at most MAX_DIFFERING.

    >>> differing_attributes([{"ean": "1", "colour": "red", "feet": 4}, {"ean": "2", "colour": "blue", "feet": 4}])
    ['colour', 'ean']
    """
    held: dict[str, list[str]] = {}
    for attributes in items:
        for name, value in attributes.items():
            held.setdefault(name, []).append(json.dumps(value, sort_keys=True))
    differing = [name for name, values in held.items() if len(values) < len(items) or len(set(values)) > 1]
    return sorted(differing, key=lambda name: (-len(held[name]), len(set(held[name])), name))[:MAX_DIFFERING]


def _comparable(value: Any) -> Hashable:
    """A value to group by; None for an empty one."""
    if isinstance(value, list):
        return tuple(sorted(normal_text(str(one)) for one in value)) or None
    return None if value is None else normal_text(str(value)) or None
