"""Systems to compare: random order, the channels of an index, and a judge. Each turns queries into a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.evaluation.metrics import Qrels, Run
from goodrate.relevance.overrules import Overruling, overruled_rows
from goodrate.retrieval.table import id_condition

if TYPE_CHECKING:
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pairs import Item

SYSTEMS = ("random", "lexical", "dense", "hybrid", "judge")
RANDOM_ORDERS = 20  # one order of 66 queries is off by 0.03 nDCG@10; the mean of twenty by under 0.01
RERANK_DEPTH = 50  # items of a query that a judge orders when it is not given a judged list


@dataclass(frozen=True)
class Task:
    """What to rank. judged_only: every system orders the judged list of its query; else it searches the whole index.

    queries: query_id -> text. depth: how many results to ask for in a search.
    """

    queries: Mapping[str, str]
    qrels: Qrels
    judged_only: bool = False
    depth: int = 100

    def judged_items(self, query_id: str) -> list[str]:
        """The judged items of a query, by id."""
        return sorted(self.qrels[query_id])


@dataclass(frozen=True)
class SystemRuns:
    """A system's runs (several for random, whose metrics are averaged) and what is to be said about them.

    labels: predicted label position by (query_id, item_id), -1 = failed; only a judge has them.
    """

    name: str
    runs: Sequence[Run]
    notes: tuple[str, ...] = ()
    labels: dict[tuple[str, str], int] = field(default_factory=dict)


def random_runs(task: Task, ids: Sequence[str], seed: int = 0, orders: int = RANDOM_ORDERS) -> SystemRuns:
    """Random orders of the judged lists, or random items of the index (ids). The same for every order of the input."""
    runs = []
    for order in range(orders):
        run = {}
        for query_id in task.queries:
            digest = hashlib.sha256(f"{seed}\x00{order}\x00{query_id}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            pool = task.judged_items(query_id) if task.judged_only else ids
            drawn = rng.permutation(len(pool))[: len(pool) if task.judged_only else task.depth]
            run[query_id] = [(pool[place], -float(rank)) for rank, place in enumerate(drawn)]
        runs.append(run)
    return SystemRuns("random", runs, (f"mean of {orders} random orders",))


def search_runs(task: Task, searcher: Any, mode: str, tick: Callable[[], None] = lambda: None) -> SystemRuns:
    """The index in one mode. In a judged list, items that the mode does not find come last, ordered by id.

    searcher: retrieval.search.Searcher. A query without a letter or digit that a channel cannot search has no results.
    """
    run = {}
    for query_id, query in task.queries.items():
        run[query_id] = _searched(task, searcher, mode, query_id, query)
        tick()
    return SystemRuns(mode, [run])


def _searched(task: Task, searcher: Any, mode: str, query_id: str, query: str) -> list[tuple[str, float]]:
    """Items with scores for one query."""
    if not query.strip():
        return []
    if not task.judged_only:
        return [(hit.item_id, -float(hit.rank)) for hit in searcher.search(query, task.depth, None, mode)]
    items = task.judged_items(query_id)
    hits = searcher.search(query, len(items), id_condition(items), mode)
    scores = {hit.item_id: -float(hit.rank) for hit in hits}  # places: scores do not know what a query excludes
    return [(item, scores.get(item, -float(len(items) + 1))) for item in items]


def judge_runs(
    task: Task,
    judge: CalibratedJudge,
    rows: Mapping[str, Item],
    candidates: Run | None = None,
    tick: Callable[[], None] = lambda: None,
    depth: int = RERANK_DEPTH,
    overrules: Overruling = lambda query: {},
) -> SystemRuns:
    """Items ordered by the judge's expected gain.

    rows: item_id -> catalogue row. candidates: what to rerank when not the judged lists: the first `depth` are judged,
    the others follow in their order. An item the judge failed on is last of those judged, and counted: it has no
    grade, but a page has to show it somewhere. overrules: people's verdicts, which order in the judge's place; labels
    stay the judge's.
    """
    run: dict[str, list[tuple[str, float]]] = {}
    labels: dict[tuple[str, str], int] = {}
    failed = people = 0
    for query_id, query in task.queries.items():
        ordered = task.judged_items(query_id) if candidates is None else best_first(candidates[query_id])
        items = ordered if candidates is None else ordered[:depth]
        if not ordered:
            continue  # no candidate: the query is missing
        p = judge.probabilities(query, [rows[item] for item in items])
        predicted = judge.labels(p)
        p, count = overruled_rows(p, items, overrules(query), judge.scale)
        broken, people = np.isnan(p).any(axis=1), people + count
        gains = np.where(broken, -1.0, judge.scale.expected_gain(np.nan_to_num(p)))
        failed += int(broken.sum())
        rest = [(item, -2.0 - rank) for rank, item in enumerate(ordered[len(items) :])]
        run[query_id] = [*zip(items, gains.tolist(), strict=True), *rest]
        labels |= {(query_id, item): int(label) for item, label in zip(items, predicted, strict=True)}
        tick()
    told = [f"{failed} pairs failed"] if failed else []
    told += [f"{people} verdicts are people's, not the judge's"] if people else []
    return SystemRuns("judge", [run], tuple(told), labels)


def best_first(scored: Sequence[tuple[str, float]]) -> list[str]:
    """Item ids, score descending, then id."""
    return [item for item, _ in sorted(scored, key=lambda pair: (-pair[1], pair[0]))]
