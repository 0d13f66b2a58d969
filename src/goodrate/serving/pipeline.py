"""The search pipeline: retrieve, judge the top, put into tiers, rank, and say for every result how it got there."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from goodrate.models.asker import require_asker
from goodrate.models.worker import JUDGING, ModelWorker
from goodrate.ranking.live_ranker import LiveRanker
from goodrate.ranking.ordering import Ordering
from goodrate.ranking.results import Result, rank, shown_item, unretrieved
from goodrate.ranking.rule_file import RankingRules
from goodrate.ranking.sorting import RELEVANCE, SORTED_AMONG, check_sort, relevant, sorted_results
from goodrate.ranking.variants import UNGROUPED, GroupOf, check_group_by, group_of
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.overrules import Overruling, overruled
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.facets import checked_names
from goodrate.retrieval.filter_parts import MOST_NARROWED, without_own
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.opened import IndexReplaced
from goodrate.retrieval.table import IndexDamaged
from goodrate.serving.candidates import WINDOWS, Candidates, CandidateSearch, ItemStore, WeighedSearch, unavailable
from goodrate.serving.judge_desk import JudgeDesk
from goodrate.serving.online_weights import OnlineWeights
from goodrate.serving.records import IndexUnavailable, NoJudge, SearchRequest, SearchResponse, UnknownItem
from goodrate.serving.stopwatch import Stopwatch

MODES = ("hybrid", "lexical", "dense")
Verdicts = list[Verdict | None]
ACTING = ("not", "price", "cheap")  # kinds of spans that change results; "cheap" is no word that is searched for


class SearchPipeline:
    """Search over one index, with or without a judge. Safe to call from many threads.

    Words are searched in the thread that asks. Models have turns of their own (models.worker): queries those of their
    encoder, verdicts and reasons those of the judge's desk. So a search that needs no model waits for none.
    """

    def __init__(
        self,
        store: ItemStore,
        searcher: CandidateSearch,
        judge: CalibratedJudge | None = None,
        modes: Sequence[str] = MODES,
        rules: RankingRules | None = None,
        group_by: str | None = None,
        language: str = "en",
        today: Callable[[], datetime.date] = datetime.date.today,
        judge_ms: float | None = None,
        ranker: LiveRanker | None = None,
        online: OnlineWeights | None = None,
        overrules: Overruling | None = None,
    ) -> None:
        """modes: those that the index supports, the default first. group_by: how results are grouped unless a request
        says otherwise. language: whose rules read measures in titles. today: the day by which ranking rules apply.
        judge_ms: what a search may spend on verdicts unless it says otherwise; None = no limit. ranker: orders results
        inside their tiers. online: the weights of the searcher, where clicks move them. overrules: what people say of a
        query's items in the judge's place.
        """
        self.store = store
        self.judge, self.online = judge, online
        self.modes = tuple(modes)
        self._searcher = searcher
        self._rules, self._group_by, self._language, self._today = rules or RankingRules(), group_by, language, today
        self._judge_ms, self.ranker = judge_ms, ranker
        self.desk = JudgeDesk()
        self.overrules: Overruling = overrules or (lambda query: {})

    def start(self) -> None:
        """Have each model work in a thread of its own from here on."""
        for worker in self._workers():
            worker.start()

    def stop(self) -> None:
        """End the threads of the models; a reason that is being written is broken off."""
        for worker in self._workers():
            worker.stop()

    def _workers(self) -> list[ModelWorker]:
        encoder = getattr(getattr(self._searcher, "encoder", None), "worker", None)
        return [self.desk.worker] + ([encoder] if encoder is not None else [])

    def search(self, request: SearchRequest) -> SearchResponse:
        """Retrieve max(k, depth) items or more, judge the first `depth`, order them (ranking.ordering), return k.

        Raises ValueError for an empty query, an unknown mode or a wrong filter, IndexUnavailable when the index fails.
        """
        request = self._checked(request)
        require_asker()
        watch = Stopwatch()
        depth = request.depth if self.judge is not None or self.ranker is not None else 0
        with watch.stage("retrieve"):
            read = self._searcher.read(request.query, request.ignore)
        rules = self._rules_for(request, read)
        found = Candidates(self._searcher, self.store, request, read, window_sizes(request, depth, rules), watch)
        hits, rows = found.more(first_hits(request, depth, rules))
        verdicts = self._verdicts(request, read, rows[:depth], watch)
        ordering = Ordering(rules, found.matching, self._group(request))
        with watch.stage("rank"):
            seen = self._ranked(request, read, hits[:depth], rows[:depth], verdicts)
            rest = [shown_item(row) for row in rows[depth:]]
            self._start(ordering, request, [*seen, *rank(hits[depth:], rest, (), len(seen))], found)
        while not found.complete and not ordering.has(request.offset + request.k + 1):
            require_asker()
            before = found.given
            hits, rows = found.more(WINDOWS[0])
            with watch.stage("rank"):
                ordering.add(rank(hits, [shown_item(row) for row in rows], (), before))
        facets = found.facets([rule.ids or rule.where for rule in rules.bury if rule.to == "out"])
        with watch.stage("rank"):
            results, more = ordering.page(request.offset, request.k, found.complete)
        given = [verdict for verdict in verdicts if verdict is not None]
        return SearchResponse(
            request,
            results,
            retrieved=found.found,
            judged=sum(verdict.label is not None for verdict in given),
            cached=sum(verdict.cached for verdict in given),
            failed=sum(verdict.label is None for verdict in given),
            left=len(verdicts) - len(given),
            latency_ms=watch.report(),
            spans=tuple(span for span in read.constraints.spans if span.kind in ACTING) if read.constraints else (),
            correction=read.correction,
            corrected=not read.typed,
            rules=tuple(rule.name for rule in rules.all()),
            more=more,
            facets=facets,
        )

    def _start(self, ordering: Ordering, request: SearchRequest, results: list[Result], found: Candidates) -> None:
        """Give an ordering the first results: by relevance with what is pinned, or those worth sorting, sorted."""
        if request.sort != RELEVANCE:
            ordering.start(sorted_results(relevant(results), request.sort))
            return
        pinned = found.fetch(ordering.missing_pins(results))
        ordering.start(results, [unretrieved(shown_item(row)) for row in pinned])

    def _ranked(
        self, request: SearchRequest, read: Any, hits: Sequence[Any], rows: Sequence[Item],
        verdicts: Sequence[Verdict | None],
    ) -> list[Result]:  # fmt: skip
        """The results of the first hits by tier and gain, or by what the click ranker says inside a tier."""
        items = [shown_item(row) for row in rows]
        if self.ranker is None:
            return rank(hits, items, verdicts)
        utilities = self.ranker.utilities(_asked(request, read), rows, hits, verdicts)
        return rank(hits, items, verdicts, utilities=utilities.tolist(), across_tiers=self.ranker.across_tiers)

    def _rules_for(self, request: SearchRequest, read: Any) -> RankingRules:
        """The ranking rules for a query, as it was typed or as it is searched for. Sorted results have no places."""
        if not request.with_rules:
            return RankingRules()
        rules = self._rules.for_query((request.query, read.text), self._today())
        return rules if request.sort == RELEVANCE else rules.removing()

    def _group(self, request: SearchRequest) -> GroupOf | None:
        """What says which group an item is in; None for no grouping."""
        return group_of(request.group_by, self._language) if request.group_by else None

    def features(self, query: str, channels: Sequence[str], where: str | None = None) -> tuple[list[str], Any]:
        """Ids (K,) of a hybrid search and what each channel says of them (K, C). IndexUnavailable, ValueError."""
        filter_sql(where, self.store.columns)
        assert isinstance(self._searcher, WeighedSearch), "only an index has channels to weigh"
        with unavailable():
            return self._searcher.features(query, channels, where)

    def suggest(self, typed: str, k: int) -> list[Any]:
        """Suggestions for what was typed so far, at most k; none for an index without them."""
        return self._searcher.suggest(typed, k)

    def search_once(self, query: str) -> None:
        """Retrieve one item and forget it: what is set up on first use is then set up."""
        self._searcher.find(self._searcher.read(query), 1, mode=self.modes[0])

    def judge_some(self, query: str, count: int = 8) -> None:
        """Judge the first items of a search and store nothing: how long the judge takes is known from then on."""
        if self.judge is None:
            return
        judge = replace(self.judge, store=None)
        setting_up = judge.pairs(query, ["lamp", "chair"])  # what is done on first use is not measured
        self.desk.worker.call(lambda: judge.pair_verdicts(setting_up), JUDGING)
        hits = self._searcher.find(self._searcher.read(query), count, mode=self.modes[0])
        rows = self.store.items([hit.item_id for hit in hits]).to_dicts() if hits else []
        self.desk.verdicts(judge, judge.pairs(query, rows), 60.0)

    def judge_items(self, query: str, items: Sequence[Item], ids: Sequence[str] | None = None) -> list[Verdict]:
        """Verdicts for items that need not be in the index. Raises NoJudge without a judge.

        ids: by which people's verdicts are found, "" for none; None: the items' own.
        """
        return self.judge_pairs([(query, item) for item in items], ids)

    def judge_pairs(self, asked: Sequence[tuple[str, Item]], ids: Sequence[str] | None = None) -> list[Verdict]:
        """A verdict for each (query, item), in their order. ids: as judge_items. Raises NoJudge without a judge."""
        judge, by_query = self.need_judge(), dict[str, list[int]]()
        for place, (query, _) in enumerate(asked):
            by_query.setdefault(query, []).append(place)
        pairs: dict[int, Pair] = {}
        for query, places in by_query.items():
            pairs |= zip(places, judge.pairs(query, [asked[place][1] for place in places]), strict=True)
        verdicts = self.desk.verdicts(judge, [pairs[place] for place in range(len(asked))])[0]
        named = ids or ids_of([item for _, item in asked])
        for query, places in by_query.items():
            own = self._overruled(query, [verdicts[place] for place in places], [named[place] for place in places])
            for place, verdict in zip(places, own, strict=True):
                verdicts[place] = verdict
        return whole(verdicts)

    def explain(self, query: str, item: Item) -> Verdict:
        """A verdict with its reason. Raises NoJudge without a judge."""
        judge = self.need_judge()
        by_people = self._overruled(query, [None], ids_of([item]))[0]
        if by_people is not None:  # no reason is written for a label that does not count; the judge's verdict is given
            return self.judge_items(query, [item])[0]
        return self.desk.explained(judge, judge.pairs(query, [item])[0])

    def _overruled(
        self, query: str, verdicts: Sequence[Verdict | None], ids: Sequence[str]
    ) -> Sequence[Verdict | None]:
        """The verdicts with people's in place of the judge's."""
        known = self.overrules(query)
        if not known or self.judge is None:
            return verdicts
        return overruled(verdicts, ids, known, self.judge.scale, self.judge.beta_cum)

    def count(self) -> int:
        """How many items the index holds. Raises IndexUnavailable when it cannot be read."""
        try:
            return len(self.store)
        except (ValueError, OSError, RuntimeError) as error:
            raise IndexUnavailable(f"the index cannot be read: {error}") from error

    def item(self, item_id: str) -> Item:
        """The row of an item. Raises UnknownItem, and IndexUnavailable when the index cannot be read."""
        try:
            return dict(self.store.items([item_id]).row(0, named=True))
        except (IndexDamaged, IndexReplaced, OSError) as error:
            raise IndexUnavailable(f"the index cannot be read: {error}") from error
        except ValueError as error:
            raise UnknownItem(f"no item {item_id!r} in the index") from error

    def _checked(self, request: SearchRequest) -> SearchRequest:
        """The request with its mode and grouping filled in, and its facets by their names."""
        mode, group_by = request.mode or self.modes[0], request.group_by or self._group_by
        if not request.query.strip():
            raise ValueError("query is empty")
        if mode not in self.modes:
            raise ValueError(f"mode {mode!r} is not one of those of this index: {', '.join(self.modes)}")
        try:
            filter_sql(request.where, self.store.columns)
            facets = checked_names(request.facets, self.store.columns)
            narrowed = len(without_own(request.where)) if request.disjunctive and facets else 0
        except (IndexDamaged, IndexReplaced, OSError) as error:  # it was read for its attributes
            raise IndexUnavailable(f"the index cannot be read: {error}") from error
        if narrowed > MOST_NARROWED:
            raise ValueError(f"the filter narrows {narrowed} fields; disjunctive facets take at most {MOST_NARROWED}")
        check_sort(request.sort)
        if group_by is not None:
            check_group_by(group_by)
        if request.k < 1 or request.depth < 0:
            raise ValueError(f"k is {request.k} and depth {request.depth}; expected k >= 1 and depth >= 0")
        if request.offset < 0 or (request.offset and request.offset + request.k > WINDOWS[-1]):
            raise ValueError(
                f"offset is {request.offset} and k {request.k}; expected offset >= 0, and offset + k <= {WINDOWS[-1]:,}"
            )
        judge_ms = self._judge_ms if request.judge_ms is None else request.judge_ms
        if judge_ms is not None and not judge_ms >= 0:
            raise ValueError(f"judge_ms is {judge_ms}; expected milliseconds, 0 or more")
        grouped = None if group_by == UNGROUPED else group_by
        return replace(request, mode=mode, facets=facets, group_by=grouped, judge_ms=judge_ms)

    def need_judge(self) -> CalibratedJudge:
        """The judge. Raises NoJudge when none is loaded."""
        if self.judge is None:
            raise NoJudge("this server has no judge; start it with: goodrate serve DIR --model JUDGE")
        return self.judge

    def _verdicts(self, request: SearchRequest, read: Any, rows: Sequence[Item], watch: Stopwatch) -> Verdicts:
        """The verdict of each row, in order of retrieval; None where the time for verdicts was spent."""
        if self.judge is None or not rows:
            return []
        query = _asked(request, read)
        seconds = None if request.judge_ms is None else request.judge_ms / 1000
        with watch.stage("judge"):
            verdicts, waited = self.desk.verdicts(self.judge, self.judge.pairs(query, rows), seconds)
        watch.move("judge", "wait", 1000 * waited)
        return [*self._overruled(query, verdicts, ids_of(rows))]


def whole(verdicts: Verdicts) -> list[Verdict]:
    """Verdicts that no time was set for."""
    assert all(verdict is not None for verdict in verdicts)
    return [verdict for verdict in verdicts if verdict is not None]


def ids_of(items: Sequence[Item]) -> list[str]:
    """The id of each item, "" for a bare text."""
    return ["" if isinstance(item, str) else str(item.get("id") or "") for item in items]


def _asked(request: SearchRequest, read: Any) -> str:
    """The whole query that is answered: as it was typed, or corrected."""
    return request.query if read.typed else read.correction.text


def window_sizes(request: SearchRequest, depth: int, rules: RankingRules) -> list[int]:
    """How many hits are looked for: first, and in all after each further search. No page of a list changes them.

    depth: hits that are judged; they are ranked, and what comes later stands behind them.
    """
    if request.sort != RELEVANCE:
        return [depth or SORTED_AMONG]
    first = max(depth, WINDOWS[0] if rules or request.group_by or not depth else 0)
    return [first, *(size for size in (*WINDOWS, request.k + 1) if size > first)]


def first_hits(request: SearchRequest, depth: int, rules: RankingRules) -> int:
    """How many hits are looked at at once: the whole first window, where their order is not that of retrieval."""
    if depth or rules or request.group_by or request.sort != RELEVANCE:
        return window_sizes(request, depth, rules)[0]
    return request.offset + request.k + 1
