"""The dev table of a trained judge: temperature and tier threshold from half of the queries, scores on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from goodrate.catalog.splits import split_by_group
from goodrate.cli.context_input import with_contexts
from goodrate.cli.labelled_pair import LabelledPair
from goodrate.cli.training_data import TrainingData
from goodrate.evaluation.classification import FAILED, likeliest
from goodrate.relevance.judge import Judge, read_judge_card, write_judge_card
from goodrate.relevance.prompts import Pair
from goodrate.relevance.tiers import cumpt, tiers_of_labels
from goodrate.relevance.tuning import tune
from goodrate.scale import RelevanceScale

DEV_PAIRS = 2000  # of each half; a standard error of about one point of accuracy


def measured(
    folder: Path, data: TrainingData, item_form: str, seed: int, others: Mapping[str, Path] | None = None
) -> tuple[dict[str, dict[str, float]], str]:
    """Tune a judge on one half of the dev queries, measure it on the other: rows of the table, and what was tuned.

    others: judges by name to stand in the table above it, as they are.
    """
    tuning, measuring = halves(list(data.pairs("dev", item_form)), seed)
    tuned = tune_on(folder, with_contexts(tuning, data.contexts, read_judge_card(folder).contexts))
    return dev_table({**(others or {}), "judge": folder}, measuring, data), tuned


def halves(pairs: list[LabelledPair], seed: int) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Pairs to tune on and pairs to measure on, apart by query group, each spread over at most DEV_PAIRS.

    With one group of queries all pairs are for measuring.
    """
    sides = split_by_group([pair.query for pair in pairs], {"measure": 0.5, "tune": 0.5}, seed)
    tune, measure = ([pair for pair in pairs if pair.query in sides[name]] for name in ("tune", "measure"))
    return spread(tune, DEV_PAIRS), spread(measure, DEV_PAIRS)


def as_pairs(labelled: Sequence[LabelledPair]) -> tuple[list[Pair], np.ndarray]:
    """What the judge reads, and the gold label positions (N,)."""
    pairs = [Pair(pair.query, pair.item_text, pair.facts, pair.context.text) for pair in labelled]
    return pairs, np.asarray([pair.label for pair in labelled])


def tune_on(folder: Path, labelled: Sequence[LabelledPair]) -> str:
    """Set the judge's temperature and tier threshold on these pairs, in its judge.json; says what was set and on what.

    Both stay as they are where there is nothing to choose them on.
    """
    if not labelled:
        return "temperature and tier threshold are not set: dev has one group of queries, and it is measured on"
    judge = Judge.load(folder)
    try:
        tuning = tune(judge, *as_pairs(labelled))
    except ValueError as error:
        return f"temperature and tier threshold are not set: {error}"
    write_judge_card(folder, tuning.card)
    queries = len({pair.query for pair in labelled})
    return (
        f"temperature {tuning.card.temperature:.3f} and tier threshold (beta_cum) {tuning.card.beta_cum:.2f}, set on "
        f"{tuning.used:,} dev pairs of {queries:,} queries; the table measures the dev pairs of other queries"
    )


def dev_table(
    folders: Mapping[str, Path], labelled: Sequence[LabelledPair], data: TrainingData
) -> dict[str, dict[str, float]]:
    """Judges by name on dev pairs, each with its texts, beside the constant that is most frequent in training."""
    _, gold = as_pairs(labelled)
    most = np.bincount(data.parts["train"].label_indices(), minlength=len(data.scale)).argmax()
    constant = np.full_like(gold, most)
    given = {
        **{name: _labels_and_tiers(Judge.load(folder), labelled, data) for name, folder in folders.items()},
        f"always {data.scale.labels[most]}": (constant, tiers_of_labels(constant, data.scale)),
    }
    wanted = tiers_of_labels(gold, data.scale)
    return {
        name: {"tier_accuracy": float((tiers == wanted).mean()), **agreement(gold, labels, data.scale)}
        for name, (labels, tiers) in given.items()
    }


def _labels_and_tiers(
    judge: Judge, labelled: Sequence[LabelledPair], data: TrainingData
) -> tuple[np.ndarray, np.ndarray]:
    """Likeliest label and CumPT tier of each pair, (N,) each."""
    pairs, _ = as_pairs(with_contexts(labelled, data.contexts, judge.card.contexts))
    probabilities = judge.probabilities(pairs)
    return likeliest(probabilities), cumpt(probabilities, judge.scale, judge.card.beta_cum)


def spread(pairs: list[LabelledPair], limit: int) -> list[LabelledPair]:
    """At most `limit` pairs, taken evenly over the whole list, so that all queries have a share."""
    if len(pairs) <= limit:
        return pairs
    return [pairs[round(position)] for position in np.linspace(0, len(pairs) - 1, limit)]


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
