"""What a search finds: hits with their catalogue rows, a first window of them and more when they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from goodrate.retrieval.facets import AUTO, NOT_COUNTED, Facets
from goodrate.retrieval.filter_parts import without_own
from goodrate.serving.records import IndexUnavailable, SearchRequest
from goodrate.serving.stopwatch import Stopwatch

WINDOWS = (100, 1000)  # hits, in all, that are looked at after the first ones
ATTEMPTS = 3  # at a search whose items are removed before they are read
Found = tuple[list[Any], list[dict[str, Any]]]  # hits and their rows


class CandidateSearch(Protocol):
    """What the pipeline needs of `retrieval.search.Searcher`."""

    def find(self, read: Any, k: int, where: str | None = None, mode: str = "hybrid") -> list[Any]:
        """FusedHit(item_id, score, rank, channels, excluded) of the best k for a query that was read, best first."""
        ...

    def condition(self, read: Any, where: str | None = None) -> str | None:
        """The filter under which `find` searches: `where`, and the price that the query names."""
        ...

    def read(self, query: str, ignore: Sequence[str] = ()) -> Any:
        """QueryReading of the query: what is searched for, its correction and constraints."""
        ...

    def suggest(self, typed: str, k: int) -> list[Any]:
        """Suggestions (text, kind, results) for what was typed so far."""
        ...

    def facets(
        self, read: Any, asked: Sequence[str], where: str | None, mode: str, hits: Sequence[Any],
        without: Sequence[Any] = (),
    ) -> Any:  # fmt: skip
        """The Facets of a search that found these hits. without: lists of ids, and filters, of items to leave out."""
        ...


@runtime_checkable
class WeighedSearch(Protocol):
    """What weights that follow clicks need besides."""

    def features(self, query: str, channels: Sequence[str], where: str | None = None) -> tuple[list[str], Any]:
        """Ids (K,) and what each channel says of them (K, C)."""
        ...


class ItemStore(Protocol):
    """What the pipeline needs of `retrieval.store.Store`."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """What a filter may name."""
        ...

    def items(self, ids: Sequence[str]) -> Any:
        """A polars frame with the item columns, in the order of ids. Raises ValueError for an unknown id."""
        ...

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        """Those of these ids that the index holds and a filter lets through."""
        ...

    def __len__(self) -> int:
        """How many items the index holds."""
        ...

    @property
    def version(self) -> int:
        """Another one after every change."""
        ...

    def images(self) -> Any:
        """A polars series: the pictures' addresses of the items that have one."""
        ...


class Candidates:
    """The hits of one search in an order that does not depend on how many of them are wanted.

    A search for more hits may order the first ones anew, because its channels look deeper. So each search gives what
    those before it have not found, behind them, and how many hits each asks for is settled at the start.
    """

    def __init__(
        self, searcher: CandidateSearch, store: ItemStore, request: SearchRequest, read: Any, sizes: Iterable[int],
        watch: Stopwatch,
    ) -> None:  # fmt: skip
        """read: the request's query. sizes: hits in all after each search, ascending."""
        self._searcher, self._store, self._request, self._read, self._watch = searcher, store, request, read, watch
        self._sizes = list(sizes)
        self._window = self._sizes[0]
        self._first: list[Any] = []  # what the first search found
        self._waiting: list[Any] = []
        self._given: set[str] = set()

    @property
    def found(self) -> int:
        """How many hits there are so far."""
        return len(self._given) + len(self._waiting)

    @property
    def given(self) -> int:
        """How many of them were given."""
        return len(self._given)

    @property
    def complete(self) -> bool:
        """Whether all there are were given."""
        return not self._sizes and not self._waiting

    def more(self, count: int) -> Found:
        """The next hits, at most `count`, and their rows. Raises IndexUnavailable.

        Searched again when items were removed before they were read. None may come although there are more.
        """
        searches = [] if self._waiting else self._sizes[:1]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with unavailable():
                    if searches:
                        self._search(searches[0])
                    rows = self._rows([hit.item_id for hit in self._waiting[:count]])
                break
            except IndexUnavailable:
                if attempt == ATTEMPTS:
                    raise
                searches = searches or [len(self._given) + len(self._waiting)]
        hits, self._waiting = self._waiting[:count], self._waiting[count:]
        self._given.update(hit.item_id for hit in hits)
        return hits, rows

    def _search(self, size: int) -> None:
        """Find so many hits, of which those that were not given wait."""
        with self._watch.stage("retrieve"):
            hits = self._searcher.find(self._read, size, self._request.where, str(self._request.mode))
        self._first = self._first or hits
        self._waiting = [hit for hit in hits if hit.item_id not in self._given]
        self._sizes = [larger for larger in self._sizes if larger > size and len(hits) == size]

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of those of these items that the index holds and the search's filter lets through, in their order.

        Raises IndexUnavailable.
        """
        there = self.matching(ids, self._searcher.condition(self._read, self._request.where)) if ids else set()
        with unavailable():
            return self._rows([item for item in ids if item in there])

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        """Those of these ids that the index holds and a filter lets through. Raises IndexUnavailable."""
        with self._watch.stage("rules"), unavailable():
            return self._store.matching(ids, where)

    def facets(self, without: Sequence[Any]) -> Any:
        """The Facets that the request asks for, None for none; no page changes them. without: lists of ids, and
        filters, of items to leave out. Raises IndexUnavailable.

        Those that ignore their own conditions are counted as a search without these would count them, and say over how
        many items ("counted"); AUTO has all of them.
        """
        asked, where, mode = self._request.facets, self._request.where, str(self._request.mode)
        if not asked:
            return None
        with self._watch.stage("facets"), unavailable():
            counts = self._searcher.facets(self._read, asked, where, mode, self._first, without)
            for field, rest in without_own(where).items() if self._request.disjunctive else ():
                if (AUTO in asked and field not in NOT_COUNTED) or field in asked:
                    hits = self._searcher.find(self._read, self._window, rest, mode)
                    counts = _with(counts, self._searcher.facets(self._read, [field], rest, mode, hits, without))
        return counts

    def _rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The catalogue rows of these ids, in their order."""
        with self._watch.stage("items"):
            return self._store.items(ids).to_dicts() if ids else []


def _with(counts: Facets, own: Facets) -> Facets:
    """The facets with others, each in the place of the one with its name, or behind them."""
    fresh = {facet["name"]: {**facet, "counted": own.counted} for facet in own.facets}
    kept = [fresh.pop(facet["name"], facet) for facet in counts.facets]
    return replace(counts, facets=[*kept, *fresh.values()], complete=counts.complete and own.complete)


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Name what is wrong with the index; what was asked was checked before."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise IndexUnavailable(f"the index cannot be searched: {error}") from error
