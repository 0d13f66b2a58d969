"""What the demo measures: five systems by the shop's full truth, and the judge beside judges that need no training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.api.index import Index
from goodrate.demo.settings import DemoSettings
from goodrate.evaluation.classification import Classification, classify, with_intervals
from goodrate.evaluation.report import Report, evaluate_systems
from goodrate.evaluation.systems import SystemRuns, Task, judge_runs, random_runs, search_runs
from goodrate.examples.shop_pairs import sample_shop_pairs
from goodrate.relevance.judge import open_judge
from goodrate.relevance.query_notes import QueryNotes
from goodrate.shop.gates import shortcuts
from goodrate.shop.shop import Shop

METRICS = ("ndcg@10", "recall@100", "goodrate@10")
NAMES = {"random": "random", "lexical": "lexical", "dense": "encoder", "hybrid": "hybrid", "judge": "hybrid + judge"}
JUDGED_PAIRS = 4000


def full_truth(shop: Shop, queries: np.ndarray, runs: list[SystemRuns]) -> dict[str, dict[str, int]]:
    """Judgements of every item that is relevant to a degree or was returned: all others are irrelevant by the truth.

    Leaving those out changes no metric (they have no gain and stand in no run) and saves two million entries.
    """
    ids, position = shop.catalog.ids, {item: i for i, item in enumerate(shop.catalog.ids)}
    qrels = {}
    for q in queries.tolist():
        labels = shop.labels[q]
        needed = set(np.flatnonzero(labels > 0).tolist())
        for system in runs:
            for run in system.runs:
                needed |= {position[item] for item, _ in run.get(shop.query_id(q), [])}
        qrels[shop.query_id(q)] = {ids[i]: int(labels[i]) for i in sorted(needed)}
    return qrels


def compare_systems(
    settings: DemoSettings, shop: Shop, index_folder: Path, judge_folder: Path, tick: Callable[[str], None]
) -> tuple[Report, dict[str, float]]:
    """Every system on the same test queries. Returns the report and milliseconds per query, retrieval and judging.

    The judge sees the first `depth` results of the hybrid search; the others follow in their order.
    """
    index = Index.open(index_folder)
    searcher = index.searcher
    queries = shop.queries_of("test")[: settings.queries_measured]
    texts = {shop.query_id(q): shop.queries[q].text for q in queries.tolist()}
    facts = {shop.queries[q].text: shop.queries[q].facts for q in queries.tolist()}
    judge = open_judge(judge_folder, notes=QueryNotes(facts.get))
    rows = {row["id"]: row for row in shop.catalog.to_rows()}
    task = Task(texts, {query_id: {} for query_id in texts})
    runs, milliseconds = [], {}

    def timed(name: str, make: Callable[[], SystemRuns]) -> SystemRuns:
        tick(NAMES[name])
        start = time.perf_counter()
        runs_of_system = make()
        milliseconds[name] = 1000 * (time.perf_counter() - start) / len(queries)
        runs.append(runs_of_system)
        return runs_of_system

    timed("random", lambda: random_runs(task, shop.catalog.ids, settings.seed))
    for mode in ("lexical", "dense", "hybrid"):
        last = timed(mode, lambda mode=mode: search_runs(task, searcher, mode))  # type: ignore[misc]
    timed("judge", lambda: judge_runs(task, judge, rows, last.runs[0], depth=settings.depth))
    milliseconds["judge"] += milliseconds["hybrid"]
    milliseconds.pop("random")
    truth_task = Task(texts, full_truth(shop, queries, runs))
    return evaluate_systems(runs, truth_task, shop.book.scale, METRICS, 10, settings.seed), milliseconds


def measure_judge(shop: Shop, judge_folder: Path, seed: int) -> dict[str, Any]:
    """The judge on test pairs: scores, their intervals over queries, each family's accuracy, and the trivial judges."""
    test = sample_shop_pairs(shop, "test", JUDGED_PAIRS, seed)
    judge, scale, gold = open_judge(judge_folder), shop.book.scale, test.gold
    probabilities = judge.pair_probabilities(test.pairs)
    predicted = judge.labels(probabilities)
    intervals = with_intervals(gold, predicted, scale, test.queries.tolist(), seed=seed, resamples=300)
    families = np.asarray([shop.queries[q].family for q in test.queries.tolist()])
    tail = np.asarray([shop.queries[q].tail for q in test.queries.tolist()])
    trivial = shortcuts(shop, test.queries, test.items, seed)
    return {
        "pairs": len(gold),
        "judge": scores(classify(gold, predicted, scale, scale.expected_gain(np.nan_to_num(probabilities)))),
        "intervals": {name: interval.as_dict() for name, interval in intervals.items()},
        "trivial": {name: scores(classify(gold, labels, scale)) for name, labels in trivial.items()},
        "accuracy_by_family": {
            f: float((gold == predicted)[families == f].mean()) for f in sorted(set(families.tolist()))
        },
        "accuracy_tail": float((gold == predicted)[tail].mean()) if tail.any() else None,
        "temperature": judge.temperature,
        "beta_cum": judge.beta_cum,
    }


def scores(result: Classification) -> dict[str, Any]:
    """Accuracy, macro-F1, F1 of the positive set and F1 by label."""
    return {name: value for name, value in result.as_dict().items() if name != "confusion"}


def as_mapping(report: Report, milliseconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per system for report.json: name, each metric with its interval, milliseconds per query."""
    return [
        {
            "system": NAMES[system.name],
            **{metric: interval.as_dict() for metric, interval in system.metrics.items()},
            "milliseconds_per_query": milliseconds.get(system.name),
        }
        for system in report.systems
    ]
