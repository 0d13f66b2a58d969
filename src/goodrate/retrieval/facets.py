"""Facets: how many of a search's items have which brand, category, price and attributes, with a filter for each value.

Everything is counted from a FacetTable with arrays; the filters are written in the language of retrieval.filters, and
a filter lets through exactly the items that were counted for its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from goodrate.catalog.items import PATH_SEPARATOR
from goodrate.retrieval.facet_table import COLUMNS, FacetTable, Terms
from goodrate.retrieval.filter_columns import Column, IndexColumns, literal, written
from goodrate.retrieval.filters import field_name
from goodrate.retrieval.identifiers import ATTRIBUTES as IDENTIFIERS
from goodrate.retrieval.number_ranges import edges_of
from goodrate.retrieval.tags import ATTRIBUTES, ROOT

AUTO = "auto"
ALWAYS = ("brand", "category", "price")  # of AUTO, where any item has one
SPLITTING = 5  # attributes of AUTO
VALUES, NODES = 10, 30  # that a facet shows
LONGEST = 200  # signs of a value that is shown
NOT_COUNTED = ("id", "title", "parent_id")  # hardly two items have the same
Facet = dict[str, Any]


@dataclass(frozen=True)
class Facets:
    """The facets of one search, as JSON has them. counted: items that they are counted over. complete: whether these
    are all that match; False where only the best of very many were taken.
    """

    facets: list[Facet]
    counted: int
    complete: bool


def checked_names(asked: Sequence[str], columns: Mapping[str, Column]) -> tuple[str, ...]:
    """What is asked for, as fields are named; AUTO stays. Raises ValueError with the nearest names for another one."""
    names = tuple(dict.fromkeys(one if one == AUTO else _name(one) for one in asked))
    for name in names:
        if name == AUTO or (name in columns and name not in NOT_COUNTED):
            continue
        near = columns.nearest(name) if isinstance(columns, IndexColumns) and name not in columns else []
        own = ", ".join(one for one in columns if one not in NOT_COUNTED)
        hint = f"the nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"no facet {name!r}; {hint}accepted: {AUTO}, {own}, attributes.NAME")
    return names


def _name(asked: str) -> str:
    """A field however it is typed: the quotes of a filter may stay away, a name cannot be taken for more here."""
    head, point, rest = asked.partition(".")
    quoted = rest if rest.startswith('"') or not rest else '"' + rest.replace('"', '""') + '"'
    return field_name(head + point + quoted)


def count_facets(table: FacetTable, places: np.ndarray, asked: Sequence[str], complete: bool = True) -> Facets:
    """The facets asked for (checked_names) of the items at these places (K,) of the table."""
    counted = _Counted(table, places)
    names: list[str] = []
    for name in asked:
        names += counted.auto if name == AUTO else [name]
    return Facets([counted.facet(name) for name in dict.fromkeys(names)], len(places), complete)


class _Counted:
    """Items of a table and how often each term occurs among them."""

    def __init__(self, table: FacetTable, places: np.ndarray) -> None:
        self.table, self.places = table, places
        self.codes, self.owners = table.codes_of(places)
        self.counts = np.bincount(self.codes, minlength=len(table.name_of_code))

    @cached_property
    def auto(self) -> list[str]:
        """ALWAYS, and the attributes that split the items best: sum over the values that would be shown of -p log2 p.

        p: the share of the items that have the value. Values of one item, and identifiers, split nothing.
        """
        table = self.table
        names = [name for name in ALWAYS if self._has(name)]
        attribute = np.array([_splits(name) for name in table.fields], dtype=bool)
        chosen = np.flatnonzero((self.counts > 1) & attribute[table.name_of_code])
        chosen = chosen[np.lexsort((chosen, -self.counts[chosen], table.name_of_code[chosen]))]
        of_name = table.name_of_code[chosen]
        rank = np.arange(len(chosen)) - np.searchsorted(of_name, of_name)
        chosen, of_name = chosen[rank < VALUES], of_name[rank < VALUES]
        share = self.counts[chosen] / max(len(self.places), 1)
        bits = np.bincount(of_name, weights=-share * np.log2(share), minlength=len(table.fields))
        best = [int(place) for place in np.argsort(-bits, kind="stable")[:SPLITTING] if bits[place] > 1e-9]
        fields = list(table.fields)
        return [*names, *(fields[place] for place in best)]

    def _has(self, name: str) -> bool:
        """Whether any of the items has a value of a field."""
        if name in COLUMNS:
            return bool(np.isfinite(self.table.columns[name][self.places]).any())
        start, end = self.table.fields.get(name, (0, 0))
        return bool(self.counts[start:end].any())

    def facet(self, name: str) -> Facet:
        """One facet."""
        if name in COLUMNS:
            values = self.table.columns[name][self.places]
            return self._ranges(name, _label(name), values, np.arange(len(values)), several=False)
        terms = self.table.field(name)
        if terms is None:
            return {"name": written(name), "label": _label(name), "kind": "values", "values": [], "others": 0}
        start, end = self.table.fields[name]
        counts = self.counts[start:end]
        if name == "category":
            return self._tree(terms, counts)
        if name.startswith(ATTRIBUTES) and terms.type is float and np.count_nonzero(counts) > VALUES:
            return self._number_facet(name, terms)
        return _values(name, terms, counts)

    def _number_facet(self, name: str, terms: Terms) -> Facet:
        """Ranges of an attribute, whose items may have several numbers."""
        start, end = self.table.fields[name]
        own = (self.codes >= start) & (self.codes < end)
        numbers, owners = terms.numbers[self.codes[own] - start], self.owners[own]
        several = len(np.unique(owners)) < len(owners)
        facet = self._ranges(name, _label(terms.label), numbers, owners, several)
        return {**facet, "unit": next(iter(terms.units), "")}

    def _ranges(self, name: str, label: str, numbers: np.ndarray, owners: np.ndarray, several: bool) -> Facet:
        """Ranges from a bound up to, and without, the next. several: an item may have more than one number."""
        finite = np.isfinite(numbers)
        numbers, owners = numbers[finite], owners[finite]
        edges = edges_of(numbers)
        places = np.searchsorted(edges, numbers, side="right") - 1
        pairs = np.unique(np.stack([places, owners]), axis=1) if several else np.stack([places, owners])
        counts = np.bincount(pairs[0].astype(np.int64), minlength=max(len(edges) - 1, 0))
        values = [
            {"from": _plain(edges[i]), "to": _plain(edges[i + 1]), "count": int(counts[i]),
             "where": _range_filter(name, edges[i], edges[i + 1], several)}
            for i in np.flatnonzero(counts)
        ]  # fmt: skip
        return {"name": written(name), "label": label, "kind": "ranges", "values": values, "others": 0}

    def _tree(self, terms: Terms, counts: np.ndarray) -> Facet:
        """The paths of categories with most items, each after the one above it; of siblings the larger first."""
        root_start, root_end = self.table.fields[ROOT]
        is_root = terms.values.is_in(self.table.dictionary.terms["value"][root_start:root_end].implode())
        is_node = (terms.values.str.contains(PATH_SEPARATOR, literal=True) | is_root).to_numpy()
        nodes = np.flatnonzero(is_node & (counts > 0))
        lengths = terms.values.str.count_matches(PATH_SEPARATOR, literal=True).to_numpy()
        best = nodes[np.lexsort((nodes, lengths[nodes], -counts[nodes]))][:NODES]
        paths = {terms.values[int(place)]: int(place) for place in best}

        def place_in_tree(path: str) -> list[tuple[int, str]]:
            parts = path.split(PATH_SEPARATOR)
            above = [PATH_SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts))]
            return [(-int(counts[paths[one]]) if one in paths else 0, one) for one in above]

        ordered = [paths[path] for path in sorted(paths, key=place_in_tree)]
        values = [_node(terms.shown[place], int(counts[place])) for place in ordered]
        others = len(nodes) - len(best)
        return {"name": "category", "label": "Category", "kind": "tree", "values": values, "others": others}


def _node(path: str, count: int) -> Facet:
    depth = path.count(PATH_SEPARATOR)
    where = f"category = {literal(path)}"
    return {"value": path.split(PATH_SEPARATOR)[-1], "path": path, "depth": depth, "count": count, "where": where}


def _values(name: str, terms: Terms, counts: np.ndarray) -> Facet:
    """The values that most items have; numbers in their order."""
    present = np.flatnonzero(counts)
    short = present[(terms.shown.str.len_chars() <= LONGEST).to_numpy()[present]]
    best = short[np.argsort(-counts[short], kind="stable")][:VALUES]
    if terms.type is float:
        best = best[np.argsort(terms.numbers[best], kind="stable")]
    shown = [(terms.shown[int(place)], int(counts[place])) for place in best]
    values = [
        {"value": value, "count": count, "where": f"{written(name)} = {_as_typed(value, terms)}"}
        for value, count in shown
    ]
    label, others = _label(terms.label), len(present) - len(best)
    return {"name": written(name), "label": label, "kind": "values", "values": values, "others": others}


def _as_typed(value: str, terms: Terms) -> str:
    return value.upper() if terms.type is bool else literal(value)


def _range_filter(name: str, low: float, high: float, several: bool) -> str:
    """The filter of one range. Of several numbers one must lie in it, which two comparisons do not say."""
    if several:
        return f"{written(name)} BETWEEN {_plain(low)} AND {_plain(np.nextafter(high, -np.inf))}"
    return f"{written(name)} >= {_plain(low)} AND {written(name)} < {_plain(high)}"


def _plain(number: float) -> int | float:
    """A number as JSON and filters write it: whole ones without a fraction."""
    return int(number) if float(number).is_integer() and abs(number) < 1e15 else float(number)


def _label(name: str) -> str:
    """A field's name for people.

    >>> _label("brand"), _label("attributes.screen_size")
    ('Brand', 'Screen size')
    """
    bare = name[len(ATTRIBUTES) :] if name.lower().startswith(ATTRIBUTES) else name
    words = " ".join(bare.replace("_", " ").split())
    return words[:1].upper() + words[1:]


def _splits(name: str) -> bool:
    """Whether AUTO may choose a field: an attribute that is no identifier."""
    bare = name.removeprefix(ATTRIBUTES)
    return bare != name and bare.replace(" ", "_").replace("-", "_") not in IDENTIFIERS
