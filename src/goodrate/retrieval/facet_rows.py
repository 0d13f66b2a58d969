"""Which rows of an open index a search matches, and the facet table that knows their values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from goodrate.retrieval import full_text
from goodrate.retrieval.facet_table import FacetTable
from goodrate.retrieval.filter_columns import IndexColumns
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.opened import OpenedIndex
from goodrate.retrieval.table import id_condition


class FacetRows:
    """Row numbers of the engine, (K,) uint64. They hold for one version of the index: what a row number does not name
    any more, FacetTable.found does not find. Safe from many threads.
    """

    def __init__(self, opened: OpenedIndex) -> None:
        self._opened, self._lock = opened, threading.Lock()
        self._held: FacetTable | None = None
        self._columns = IndexColumns(self.table)

    def table(self) -> FacetTable:
        """The values of all items, read again when the index has another version."""
        with self._lock:
            self._held = self._opened.read(self._read)
            return self._held

    def _read(self, table: Any) -> FacetTable:
        version = (self._opened.manifest.id, table.version)
        held = self._held
        return held if held is not None and held.version == version else FacetTable.read(table, version, held)

    def of_text(self, query: str, where: str | None, most: int) -> np.ndarray:
        """The items that share a word with the query and that `where` lets through; the best `most` of them."""
        if not any(sign.isalnum() for sign in query):
            return np.array([], dtype=np.uint64)
        words = full_text.words(query)
        return self._of(lambda table: table.search(words), filter_sql(where, self._columns), most)

    def of_ids(self, ids: Sequence[str], where: str | None) -> np.ndarray:
        """The items with these ids, some hundreds, that `where` lets through."""
        if not ids:
            return np.array([], dtype=np.uint64)
        condition, named = filter_sql(where, self._columns), id_condition(list(ids))
        return self._of(lambda table: table.search(), f"{condition} AND {named}" if condition else named, len(ids))

    def of_filter(self, where: str) -> np.ndarray:
        """The items that `where` lets through; none has an attribute that the index does not know."""
        return self._of(lambda table: table.search(), filter_sql(where, self._columns.forgiving), None)

    def _of(self, start: Callable[[Any], Any], condition: str | None, most: int | None) -> np.ndarray:
        """The rows of a search, filtered before the top is taken."""

        def read(table: Any) -> np.ndarray:
            query = start(table).with_row_id(True).select(["price"])
            query = query.where(condition, prefilter=True) if condition else query
            limit = max(table.count_rows(), 1) if most is None else most
            rows: np.ndarray = query.limit(limit).to_arrow()["_rowid"].to_numpy()
            return rows

        return self._opened.read(read)
