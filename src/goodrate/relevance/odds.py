"""From one score to label probabilities: the proportional-odds model (McCullagh 1980).

P(label >= l) = sigmoid(slope * s - cut_l) with slope >= 0 and rising cuts, so that expected gain orders exactly as the
score s does. The use of it for judges is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from goodrate.relevance.judge_card import require_number

CHANCE_QUANTILE = 0.99  # of the scores of unrelated pairs: where the lowest label ends when nobody gave labels


def check_odds(slope: float, cuts: Sequence[float], num_labels: int) -> None:
    """ValueError unless they are a slope >= 0 and num_labels - 1 rising cuts."""
    require_number("slope", slope, above=-1e-12)
    for cut in cuts:
        require_number("cuts", cut, above=-math.inf)
    if len(cuts) != num_labels - 1 or list(cuts) != sorted(cuts):
        raise ValueError(f"cuts {list(cuts)}: expected {num_labels - 1} rising numbers")


def label_probabilities(scores: np.ndarray, slope: float, cuts: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities (N, L) of the proportional-odds model, worst label first; differences of its L - 1 sigmoids.

    >>> label_probabilities(np.array([0.5]), 10.0, [3.0, 7.0]).round(3).tolist()  # sigmoids of 2 and -2
    [[0.119, 0.762, 0.119]]
    """
    from scipy.special import expit

    at_least = expit(slope * np.asarray(scores)[:, None] - np.asarray(cuts)[None, :])
    edges = np.hstack([np.ones((len(at_least), 1)), at_least, np.zeros((len(at_least), 1))])
    return np.maximum(edges[:, :-1] - edges[:, 1:], 0.0)


def fit_odds(scores: np.ndarray, labels: np.ndarray, num_labels: int) -> tuple[float, tuple[float, ...]]:
    """Slope and cuts with the largest likelihood, with a weak ridge so that separable labels stay finite.

    scores (N,), labels (N,) positions. Raises ValueError when all labels are one.
    """
    from scipy.optimize import minimize

    if len(np.unique(labels)) < 2:
        raise ValueError(f"all {len(labels)} labels are one; labels that differ are needed")
    spread = max(float(np.std(scores)), 1e-6)

    def model(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        steps = np.concatenate([parameters[1:2], np.exp(parameters[2:])])
        return float(np.exp(parameters[0])), np.cumsum(steps)

    def loss(parameters: np.ndarray) -> float:
        slope, cuts = model(parameters)
        p = label_probabilities(scores, slope, cuts)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(p, 1e-12)).mean() + 1e-4 * (parameters**2).sum())

    start = np.concatenate([[np.log(1 / spread), float(np.mean(scores)) / spread], np.zeros(num_labels - 2)])
    slope, cuts = model(minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000}).x)
    return slope, tuple(float(cut) for cut in cuts)


def cuts_without_labels(chance: np.ndarray, alike: np.ndarray, num_labels: int) -> tuple[float, tuple[float, ...]]:
    """Slope and cuts from scores alone: the order is the encoder's, the labels are a guess that nobody checked.

    chance: cosines of unrelated queries and items; the lowest label ends at their 99 % quantile. alike: scores of
    titles and their own items; the best label begins at their median. The others lie evenly between.
    """
    low, high = float(np.quantile(chance, CHANCE_QUANTILE)), float(np.median(alike))
    high = max(high, low + 1e-3)
    slope = 4.0 * (num_labels - 1) / (high - low)
    return slope, tuple(float(slope * cut) for cut in np.linspace(low, high, num_labels - 1))
