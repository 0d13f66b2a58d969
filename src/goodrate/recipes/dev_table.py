"""The dev table of a trained judge: temperature and tier threshold from half of the queries, scores on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from goodrate.catalog.splits import split_by_group
from goodrate.evaluation.classification import FAILED, likeliest
from goodrate.examples.contexts import with_contexts
from goodrate.examples.data import TrainingData
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.pairs import JudgedPair, gold_labels
from goodrate.relevance.tiers import cumpt, tiers_of_labels
from goodrate.relevance.tuning import tune, write_tuning
from goodrate.scale import RelevanceScale

DEV_PAIRS = 2000  # of each half; a standard error of about one point of accuracy


def tune_and_measure(
    folder: Path, data: TrainingData, others: Mapping[str, Path] | None = None
) -> tuple[dict[str, dict[str, float]], str]:
    """Tune a judge on one half of the dev queries, measure it on the other: rows of the table, and what was tuned.

    others: judges by name to stand in the table above it, as they are.
    """
    tuning, measuring = halves(data.pairs("dev"), data.choice.split_seed)
    note = tune_folder(folder, with_contexts(tuning, data.contexts, read_judge_card(folder).contexts))
    return dev_table({**(others or {}), "judge": folder}, measuring, data), note


def halves(pairs: list[JudgedPair], seed: int) -> tuple[list[JudgedPair], list[JudgedPair]]:
    """Pairs to tune on and pairs to measure on, apart by query group, each spread over at most DEV_PAIRS.

    With one group of queries all pairs are for measuring.
    """
    sides = split_by_group([pair.query for pair in pairs], {"measure": 0.5, "tune": 0.5}, seed)
    tuning, measuring = ([pair for pair in pairs if pair.query in sides[name]] for name in ("tune", "measure"))
    return evenly(tuning, DEV_PAIRS), evenly(measuring, DEV_PAIRS)


def tune_folder(folder: Path, pairs: Sequence[JudgedPair]) -> str:
    """Set the judge's temperature and tier threshold on these pairs, in its judge.json; says what was set and on what.

    Both stay as they are where there is nothing to choose them on.
    """
    if not pairs:
        return "temperature and tier threshold are not set: dev has one group of queries, and it is measured on"
    try:
        tuning = tune(open_judge(folder), pairs, gold_labels(pairs))
    except ValueError as error:
        return f"temperature and tier threshold are not set: {error}"
    write_tuning(folder, tuning)
    queries = len({pair.query for pair in pairs})
    return (
        f"temperature {tuning.temperature:.3f} and tier threshold (beta_cum) {tuning.beta_cum:.2f}, set on "
        f"{tuning.used:,} dev pairs of {queries:,} queries; the table measures the dev pairs of other queries"
    )


def evenly(pairs: Sequence[JudgedPair], limit: int) -> list[JudgedPair]:
    """At most `limit` pairs, taken evenly over the whole list, so that all queries have a share."""
    if len(pairs) <= limit:
        return list(pairs)
    return [pairs[round(position)] for position in np.linspace(0, len(pairs) - 1, limit)]


def dev_table(
    folders: Mapping[str, Path], pairs: Sequence[JudgedPair], data: TrainingData
) -> dict[str, dict[str, float]]:
    """Judges by name on dev pairs, each with its texts, beside the constant that is most frequent in training."""
    gold = gold_labels(pairs)
    most = np.bincount(data.parts["train"].label_indices(), minlength=len(data.scale)).argmax()
    constant = np.full_like(gold, most)
    predictions = {
        **{name: _labels_and_tiers(open_judge(folder), pairs, data) for name, folder in folders.items()},
        f"always {data.scale.labels[most]}": (constant, tiers_of_labels(constant, data.scale)),
    }
    gold_tiers = tiers_of_labels(gold, data.scale)
    return {
        name: {"tier_accuracy": float((tiers == gold_tiers).mean()), **agreement(gold, labels, data.scale)}
        for name, (labels, tiers) in predictions.items()
    }


def _labels_and_tiers(
    judge: CalibratedJudge, pairs: Sequence[JudgedPair], data: TrainingData
) -> tuple[np.ndarray, np.ndarray]:
    """Likeliest label and CumPT tier of each pair, (N,) each."""
    probabilities = judge.pair_probabilities(with_contexts(pairs, data.contexts, judge.contexts))
    return likeliest(probabilities), cumpt(probabilities, judge.scale, judge.beta_cum)


def agreement(gold: np.ndarray, predicted: np.ndarray, scale: RelevanceScale) -> dict[str, float]:
    """Accuracy and macro-F1 over the labels that occur in gold; a failure is wrong in both, and counted.

    gold, predicted: (N,) label positions, predicted may be FAILED.
    """
    from sklearn.metrics import accuracy_score, f1_score

    assert gold.max() < len(scale)
    labels = np.unique(gold).tolist()
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)),
        "failed": float((predicted == FAILED).sum()),
        "pairs": float(len(gold)),
    }
