"""The search pipeline: retrieve, judge the top, put into tiers, rank, and say for every result how it got there."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import Item
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.opened import IndexReplaced
from goodrate.retrieval.rewriting.spelling import Correction
from goodrate.retrieval.table import IndexDamaged

MODES = ("hybrid", "lexical", "dense")
ACTING = ("not", "price")  # kinds of spans that change results
ATTEMPTS = 3  # at a search whose items are removed before they are read
# An unjudged item is unknown: it stands above what the judge called Bad and below what it called Good or Mid.
TIER_ORDER: dict[str | None, int] = {"Good": 3, "Mid": 2, None: 1, "Bad": 0}


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

    def __len__(self) -> int:
        """How many items the index holds."""
        ...


@dataclass(frozen=True)
class SearchRequest:
    """One search. k: results wanted. mode: None = the best that the index has.

    depth: how many of the retrieved items the judge sees; 0 = none. ignore: ids of spans (SearchResponse.spans) that
    are to be plain words.
    """

    query: str
    k: int = 20
    where: str | None = None
    mode: str | None = None
    depth: int = 50
    ignore: tuple[str, ...] = ()


class UnknownItem(LookupError):
    """An item id that the index does not hold."""


class IndexUnavailable(ValueError):
    """The index on disk cannot be searched, for no fault of the request."""


class NoJudge(LookupError):
    """A verdict was asked for and no judge is loaded."""


@dataclass(frozen=True)
class Result:
    """One result. score and retrieval_rank are those of retrieval; channels: rank, score and share of each channel.

    excluded: the item has what the query asks to be without, and retrieval put it behind others for that.
    """

    rank: int
    item: dict[str, Any]
    retrieval_rank: int
    score: float
    channels: dict[str, dict[str, float | int]]
    verdict: Verdict | None
    excluded: bool = False

    def __str__(self) -> str:
        tier = f"{self.verdict.tier or 'unjudged':9s}" if self.verdict else ""
        price = "" if self.item.get("price") is None else f"  {self.item['price']:,.2f}"
        return f"{self.rank:3d}  {tier}{self.item['title']}{price}"


@dataclass(frozen=True)
class SearchResponse:
    """Results in their final order and how they came about. latency_ms: by stage, with "total".

    spans: what was read in the query as an exclusion or a price (retrieval.query_constraints.Span). correction: the
    query as it was probably meant, None when nothing is wrong; corrected: that was searched for in place of the query.
    """

    request: SearchRequest
    results: list[Result]
    retrieved: int
    judged: int
    cached: int
    failed: int
    latency_ms: dict[str, float] = field(default_factory=dict)
    spans: tuple[Any, ...] = ()
    correction: Correction | None = None
    corrected: bool = False

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, place: int) -> Result:
        return self.results[place]

    def __str__(self) -> str:
        """One line a result: rank, tier where there is one, title and price."""
        return "\n".join(str(result) for result in self.results) or "no results"


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + 1000 * (time.perf_counter() - start)

    def report(self) -> dict[str, float]:
        """All stages and the total since the start."""
        return {**self.stages, "total": 1000 * (time.perf_counter() - self._start)}


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
            results = rank(hits, [_shown(row) for row in rows], verdicts)[: request.k]
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


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item for JSON: attributes read, and a price or rating that is not a finite number given as none."""
    numbers = {name: row[name] if _finite(row[name]) else None for name in ("price", "rating")}
    return {**row, **numbers, "attributes": json.loads(row["attributes"] or "{}")}


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def rank(hits: Sequence[Any], items: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> list[Result]:
    """Results by tier, then those without what the query excludes, then expected gain, then retrieval rank.

    hits: K, best first. items: K, same order. verdicts: one for each of the first hits. An item without a label (not
    judged, or failed) has no gain and keeps its retrieval order among its like.
    """
    by_item = [*verdicts, *[None] * (len(hits) - len(verdicts))]

    def key(position: int) -> tuple[int, bool, float, int]:
        verdict = by_item[position]
        gain = verdict.expected_gain if verdict is not None and verdict.expected_gain is not None else 0.0
        return -TIER_ORDER[verdict.tier if verdict else None], hits[position].excluded, -gain, position

    order = sorted(range(len(hits)), key=key)
    return [
        Result(
            rank=place,
            item=dict(items[position]),
            retrieval_rank=position + 1,
            score=float(hits[position].score),
            channels={name: _part(part) for name, part in hits[position].channels.items()},
            verdict=by_item[position],
            excluded=hits[position].excluded,
        )
        for place, position in enumerate(order, start=1)
    ]


def _part(part: Any) -> dict[str, float | int]:
    """What one retrieval channel gave: its rank and raw score, and its share of the fused score (0..1)."""
    return {"rank": int(part.rank), "score": float(part.score), "share": float(part.share)}
