"""The search pipeline: retrieve, judge the top, put into tiers, rank, and say for every result how it got there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from goodrate.ranking.results import rank, shown_item
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Item
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.opened import IndexReplaced
from goodrate.retrieval.table import IndexDamaged
from goodrate.serving.candidates import CandidateSearch, ItemStore
from goodrate.serving.records import IndexUnavailable, NoJudge, SearchRequest, SearchResponse, UnknownItem
from goodrate.serving.stopwatch import Stopwatch

MODES = ("hybrid", "lexical", "dense")
ACTING = ("not", "price")  # kinds of spans that change results
ATTEMPTS = 3  # at a search whose items are removed before they are read


class SearchPipeline:
    """Search over one index, with or without a judge. Safe to call from many threads.

    Models are called under one lock: torch uses all threads for one call already, and fast tokenizers refuse to be
    used by two threads at once ("Already borrowed").
    """

    def __init__(
        self,
        store: ItemStore,
        searcher: CandidateSearch,
        judge: CalibratedJudge | None = None,
        modes: Sequence[str] = MODES,
    ) -> None:
        """modes: those that the index supports, the default first."""
        self.store = store
        self.judge = judge
        self.modes = tuple(modes)
        self._searcher = searcher
        self.models = threading.Lock()

    def search(self, request: SearchRequest) -> SearchResponse:
        """Retrieve max(k, depth) items, judge the first `depth`, rank all, return k. Ties: retrieval rank.

        Raises ValueError for an empty query, an unknown mode or a wrong filter, IndexUnavailable when the index fails.
        """
        request = self._checked(request)
        watch = Stopwatch()
        depth = request.depth if self.judge is not None else 0
        with self._locked(watch):
            with watch.stage("retrieve"):
                read = self._searcher.read(request.query, request.ignore)
            hits, rows = self._retrieved(request, read, max(request.k, depth), watch)
            meant = request.query if read.typed else read.correction.text
            with watch.stage("judge"):
                verdicts = self._verdicts(meant, rows[:depth])
        with watch.stage("rank"):
            results = rank(hits, [shown_item(row) for row in rows], verdicts)[: request.k]
        return SearchResponse(
            request,
            results,
            retrieved=len(hits),
            judged=sum(verdict.label is not None for verdict in verdicts),
            cached=sum(verdict.cached for verdict in verdicts),
            failed=sum(verdict.label is None for verdict in verdicts),
            latency_ms=watch.report(),
            spans=tuple(span for span in read.constraints.spans if span.kind in ACTING) if read.constraints else (),
            correction=read.correction,
            corrected=not read.typed,
        )

    def suggest(self, typed: str, k: int) -> list[Any]:
        """Suggestions for what was typed so far, at most k; none for an index without them."""
        return self._searcher.suggest(typed, k)

    def search_once(self, query: str) -> None:
        """Retrieve one item and forget it: what is set up on first use is then set up."""
        with self.models:
            self._searcher.find(self._searcher.read(query), 1, mode=self.modes[0])

    def judge_items(self, query: str, items: Sequence[Item]) -> list[Verdict]:
        """Verdicts for items that need not be in the index. Raises NoJudge without a judge."""
        judge = self.need_judge()
        with self.models:
            return judge.judge(query, items)

    def explain(self, query: str, item: Item) -> Verdict:
        """A verdict with its reason. Raises NoJudge without a judge."""
        judge = self.need_judge()
        with self.models:
            return judge.judge(query, [item], reasons=True)[0]

    def count(self) -> int:
        """How many items the index holds. Raises IndexUnavailable when it cannot be read."""
        try:
            return len(self.store)
        except (ValueError, OSError, RuntimeError) as error:
            raise IndexUnavailable(f"the index cannot be read: {error}") from error

    def item(self, item_id: str) -> Item:
        """The row of an item. Raises UnknownItem, and IndexUnavailable when the index cannot be read."""
        try:
            return self._rows([item_id])[0]
        except (IndexDamaged, IndexReplaced, OSError) as error:
            raise IndexUnavailable(f"the index cannot be read: {error}") from error
        except ValueError as error:
            raise UnknownItem(f"no item {item_id!r} in the index") from error

    def _checked(self, request: SearchRequest) -> SearchRequest:
        """The request with its mode filled in."""
        mode = request.mode or self.modes[0]
        if not request.query.strip():
            raise ValueError("query is empty")
        if mode not in self.modes:
            raise ValueError(f"mode {mode!r} is not one of those of this index: {', '.join(self.modes)}")
        filter_sql(request.where)
        if request.k < 1 or request.depth < 0:
            raise ValueError(f"k is {request.k} and depth {request.depth}; expected k >= 1 and depth >= 0")
        return replace(request, mode=mode)

    def need_judge(self) -> CalibratedJudge:
        """The judge. Raises NoJudge when none is loaded."""
        if self.judge is None:
            raise NoJudge("this server has no judge; start it with: goodrate serve DIR --model JUDGE")
        return self.judge

    @contextlib.contextmanager
    def _locked(self, watch: Stopwatch) -> Iterator[None]:
        """Hold the model lock; the wait for other requests is a stage of its own."""
        with watch.stage("wait"):
            self.models.acquire()
        try:
            yield
        finally:
            self.models.release()

    def _retrieved(
        self, request: SearchRequest, read: Any, k: int, watch: Stopwatch
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        """The best k hits and their catalogue rows; searched again when some were removed in between."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with watch.stage("retrieve"):
                    hits = self._searcher.find(read, k, request.where, str(request.mode))
                with watch.stage("items"):
                    return hits, self._rows([hit.item_id for hit in hits])
            except (ValueError, OSError) as error:  # the request itself was checked before
                if attempt == ATTEMPTS:
                    raise IndexUnavailable(f"the index cannot be searched: {error}") from error
        raise AssertionError("unreachable")

    def _rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The catalogue rows of these ids, in their order."""
        return self.store.items(ids).to_dicts() if ids else []

    def _verdicts(self, query: str, rows: Sequence[Item]) -> list[Verdict]:
        return self.judge.judge(query, rows) if self.judge is not None and rows else []
