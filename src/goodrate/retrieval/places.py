"""Where the items that were found lately lie in the table: reading them there spares a look at the id of every item."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from goodrate.retrieval.opened import OpenedIndex

MOST = 10_000  # items of which it is kept


class Places:
    """Row numbers of the engine by id. They are checked against the ids that lie there, as every write moves and
    removes some, so an old one costs time and never a wrong item. Safe from many threads.
    """

    def __init__(self, opened: OpenedIndex) -> None:
        self._opened = opened
        self._of: dict[str, int] = {}

    def note(self, ids: Sequence[str], rows: Sequence[int]) -> None:
        """These items were found there."""
        if len(self._of) >= MOST:
            self._of = {}
        self._of.update(zip(ids, rows, strict=True))

    def read(self, columns: list[str], ids: Sequence[str]) -> pl.DataFrame | None:
        """Columns, id among them, of different items, in no particular order.

        None when one was not found lately, or does not lie there any more.
        """
        known = self._of
        rows = [known[item] for item in ids if item in known]
        if not rows or len(rows) < len(ids):
            return None
        found = self._opened.read(lambda table: table.take_row_ids(rows).select(columns).to_arrow())
        frame = pl.DataFrame(found).select(columns)
        return frame if sorted(frame["id"].to_list()) == sorted(ids) else None
