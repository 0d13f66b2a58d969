"""All values of an index in memory, dictionary-encoded: what filters and facets know of brands, categories, attributes.

Read from the table's entries (tags.item_tags) whenever the index has another version, so it is never older than the
search that asks for it. What an attribute's values are, numbers or texts, is decided from the values that are there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from goodrate.retrieval.tags import ATTRIBUTES, SIGN, bucket, number_and_unit, split_entries

if TYPE_CHECKING:
    from goodrate.retrieval.opened import OpenedIndex

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
    def buckets(self) -> list[str]:
        """(V,) the bucket (tags.bucket) of each number, "" for what is none."""
        return [bucket(found[0]) if found else "" for found in self._read]

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


class FacetTable:
    """The entries of N items as codes of T terms, each item's codes side by side.

    version: of the index, which another one replaces. rows: (N,) uint64, ascending, how the engine names the items.
    starts: (N + 1,) where each item's codes begin. codes: (M,) ascending within an item. terms: name, value, shown and
    label by code, ordered by name and value. columns: price and rating of the items, (N,), NaN for unknown.
    """

    def __init__(
        self, version: object, rows: np.ndarray, starts: np.ndarray, codes: np.ndarray, terms: pl.DataFrame,
        columns: Mapping[str, np.ndarray],
    ) -> None:  # fmt: skip
        self.version, self.rows, self.starts, self.codes, self.columns = version, rows, starts, codes, columns
        self.terms = terms
        names = terms["name"].rle()
        ends = names.struct.field("len").cum_sum().to_list()
        self.fields = dict(zip(names.struct.field("value").to_list(), zip([0, *ends], ends, strict=False), strict=True))
        self.name_of_code = np.repeat(np.arange(len(names)), names.struct.field("len").to_numpy())
        self._terms: dict[str, Terms] = {}

    @classmethod
    def read(cls, table: Any, version: object) -> FacetTable:
        """All items of a LanceDB table."""
        query = table.search().with_row_id(True).select(["facets", *COLUMNS])
        found = query.limit(max(table.count_rows(), 1)).to_arrow().sort_by("_rowid")
        lists = found["facets"].combine_chunks()
        encoded = lists.flatten().dictionary_encode()
        entries = pl.Series(encoded.dictionary, dtype=pl.String)
        raw = encoded.indices.to_numpy(zero_copy_only=False)
        terms, of_entry = _terms(entries, np.bincount(raw, minlength=len(entries)))
        starts = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))])
        columns = {name: found[name].to_numpy().astype(np.float64) for name in COLUMNS}
        return cls(version, found["_rowid"].to_numpy(), starts, of_entry[raw], terms, columns)

    def field(self, name: str) -> Terms | None:
        """The values of a field, such as "brand" or "attributes.color"; None for one that no item has."""
        if name not in self.fields:
            return None
        if name not in self._terms:
            start, end = self.fields[name]
            part = self.terms[start:end]
            best = part.sort("label_count", descending=True, maintain_order=True)["label"][0]
            self._terms[name] = Terms(part["value"], part["shown"], part["count"].to_numpy(), best)
        return self._terms[name]

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


def _terms(entries: pl.Series, counts: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
    """The terms of distinct entries with their counts, ordered by name and value; and the code of each entry."""
    split = split_entries(entries).with_columns(pl.Series("n", counts)).with_columns(
        label=pl.col("entry").str.split(SIGN).list.first(), spelling=pl.col("entry").str.splitn(SIGN, 2).struct[1],
        entry_code=pl.int_range(pl.len()),
    )  # fmt: skip
    assert len(split) == len(entries), "an entry without a name or a value"
    split = split.with_columns(label_count=pl.col("n").sum().over("name", "label"))
    ordered = split.sort(
        ["name", "value", "n", "spelling"], descending=[False, False, True, False]
    )  # the first of a term is the spelling that most items have
    terms = ordered.group_by("name", "value", maintain_order=True).agg(
        shown=pl.col("spelling").first(), label=pl.col("label").first(), label_count=pl.col("label_count").first(),
        count=pl.col("n").sum(),
    )  # fmt: skip
    coded = ordered.with_columns(code=pl.struct("name", "value").rle_id()).sort("entry_code")
    return terms, coded["code"].to_numpy().astype(np.int64)


class LatestFacets:
    """The facet table of an open index, read again when the index has another version. Safe from many threads."""

    def __init__(self, opened: OpenedIndex) -> None:
        self._opened, self._lock = opened, threading.Lock()
        self._held: FacetTable | None = None

    def current(self) -> FacetTable:
        """The table of the index as it is now."""
        with self._lock:
            self._held = self._opened.read(self._of)
            return self._held

    def _of(self, table: Any) -> FacetTable:
        version = (self._opened.manifest.id, table.version)
        held = self._held
        return held if held is not None and held.version == version else FacetTable.read(table, version)
