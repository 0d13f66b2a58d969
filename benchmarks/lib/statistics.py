"""Macro-F1 and means over queries with intervals, and paired differences: the queries are what is resampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from goodrate.evaluation.significance import Interval, paired_bootstrap_difference
from lib.queue import Results

RESAMPLES = 1000


def confusions(gold: np.ndarray, predicted: np.ndarray, weights: np.ndarray, labels: int) -> np.ndarray:
    """Weighted confusions (B, L, L + 1) of B resamples; weights (B, N), predicted -1 = failed (last column)."""
    cell = gold * (labels + 1) + np.where(predicted < 0, labels, predicted)
    onto = np.zeros((len(gold), labels * (labels + 1)))
    onto[np.arange(len(gold)), cell] = 1
    return (weights @ onto).reshape(len(weights), labels, labels + 1)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Macro-F1 (B,) over the labels that gold has."""
    square = confusion[:, :, :-1]
    gold, predicted = confusion.sum(2), square.sum(1)
    hits = np.diagonal(square, axis1=1, axis2=2)
    f1 = np.where(gold > 0, 2 * hits / np.maximum(gold + predicted, 1e-12), np.nan)
    return np.nanmean(f1, axis=1)


def resampled(queries: np.ndarray, count: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Weights (B + 1, N): the first row is the sample itself, each other one drew queries with replacement."""
    _, place = np.unique(queries, return_inverse=True)
    total = int(place.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=count)
    return np.concatenate([np.ones((1, total)), drawn])[:, place].astype(float)


def quantiles(values: np.ndarray) -> Interval:
    """A value with its 95 % interval. values: (B + 1,), the first of the sample itself, the others of resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high), len(values) - 1)


def as_digits(labels: np.ndarray) -> str:
    """Label positions (N,) as one digit each, "x" for a failure (below 0)."""
    return "".join("x" if label < 0 else str(label) for label in labels.tolist())


def from_digits(text: str) -> np.ndarray:
    """The inverse: label positions (N,), -1 for a failure."""
    return np.asarray([-1 if label == "x" else int(label) for label in text])


def shared_seeds(arm: Results, other: Results) -> tuple[Results, Results]:
    """The results of two arms whose seed both have."""
    seeds = {one["seed"] for one in arm} & {one["seed"] for one in other}
    ours, theirs = ([one for one in results if one["seed"] in seeds] for results in (arm, other))
    return ours, theirs


def paired_mean(arm: Results, other: Results, values: Callable[[Results], np.ndarray]) -> Interval | None:
    """The mean over queries of `arm` minus that of `other` over the seeds both have, None without one.

    values: a metric (Q,) of every query, mean over the seeds of the results; NaN = unknown.
    """
    ours, theirs = shared_seeds(arm, other)
    return paired_bootstrap_difference(values(ours), values(theirs)) if ours else None


class MacroF1:
    """Macro-F1 of arms over one set of resamples, so that any two can be compared. Results hold `predicted`."""

    def __init__(self, gold: np.ndarray, queries: np.ndarray, counted: np.ndarray | None = None) -> None:
        """gold, queries: label and query (N,) of the test pairs; counted: which of them count, all unless given."""
        self._gold, self._weights = gold, resampled(queries)
        if counted is not None:
            self._weights *= counted

    def values(self, results: Results) -> np.ndarray:
        """(B + 1,) mean over seeds."""
        return np.mean([macro_f1(self._confusions(one, self._weights)) for one in results], axis=0)

    def balanced(self, results: Results) -> float:
        """As if every gold label were equally frequent (B-Eval), mean over seeds."""
        weights = (1 / np.bincount(self._gold)[self._gold])[None]
        return float(np.mean([macro_f1(self._confusions(one, weights))[0] for one in results]))

    def level(self, results: Results) -> Interval:
        """Mean over seeds with its interval."""
        return quantiles(self.values(results))

    def difference(self, arm: Results, other: Results) -> Interval | None:
        """That of `arm` minus that of `other` over the seeds both have; None without one, and of an arm to itself."""
        ours, theirs = shared_seeds(arm, other)
        return quantiles(self.values(ours) - self.values(theirs)) if ours and arm is not other else None

    def _confusions(self, result: dict[str, object], weights: np.ndarray) -> np.ndarray:
        return confusions(self._gold, from_digits(str(result["predicted"])), weights, labels=4)
