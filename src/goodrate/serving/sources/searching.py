"""A source of candidates in the place of an index: what the pipeline needs of a searcher and of a store."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.retrieval.facets import Facets
from goodrate.retrieval.search import QueryReading
from goodrate.serving.sources.protocol import Candidate, CandidateSource, item_rows

KEPT, KEPT_SECONDS = 20_000, 60.0  # rows of documents that were found lately, so that they are not asked for twice
COUNT_SECONDS = 10.0  # how old the number of documents may be


@dataclass(frozen=True)
class Part:
    """What the engine gave: its rank and score, and all of the result's place before it was judged."""

    rank: int
    score: float
    share: float = 1.0


@dataclass(frozen=True)
class SourceHit:
    """A candidate, as the pipeline reads hits."""

    item_id: str
    score: float
    rank: int
    channels: dict[str, Part]
    excluded: bool = False


class SourceStore:
    """The items of a source: a bounded number of rows that were found lately, and the engine for the others."""

    version = 1  # what is kept grows old by itself

    def __init__(self, source: CandidateSource, columns: Mapping[str, str]) -> None:
        """columns: item column -> field of the engine's documents."""
        self._source, self._mapped = source, columns
        self._kept: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()
        self._counted: tuple[float, int] | None = None
        self._lock = threading.Lock()

    @property
    def columns(self) -> Mapping[str, Any]:
        """None: filters are the engine's own business."""
        return {}

    def keep(self, candidates: Sequence[Candidate]) -> None:
        """Note the documents of a search. Raises ValueError for one without a title."""
        if not candidates:
            return
        made = list(item_rows(candidates, self._mapped, self._source.name))
        frame = pl.DataFrame([{**row, "attributes": None} for row in made], schema=ITEM_COLUMNS)
        texts = pl.Series("attributes", [_json(row["attributes"]) for row in made], dtype=pl.String)
        rows = Catalog(frame.with_columns(texts)).to_rows()
        now = time.monotonic()
        with self._lock:
            for row in rows:
                self._kept.pop(row["id"], None)
                self._kept[row["id"]] = (now, row)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        """Rows in the order of ids. Raises ValueError for an id that the engine does not have."""
        rows = self._lately(ids)
        missing = [one for one in dict.fromkeys(ids) if one not in rows]
        if missing:
            self.keep(list({one.id: one for one in self._source.fetch(missing)}.values()))
            rows |= self._lately(missing)
        unknown = [one for one in ids if one not in rows]
        if unknown:
            raise ValueError(f"{len(unknown)} of {len(ids)} ids are not in {self._source.name}, such as {unknown[0]!r}")
        return pl.DataFrame([rows[one] for one in ids], schema=ITEM_COLUMNS)

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        """Those of these ids that the engine has."""
        known = set(self._lately(ids))
        missing = [one for one in ids if one not in known]
        return known | {one.id for one in (self._source.fetch(missing) if missing else [])}

    def images(self) -> pl.Series:
        """None: a page would have to trust whatever hosts the engine's documents name."""
        return pl.Series([], dtype=pl.String)

    def __len__(self) -> int:
        now = time.monotonic()
        if self._counted is None or now - self._counted[0] > COUNT_SECONDS:
            self._counted = (now, self._source.count())
        return self._counted[1]

    def _lately(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        oldest = time.monotonic() - KEPT_SECONDS
        with self._lock:
            found = {one: self._kept[one] for one in ids if one in self._kept}
        return {one: row for one, (at, row) in found.items() if at >= oldest}


class SourceSearcher:
    """Searches of a source. Queries go to the engine as they were typed; corrections and the like are its own."""

    def __init__(self, source: CandidateSource, store: SourceStore) -> None:
        self._source, self._store = source, store

    def read(self, query: str, ignore: Sequence[str] = ()) -> QueryReading:
        """The query as it stands."""
        return QueryReading(query)

    def condition(self, read: QueryReading, where: str | None = None) -> str | None:
        """No filter."""
        return None

    def find(self, read: QueryReading, k: int, where: str | None = None, mode: str = "") -> list[SourceHit]:
        """The engine's best, whose documents the store keeps for what follows."""
        found = self._source.search(read.text, min(k, self._source.most))
        distinct = list({one.id: one for one in found}.values())
        self._store.keep(distinct)
        return [
            SourceHit(one.id, one.score, rank, {self._source.name: Part(rank, one.score)})
            for rank, one in enumerate(distinct, start=1)
        ]

    def suggest(self, typed: str, k: int) -> list[Any]:
        """None."""
        return []

    def facets(
        self, read: QueryReading, asked: Sequence[str], where: str | None, mode: str, hits: Sequence[Any],
        without: Sequence[Any] = (),
    ) -> Facets:  # fmt: skip
        """None: the engine's documents are not counted."""
        return Facets([], 0, complete=False)


def _json(attributes: Mapping[str, Any]) -> str:
    return json.dumps(attributes, ensure_ascii=False, default=str)
