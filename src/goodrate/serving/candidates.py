"""What a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class CandidateSearch(Protocol):
    """What the pipeline needs of `retrieval.search.Searcher`."""

    def find(self, read: Any, k: int, where: str | None = None, mode: str = "hybrid") -> list[Any]:
        """FusedHit(item_id, score, rank, channels, excluded) of the best k for a query that was read, best first."""
        ...

    def read(self, query: str, ignore: Sequence[str] = ()) -> Any:
        """QueryReading of the query: what is searched for, its correction and constraints."""
        ...

    def suggest(self, typed: str, k: int) -> list[Any]:
        """Suggestions (text, kind, results) for what was typed so far."""
        ...


class ItemStore(Protocol):
    """What the pipeline needs of `retrieval.store.Store`."""

    def items(self, ids: Sequence[str]) -> Any:
        """A polars frame with the item columns, in the order of ids. Raises ValueError for an unknown id."""
        ...

    def images(self) -> Any:
        """A polars series: the pictures' addresses of the items that have one."""
        ...

    @property
    def version(self) -> int:
        """Another one after every change."""
        ...

    def __len__(self) -> int:
        """How many items the index holds."""
        ...
