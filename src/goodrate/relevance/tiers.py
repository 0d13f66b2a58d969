"""Tiers from probabilities: Good, Mid, Bad with one threshold (CumPT of TaoSR1, arXiv 2508.12365)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goodrate.scale import RelevanceScale

BAD, MID, GOOD, UNKNOWN = 0, 1, 2, -1
TIERS = ("Bad", "Mid", "Good")
BETAS = tuple(round(0.30 + 0.01 * step, 2) for step in range(41))
SLACK = 1e-9  # so that 0.3 + 0.2 reaches a threshold of 0.5 whatever the order of the sum


def cumpt(
    probabilities: np.ndarray | Sequence[Sequence[float]], scale: RelevanceScale, beta_cum: float = 0.5
) -> np.ndarray:
    """Tier index (N,): Good if p(positive labels) >= beta_cum; Bad if p(worst) > 1 - beta_cum; else Mid.

    probabilities: (N, L), worst label first, calibrated. A row of NaN is UNKNOWN (-1). The paper walks down four
    labels; this is the same rule for any number of them. Raising beta_cum only ever lowers tiers. At 0.5 the tier is
    that of the ordinal median. Raises ValueError for a wrong width, rows that are no probabilities and a beta_cum
    outside 0..1.
    >>> from goodrate.scale import FOUR_LEVEL
    >>> cumpt([[0.1, 0.2, 0.3, 0.4], [0.2, 0.5, 0.2, 0.1], [0.6, 0.2, 0.1, 0.1]], FOUR_LEVEL).tolist()
    [2, 1, 0]
    """
    p = _checked(probabilities, scale)
    if not 0 < beta_cum < 1:
        raise ValueError(f"beta_cum {beta_cum} must lie between 0 and 1")
    good = p[:, scale.is_positive].sum(axis=1) >= beta_cum - SLACK
    bad = p[:, 0] > 1 - beta_cum + SLACK
    tiers = np.where(good, GOOD, np.where(bad, BAD, MID))
    return np.where(np.isnan(p).any(axis=1), UNKNOWN, tiers)


def _checked(probabilities: np.ndarray | Sequence[Sequence[float]], scale: RelevanceScale) -> np.ndarray:
    p = np.asarray(probabilities, dtype=np.float64).reshape(
        -1, np.shape(probabilities)[-1] if len(probabilities) else len(scale)
    )
    if p.shape[1] != len(scale):
        raise ValueError(f"probabilities have {p.shape[1]} columns; scale {scale.name} has {len(scale)} labels")
    complete = p[~np.isnan(p).any(axis=1)]
    if len(complete) and (complete.min() < -1e-6 or np.abs(complete.sum(axis=1) - 1).max() > 1e-3):
        raise ValueError("rows are not probabilities (each must be >= 0 and sum to 1); tiers apply to nothing else")
    return p


def tiers_of_labels(labels: np.ndarray | Sequence[int], scale: RelevanceScale) -> np.ndarray:
    """The tier (N,) that a gold label stands for: positive labels Good, the worst Bad, the rest Mid."""
    by_label = np.where(scale.is_positive, GOOD, MID)
    by_label[0] = BAD
    return by_label[np.asarray(labels, dtype=np.int64)]


@dataclass(frozen=True)
class BetaChoice:
    """The chosen threshold, its macro-F1 over tiers on the dev set, and (beta_cum, macro_f1, accuracy) of all tried."""

    beta_cum: float
    macro_f1: float
    tried: tuple[tuple[float, float, float], ...]


def choose_beta(
    probabilities: np.ndarray, labels: np.ndarray | Sequence[int], scale: RelevanceScale, betas: Sequence[float] = BETAS
) -> BetaChoice:
    """The threshold with the best macro-F1 of tiers on dev data; of equals the one nearest to 0.5, then the lower.

    probabilities (N, L); labels (N,) gold positions. Rows of NaN are left out. Never call it with the data that the
    result is reported on. Raises ValueError without a single usable row.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    usable = ~np.isnan(p).any(axis=1)
    if not usable.any():
        raise ValueError("no row with probabilities to choose beta_cum on")
    gold = tiers_of_labels(np.asarray(labels)[usable], scale)
    tried = tuple((beta, *_scores(cumpt(p[usable], scale, beta), gold)) for beta in betas)
    best = max(tried, key=lambda row: (round(row[1], 12), -round(abs(row[0] - 0.5), 12), -row[0]))
    return BetaChoice(best[0], best[1], tried)


def _scores(predicted: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """Macro-F1 over the tiers that occur in gold, and accuracy."""
    scores = []
    for tier in np.unique(gold):
        hit = int(((predicted == tier) & (gold == tier)).sum())
        scores.append(2 * hit / int((predicted == tier).sum() + (gold == tier).sum()))
    return float(np.mean(scores)), float((predicted == gold).mean())
