"""What the learning chains bought: the encoder and the judge before and after, on the same test queries and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from goodrate.demo.measure import METRICS, full_truth
from goodrate.demo.settings import LearningSettings
from goodrate.evaluation.classification import FAILED, classify, with_intervals
from goodrate.evaluation.report import evaluate_systems
from goodrate.evaluation.significance import Interval, bootstrap_over_groups
from goodrate.evaluation.systems import SystemRuns, Task, random_runs
from goodrate.examples.shop_pairs import ShopPairs, sample_shop_pairs
from goodrate.learning.item_matrix import top_k
from goodrate.shop.gates import shortcuts
from goodrate.shop.shop import Shop

BEFORE, AFTER = "before", "after"
DEPTH = 100


def compare_encoders(settings: LearningSettings, shop: Shop, before: Path, after: Path) -> list[dict[str, Any]]:
    """Each encoder's exact search by the shop's full truth; one row per system, differences to the first."""
    queries = shop.queries_of("test")[: settings.queries_measured]
    texts = {shop.query_id(q): shop.queries[q].text for q in queries.tolist()}
    task = Task(texts, {query_id: {} for query_id in texts}, depth=DEPTH)
    runs = [_searched(name, folder, shop, texts) for name, folder in ((BEFORE, before), (AFTER, after))]
    runs.append(random_runs(task, shop.catalog.ids, settings.seed))
    truth_task = Task(texts, full_truth(shop, queries, runs))
    report = evaluate_systems(runs, truth_task, shop.book.scale, METRICS, 10, settings.seed)
    return [
        {
            "system": system.name,
            **{metric: interval.as_dict() for metric, interval in system.metrics.items()},
            "minus_first": {metric: against.difference.as_dict() for metric, against in system.against.items()},
        }
        for system in report.systems
    ]


def _searched(name: str, folder: Path, shop: Shop, texts: dict[str, str]) -> SystemRuns:
    """The first DEPTH items of every query."""
    from goodrate.models.encoder import Encoder

    encoder, ids = Encoder.load(folder), shop.catalog.ids
    ranked = top_k(encoder.encode_queries(list(texts.values())), encoder.encode_items(shop.catalog.text()), DEPTH)
    best_first = {
        query_id: [(ids[item], -float(rank)) for rank, item in enumerate(row)]
        for query_id, row in zip(texts, ranked.tolist(), strict=True)
    }
    return SystemRuns(name, [best_first])


def compare_judges(settings: LearningSettings, shop: Shop, before: Path, after: Path) -> dict[str, Any]:
    """Each judge's scores on test pairs, how often it states the right deciding rule, the difference of macro-F1.

    Beside them the judges that need no training.
    """
    test, scale = sample_shop_pairs(shop, "test", settings.pairs_measured, settings.seed), shop.book.scale
    by_judge = {BEFORE: labels_and_rules(shop, test, before), AFTER: labels_and_rules(shop, test, after)}
    predicted = {name: labels for name, (labels, _) in by_judge.items()}
    queries = test.queries.tolist()

    def gap(rows: np.ndarray) -> float:
        return macro_f1(rows, predicted[AFTER]) - macro_f1(rows, predicted[BEFORE])

    def share(right: np.ndarray) -> Interval:
        return bootstrap_over_groups(lambda rows: float(right[rows].mean()), queries, settings.seed, resamples=300)

    def macro_f1(rows: np.ndarray, labels: np.ndarray) -> float:
        return classify(test.gold[rows], labels[rows], scale).macro_f1

    trivial = shortcuts(shop, test.queries, test.items, settings.seed)
    return {
        "pairs": len(test.gold),
        "systems": {
            name: {
                metric: interval.as_dict()
                for metric, interval in with_intervals(test.gold, labels, scale, queries, resamples=300).items()
            }
            | ({"right_rule": share(by_judge[name][1]).as_dict()} if name in by_judge else {})
            for name, labels in {**predicted, **trivial}.items()
        },
        "minus_before": bootstrap_over_groups(gap, queries, settings.seed, resamples=300).as_dict(),
    }


def labels_and_rules(shop: Shop, test: ShopPairs, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Label positions (n,) of a judge folder, and whether its reasons state the rule that decides (n,)."""
    from goodrate.relevance.judge import open_judge

    judge = open_judge(folder)
    verdicts = judge.pair_verdicts(test.pairs, reasons=True)
    rules = [shop.rationale(q, i).rule for q, i in zip(test.queries.tolist(), test.items.tolist(), strict=True)]
    labels = [FAILED if verdict.label is None else judge.scale.index(verdict.label) for verdict in verdicts]
    right = [f"verdict {rule}" in (v.reason or "").split("\n") for v, rule in zip(verdicts, rules, strict=True)]
    return np.asarray(labels), np.asarray(right)
