"""What a click ranker reads of the impressions of a log: rows of the catalogue, and search and judge for every pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from goodrate.catalog.impressions import Impressions
from goodrate.models.encoder import Encoder
from goodrate.ranking.ranker_features import (
    FeatureSet,
    ItemFeatures,
    item_features,
    pair_features,
    query_ids,
    sparse_features,
    unknown_items,
)
from goodrate.relevance.facts import FactBook
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.query_notes import QueryNotes
from goodrate.retrieval.indexing import ItemEncoder
from goodrate.retrieval.manifest import encoder_place
from goodrate.retrieval.query_encoder import SingleQueryEncoder
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.search_words import SearchWords
from goodrate.retrieval.store import Store

SEARCHED = 100  # hits of a query whose scores are read
KEPT_PAIRS = 500_000  # whose scores are remembered, of a stream
FACTS = "facts.jsonl"
Progress = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Pairs:
    """Numbers of search and judge of the pairs of a log. keys: query * items + item, rising. rows: (P, len(of_pairs)),
    NaN for what is not told.
    """

    keys: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class LogFeatures:
    """All that is read of N impressions of a log: row r is that of impression r.

    query: ids (Q,) of the log's queries. catalog: features of its items, known: whether the catalogue holds them (I,).
    """

    features: FeatureSet
    log: Impressions
    query: np.ndarray
    catalog: ItemFeatures
    known: np.ndarray
    pairs: Pairs

    def sparse(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids (B, S) and whether each is there, of impressions (B,)."""
        return sparse_features(self.query[self.log.query[rows]], self.catalog, self.log.item[rows], self.features)

    def dense(self, rows: np.ndarray) -> np.ndarray:
        """Numbers (B, F) of impressions (B,), NaN for what is not told."""
        return np.concatenate([self.of_pairs(rows), self.catalog.dense[self.log.item[rows]]], axis=1)

    def of_pairs(self, rows: np.ndarray) -> np.ndarray:
        """Their numbers of search and judge (B, len(of_pairs))."""
        keys = pair_keys(self.log)[rows]
        return self.pairs.rows[np.searchsorted(self.pairs.keys, keys)]


def pair_keys(log: Impressions) -> np.ndarray:
    """Which query and item each impression (N,) is of."""
    return log.query.astype(np.int64) * len(log.items) + log.item


class PairReader:
    """Searches an index and asks a judge for the pairs of a log; each query and pair once, over all calls."""

    def __init__(
        self,
        store: Store,
        features: FeatureSet,
        judge: CalibratedJudge | None = None,
        encoder: ItemEncoder | None = None,
        as_typed: bool = False,
    ) -> None:
        """encoder: of the index's vectors; None = words alone. as_typed: as Searcher."""
        self._store, self._features, self._judge = store, features, judge
        self._searcher = Searcher(store, encoder, as_typed=as_typed, words=SearchWords.load(store.path))
        self._found: dict[tuple[str, str], np.ndarray] = {}
        self._items: tuple[int, dict[str, int], ItemFeatures] | None = None  # of a version of the index

    def read(self, log: Impressions, progress: Progress = lambda record: None) -> LogFeatures:
        """Features of all impressions of a log."""
        place, own = self._catalog()
        rows = np.asarray([place.get(item, -1) for item in log.items], dtype=np.int64)
        known = rows >= 0
        missing = unknown_items([item for item, here in zip(log.items, known, strict=True) if not here], self._features)
        order = np.argsort(np.argsort(~known, kind="stable"), kind="stable")  # those that are there stand first
        joined = _picked(_joined(_picked(own, rows[known]), missing), order)
        keys = np.unique(pair_keys(log))
        numbers = self._pairs(log, keys, known, progress)
        return LogFeatures(self._features, log, query_ids(log.queries), joined, known, Pairs(keys, numbers))

    def forget(self, most: int = KEPT_PAIRS) -> None:
        """Keep the newest pairs alone where more are known: of a log without end."""
        if len(self._found) > most:
            self._found = dict(list(self._found.items())[-most // 2 :])

    def _catalog(self) -> tuple[dict[str, int], ItemFeatures]:
        """The index's items as they are: where each stands, and their features."""
        version = self._store.version
        if self._items is None or self._items[0] != version:
            catalog = self._store.all_items()
            place = {item: row for row, item in enumerate(catalog.ids)}
            self._items = version, place, item_features(catalog.frame, self._features)
        return self._items[1:]

    def _pairs(self, log: Impressions, keys: np.ndarray, known: np.ndarray, progress: Progress) -> np.ndarray:
        """The numbers of each pair (P, len(of_pairs))."""
        numbers = np.full((len(keys), len(self._features.of_pairs)), np.nan)
        query, item = np.divmod(keys, len(log.items))
        bounds = [*np.flatnonzero(np.diff(query, prepend=-1)).tolist(), len(keys)]
        for done, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False), start=1):
            text = log.queries[query[start]]
            names = [log.items[i] for i in item[start:end]]
            new = [n for n, i in zip(names, item[start:end], strict=True) if (text, n) not in self._found and known[i]]
            if new and numbers.shape[1]:
                self._found |= zip([(text, name) for name in new], self._of_query(text, new), strict=True)
                progress({"queries": done, "of": len(bounds) - 1})
            for row, name in enumerate(names, start=start):
                numbers[row] = self._found.get((text, name), np.nan)
        return numbers

    def _of_query(self, query: str, items: Sequence[str]) -> np.ndarray:
        """Search and judge of items of the catalogue for one query."""
        read = self._searcher.read(query)
        hits = {hit.item_id: hit for hit in self._searcher.find(read, SEARCHED)} if self._features.channels else {}
        verdicts = []
        if self._judge is not None:
            asked = query if read.typed or read.correction is None else read.correction.text
            verdicts = self._judge.judge(asked, self._store.items(list(items)).to_dicts())
        return pair_features([hits.get(item) for item in items], verdicts, self._features)


def pair_reader(
    index: str, features: FeatureSet, judge: CalibratedJudge | None, facts: str | None = None
) -> PairReader:
    """What reads pairs of an index folder with its own encoder. The judge is told the index's facts of queries.

    Raises FileNotFoundError when there is no index, ValueError when its encoder cannot be opened, and for a judge that
    reads retrieved texts.
    """
    if judge is not None and judge.contexts:
        raise ValueError(f"judge {judge.name} reads retrieved texts, which a click ranker's training does not give it")
    store = Store.open(index)
    encoder = None
    if store.fingerprint is not None and store.manifest.encoder is not None:
        place = encoder_place(store.path, store.manifest.encoder)
        encoder = SingleQueryEncoder(Encoder.load(place, precision="auto", longest=store.dimension))
    path = Path(facts) if facts else store.path / FACTS
    if judge is not None and judge.notes is None and path.is_file():
        judge = replace(judge, notes=QueryNotes(FactBook.load(path).of))
    return PairReader(store, features, judge, encoder)


def _joined(first: ItemFeatures, second: ItemFeatures) -> ItemFeatures:
    """Both, one behind the other."""
    ids = {name: np.concatenate([first.ids[name], second.ids[name]]) for name in first.ids}
    known = {name: np.concatenate([first.known[name], second.known[name]]) for name in first.known}
    return ItemFeatures(ids, known, np.concatenate([first.dense, second.dense]))


def _picked(items: ItemFeatures, rows: np.ndarray) -> ItemFeatures:
    """Those of these rows."""
    ids = {name: values[rows] for name, values in items.ids.items()}
    known = {name: values[rows] for name, values in items.known.items()}
    return ItemFeatures(ids, known, items.dense[rows])
