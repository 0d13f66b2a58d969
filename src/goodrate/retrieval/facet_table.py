"""All values of an index in memory, dictionary-encoded: what filters and facets know of brands, categories, attributes.

Read from the table's entries (tags.item_tags) whenever the index has another version, so it is never older than the
search that asks for it. What an attribute's values are, numbers or texts, is decided from the values that are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from goodrate.retrieval.tags import ATTRIBUTES, SIGN, bucket, number_and_unit, split_entries

NUMBERS = 0.95  # share of an attribute's values that must be numbers, of one unit, for it to be a number
COLUMNS = ("price", "rating")
FEW = 5  # of the items at most one in so many is read anew; for more, all are


class Terms:
    """The distinct values of one field, in ascending order.

    values: (V,) in the normal form. shown: (V,) as most items spell them. counts: (V,) items. label: the field's name
    as most items spell it.
    """

    def __init__(self, values: pl.Series, shown: pl.Series, counts: np.ndarray, label: str) -> None:
        self.values, self.shown, self.counts, self.label = values, shown, counts, label

    @cached_property
    def _read(self) -> list[tuple[float, str] | None]:
        return [number_and_unit(value) for value in self.values.to_list()]

    @cached_property
    def numbers(self) -> np.ndarray:
        """(V,) each value as a number, NaN for what is none."""
        return np.array([found[0] if found else np.nan for found in self._read], dtype=np.float64)

    @cached_property
    def buckets(self) -> tuple[list[str], np.ndarray]:
        """The distinct buckets (tags.bucket) of the numbers, and (V,) which of them each value is in, -1 for none."""
        names = pl.Series([bucket(found[0]) if found else None for found in self._read], dtype=pl.String)
        distinct = names.unique().drop_nulls().sort()
        places = names.replace_strict(distinct, range(len(distinct)), default=-1, return_dtype=pl.Int64)
        return distinct.to_list(), places.to_numpy()

    @cached_property
    def units(self) -> set[str]:
        """The units of the values, without "" for none."""
        return {found[1] for found in self._read if found and found[1]}

    @cached_property
    def type(self) -> type:
        """bool where all are true or false; float where NUMBERS of the items' values are numbers with at most one unit
        ("15 inch", "17 inch"); str otherwise.
        """
        if self.values.is_in(["true", "false"]).all():
            return bool
        share = self.counts[~np.isnan(self.numbers)].sum() / max(self.counts.sum(), 1)
        return float if share >= NUMBERS and len(self.units) <= 1 else str


class Dictionary:
    """What distinct entries mean: the term of each, terms ordered by name and value.

    entries: entry, label (the name as it was read), spelling, code; ordered by name, value and spelling. terms: name,
    value, by code.
    """

    def __init__(self, entries: pl.Series) -> None:
        parts = pl.col("entry").str.splitn(SIGN, 2)
        split = split_entries(entries).with_columns(label=parts.struct[0], spelling=parts.struct[1])
        split = split.sort("name", "value", "spelling", "label")
        self.entries = split.select("entry", "label", "spelling", code=pl.struct("name", "value").rle_id())
        self.codes = self.entries["code"].to_numpy().astype(np.int64)
        self.terms = split.select("name", "value").unique(maintain_order=True)

    def places(self, entries: pl.Series) -> np.ndarray | None:
        """Where entries (E,) stand in `entries`; None when one of them does not."""
        known = self.entries.select("entry").with_row_index("place")
        found = entries.alias("entry").to_frame().join(known, on="entry", how="left", maintain_order="left")["place"]
        return None if found.has_nulls() else found.to_numpy().astype(np.int64)


class FacetTable:
    """The entries of N items, each item's side by side, and the T terms that they mean.

    version: of the index, which another one replaces. rows: (N,) uint64, ascending, how the engine names the items.
    starts: (N + 1,) where each item's entries begin. places: (M,) where each entry stands in the dictionary. columns:
    price and rating of the items, (N,), NaN for unknown. codes: (M,) the term of each entry, ascending within an item.
    fields: name -> its first term and the one after its last.
    """

    def __init__(
        self, version: object, rows: np.ndarray, starts: np.ndarray, places: np.ndarray, dictionary: Dictionary,
        columns: Mapping[str, np.ndarray],
    ) -> None:  # fmt: skip
        self.version, self.rows, self.starts, self.places, self.columns = version, rows, starts, places, columns
        self.dictionary = dictionary
        self.codes = dictionary.codes[places]
        self.occurrences = np.bincount(places, minlength=len(dictionary.codes))
        names = dictionary.terms["name"].rle()
        lengths = names.struct.field("len").to_numpy().astype(np.int64)
        ends = np.cumsum(lengths).tolist()
        self.fields = dict(zip(names.struct.field("value").to_list(), zip([0, *ends], ends, strict=False), strict=True))
        self.name_of_code = np.repeat(np.arange(len(names)), lengths)
        self._terms: dict[str, Terms] = {}

    @classmethod
    def read(cls, table: Any, version: object, before: FacetTable | None = None) -> FacetTable:
        """All items of a LanceDB table. before: an older reading, whose items are not read again where that is less."""
        continued = before and before._continued(table, version)
        if continued:
            return continued
        rows, columns, lists = _scan(table, ["facets"])
        lengths, distinct, raw = _encoded(lists["facets"])
        dictionary = Dictionary(distinct)
        places = dictionary.places(distinct)
        assert places is not None
        return cls(version, rows, _starts(lengths), places[raw], dictionary, columns)

    def _continued(self, table: Any, version: object) -> FacetTable | None:
        """The table with the items that are there now; None when too many are new, or have, or had, a value of their
        own.
        """
        rows, columns, _ = _scan(table, [])
        old, known = self._found(rows)
        new = rows[~known]
        if len(new) * FEW > len(rows):
            return None
        lists = table.take_row_ids(new.tolist()).select(["facets"]).to_arrow()["facets"]
        fresh_lengths, distinct, raw = _encoded(lists)
        of_distinct = self.dictionary.places(distinct)
        if len(lists) < len(new) or of_distinct is None:
            return None
        lengths = np.zeros(len(rows), dtype=np.int64)
        lengths[known] = self.starts[old + 1] - self.starts[old]
        lengths[~known] = fresh_lengths
        starts = _starts(lengths)
        places = np.empty(starts[-1], dtype=self.places.dtype)
        places[_spans(starts[:-1][known], lengths[known])] = self.places[_spans(self.starts[old], lengths[known])]
        places[_spans(starts[:-1][~known], fresh_lengths)] = of_distinct[raw]
        made = FacetTable(version, rows, starts, places, self.dictionary, columns)
        return made if made.occurrences.all() else None

    def field(self, name: str) -> Terms | None:
        """The values of a field, such as "brand" or "attributes.color"; None for one that no item has."""
        if name not in self.fields:
            return None
        if name not in self._terms:
            self._terms[name] = self._counted(*self.fields[name])
        return self._terms[name]

    def _counted(self, start: int, end: int) -> Terms:
        """The terms of one field: of their spellings, and of the field's, those of most items."""
        code = self.dictionary.entries["code"]
        first, last = code.search_sorted(start), code.search_sorted(end)
        entries = self.dictionary.entries[first:last].with_columns(items=pl.Series(self.occurrences[first:last]))
        common = entries.sort("items", descending=True, maintain_order=True)
        terms = common.group_by("code").agg(pl.col("spelling").first(), pl.col("items").sum()).sort("code")
        labels = common.group_by("label", maintain_order=True).agg(pl.col("items").sum())
        label = labels.sort("items", descending=True, maintain_order=True)["label"][0]
        values = self.dictionary.terms["value"][start:end]
        return Terms(values, terms["spelling"], terms["items"].to_numpy(), label)

    @cached_property
    def attributes(self) -> list[str]:
        """The names of all attributes, without "attributes."."""
        return [name.removeprefix(ATTRIBUTES) for name in self.fields if name.startswith(ATTRIBUTES)]

    def found(self, rows: np.ndarray) -> tuple[np.ndarray, bool]:
        """Where items (K,) stand in this table, ascending and without repetition; and whether all of them do."""
        places, known = self._found(np.unique(rows.astype(self.rows.dtype)))
        return places, bool(known.all())

    def _found(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where those of ascending rows (K,) stand that do, and (K,) which ones those are."""
        places = np.searchsorted(self.rows, rows)
        known = places < len(self.rows)
        known[known] = self.rows[places[known]] == rows[known]
        return places[known], known

    def codes_of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The codes of items at places (K,), and for each code which of the K it belongs to."""
        lengths = self.starts[places + 1] - self.starts[places]
        return self.codes[_spans(self.starts[places], lengths)], np.repeat(np.arange(len(places)), lengths)


def _scan(table: Any, lists: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
    """Row numbers, ascending, COLUMNS as floats, and the arrow table with other columns, of all items."""
    query = table.search().with_row_id(True).select([*lists, *COLUMNS])
    found = query.limit(max(table.count_rows(), 1)).to_arrow().sort_by("_rowid")
    columns = {name: found[name].to_numpy().astype(np.float64) for name in COLUMNS}
    return found["_rowid"].to_numpy(), columns, found


def _encoded(lists: Any) -> tuple[np.ndarray, pl.Series, np.ndarray]:
    """An arrow column of lists of texts: their lengths, the distinct texts, and which of them each text is."""
    lists = lists.combine_chunks()
    encoded = lists.flatten().dictionary_encode()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    distinct = pl.Series(encoded.dictionary, dtype=pl.String)
    return lengths, distinct, encoded.indices.to_numpy(zero_copy_only=False)


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where spans of these lengths begin one after the other, and where the last ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers starts[i] to starts[i] + lengths[i] - 1 of every i, one after the other.

    >>> _spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    return np.arange(lengths.sum()) + np.repeat(starts - _starts(lengths)[:-1], lengths)
