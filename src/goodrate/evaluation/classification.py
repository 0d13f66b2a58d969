"""How well labels are predicted, always beside the trivial predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from goodrate.evaluation.significance import Interval, bootstrap_over_groups
from goodrate.relevance.label_choice import FAILED
from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class Classification:
    """Scores over N pairs. NaN = unknown (no positive pair, no scores).

    macro_f1: over the labels that occur in gold. f1: by label name, NaN for labels that do not occur. good_f1: F1 of
    the positive set against the rest. auc: of the score against positive gold, over the pairs that have a score.
    confusion: (L, L + 1), rows gold, columns predicted, the last column the failures.
    """

    accuracy: float
    macro_f1: float
    good_f1: float
    auc: float
    f1: dict[str, float]
    confusion: np.ndarray
    failed: int

    @property
    def pairs(self) -> int:
        """How many pairs were classified, failures included."""
        return int(self.confusion.sum())

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null."""
        numbers = {name: getattr(self, name) for name in ("accuracy", "macro_f1", "good_f1", "auc")}
        every: dict[str, Any] = {name: _or_none(value) for name, value in numbers.items()}
        every["f1"] = {label: _or_none(value) for label, value in self.f1.items()}
        return every | {"confusion": self.confusion.tolist(), "failed": self.failed, "pairs": self.pairs}


def _or_none(value: float) -> float | None:
    return None if value != value else value


def classify(
    gold: ArrayLike, predicted: ArrayLike, scale: RelevanceScale, scores: ArrayLike | None = None
) -> Classification:
    """Compare label positions (N,), 0 = worst; predicted may be FAILED (-1).

    scores: (N,) any numbers that grow with relevance, NaN = none; without them auc is NaN.
    Raises ValueError for no pairs, unequal lengths or positions off the scale.
    >>> from goodrate.scale import GRADED_0_3
    >>> result = classify([0, 0, 3, 2], [0, 3, 3, -1], GRADED_0_3)
    >>> result.accuracy, result.failed
    (0.5, 1)
    """
    truth, guess = (np.asarray(x, dtype=np.int64).reshape(-1) for x in (gold, predicted))
    if not len(truth) or len(truth) != len(guess):
        raise ValueError(f"expected as many predictions as gold labels, at least one; got {len(guess)}, {len(truth)}")
    if truth.min() < 0 or guess.min() < FAILED or max(truth.max(), guess.max()) >= len(scale):
        raise ValueError(f"label positions must lie in 0..{len(scale) - 1} (predicted: or -1); scale {scale.name}")
    confusion = _confusion(truth, guess, len(scale))
    f1 = _f1_by_label(confusion)
    good = scale.is_positive
    hits = confusion[good][:, :-1][:, good].sum()
    size = confusion[good].sum() + confusion[:, :-1][:, good].sum()
    return Classification(
        accuracy=float(np.trace(confusion) / confusion.sum()),
        macro_f1=float(np.nanmean(f1)),
        good_f1=float(2 * hits / size) if confusion[good].sum() else float("nan"),
        auc=area_under_curve(good[truth], scores) if scores is not None else float("nan"),
        f1=dict(zip(scale.labels, f1.tolist(), strict=True)),
        confusion=confusion,
        failed=int((guess == FAILED).sum()),
    )


def _confusion(truth: np.ndarray, guess: np.ndarray, labels: int) -> np.ndarray:
    """Counts (L, L + 1): rows gold, columns predicted, failures last."""
    column = np.where(guess == FAILED, labels, guess)
    return np.bincount(truth * (labels + 1) + column, minlength=labels * (labels + 1)).reshape(labels, labels + 1)


def _f1_by_label(confusion: np.ndarray) -> np.ndarray:
    """F1 (L,) = 2 TP / (gold + predicted), NaN for labels that gold does not have."""
    square = confusion[:, :-1]
    gold, predicted = confusion.sum(axis=1), square.sum(axis=0)
    return np.where(gold > 0, 2 * np.diag(square) / np.maximum(gold + predicted, 1), np.nan)


def area_under_curve(positive: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive pair scores above a negative one, ties half; NaN scores are left out.

    NaN when one of the two classes is empty.
    >>> area_under_curve([True, False, True, False], [0.9, 0.8, 0.8, 0.1])  # of 4 pairs: 3 won, 1 tied
    0.875
    """
    from scipy.stats import rankdata

    truth, value = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    truth, value = truth[~np.isnan(value)], value[~np.isnan(value)]
    ones, zeros = int(truth.sum()), int((~truth).sum())
    if not ones or not zeros:
        return float("nan")
    return float((rankdata(value)[truth].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def constant_label(training: ArrayLike) -> int:
    """The trivial predictor: the most frequent label position of the training labels, the worse one of equals."""
    return int(np.bincount(np.asarray(training, dtype=np.int64)).argmax())


def with_intervals(
    gold: ArrayLike,
    predicted: ArrayLike,
    scale: RelevanceScale,
    queries: Sequence[object],
    scores: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """accuracy, macro_f1, good_f1 and auc with intervals from resampling queries (N,): pairs of one are alike."""
    truth, guess = np.asarray(gold), np.asarray(predicted)
    value = None if scores is None else np.asarray(scores, dtype=np.float64)

    def of(name: str) -> Callable[[np.ndarray], float]:
        def score(rows: np.ndarray) -> float:
            if name == "auc" and value is not None:
                return area_under_curve(scale.is_positive[truth[rows]], value[rows])
            return float(getattr(classify(truth[rows], guess[rows], scale), name))

        return score

    names = ("accuracy", "macro_f1", "good_f1", *(("auc",) if scores is not None else ()))
    return {name: bootstrap_over_groups(of(name), queries, seed, resamples=resamples) for name in names}
