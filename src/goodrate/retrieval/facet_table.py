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
        self.terms = split.select("name", "value").unique(maintain_order=True)

    def places(self, entries: pl.Series) -> np.ndarray | None:
        """Where entries (E,) stand in `entries`; None when one of them does not."""
        known = self.entries.select("entry").with_row_index("place")
        found = entries.alias("entry").to_frame().join(known, on="entry", how="left", maintain_order="left")["place"]
        return None if found.has_nulls() else found.to_numpy().astype(np.int64)


class FacetTable:
    """The entries of N items as codes of T terms, each item's codes side by side.

    version: of the index, which another one replaces. rows: (N,) uint64, ascending, how the engine names the items.
    starts: (N + 1,) where each item's codes begin. codes: (M,) ascending within an item. occurrences: (E,) items with
    each entry of the dictionary. columns: price and rating of the items, (N,), NaN for unknown.
    """

    def __init__(
        self, version: object, rows: np.ndarray, starts: np.ndarray, codes: np.ndarray, dictionary: Dictionary,
        occurrences: np.ndarray, columns: Mapping[str, np.ndarray],
    ) -> None:  # fmt: skip
        self.version, self.rows, self.starts, self.codes, self.columns = version, rows, starts, codes, columns
        self.dictionary, self._occurrences = dictionary, occurrences
        names = dictionary.terms["name"].rle()
        lengths = names.struct.field("len").to_numpy().astype(np.int64)
        ends = np.cumsum(lengths).tolist()
        self.fields = dict(zip(names.struct.field("value").to_list(), zip([0, *ends], ends, strict=False), strict=True))
        self.name_of_code = np.repeat(np.arange(len(names)), lengths)
        self._terms: dict[str, Terms] = {}

    @classmethod
    def read(cls, table: Any, version: object, before: FacetTable | None = None) -> FacetTable:
        """All items of a LanceDB table. before: an older reading, whose dictionary is kept where it still fits."""
        query = table.search().with_row_id(True).select(["facets", *COLUMNS])
        found = query.limit(max(table.count_rows(), 1)).to_arrow().sort_by("_rowid")
        lists = found["facets"].combine_chunks()
        encoded = lists.flatten().dictionary_encode()
        entries = pl.Series(encoded.dictionary, dtype=pl.String)
        raw = encoded.indices.to_numpy(zero_copy_only=False)
        dictionary = before.dictionary if before is not None else Dictionary(entries)
        places = dictionary.places(entries)
        if places is None or len(places) < len(dictionary.entries):  # others came, or some are gone
            dictionary = Dictionary(entries)
            places = dictionary.places(entries)
            assert places is not None
        occurrences = np.zeros(len(places), dtype=np.int64)
        occurrences[places] = np.bincount(raw, minlength=len(places))
        codes = dictionary.entries["code"].to_numpy().astype(np.int64)[places][raw]
        starts = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))])
        columns = {name: found[name].to_numpy().astype(np.float64) for name in COLUMNS}
        return cls(version, found["_rowid"].to_numpy(), starts, codes, dictionary, occurrences, columns)

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
        entries = self.dictionary.entries[first:last].with_columns(items=pl.Series(self._occurrences[first:last]))
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

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, bool]:
        """Where items (K,) stand in this table, ascending and without repetition; and whether all of them do."""
        rows = np.unique(rows.astype(self.rows.dtype))
        places = np.searchsorted(self.rows, rows)
        there = places < len(self.rows)
        there[there] = self.rows[places[there]] == rows[there]
        return places[there], bool(there.all())

    def codes_of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The codes of items at places (K,), and for each code which of the K it belongs to."""
        lengths = self.starts[places + 1] - self.starts[places]
        owners = np.repeat(np.arange(len(places)), lengths)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.codes[self.starts[places][owners] + within], owners
