"""Making a judge's softmax mean what it says: one temperature, and a table that shows whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TEMPERATURES = (0.05, 20.0)  # where the search stays
AT_BOUND = 0.02  # of the search's log range: an optimum nearer to its end is no optimum


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """exp(z / T) / sum exp(z / T) over the last axis, float64; rows of NaN stay NaN. Raises ValueError for T <= 0."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
    z = np.asarray(logits, dtype=np.float64) / temperature
    shifted = np.exp(z - z.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray | Sequence[int], temperature: float = 1.0) -> float:
    """Mean of -log p(gold) in nats, from logits (N, L) and gold positions (N,)."""
    p = softmax(logits, temperature)[np.arange(len(labels)), np.asarray(labels)]
    return float(-np.log(np.maximum(p, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray | Sequence[int]) -> float:
    """The T with the smallest negative log likelihood on dev data (Guo et al., arXiv 1706.04599); order is untouched.

    logits (N, L), labels (N,); rows of NaN are left out. Raises ValueError without a usable row, and when the search
    ends at a bound of 0.05..20: at the lower one the judge is never wrong here, at the upper one its probabilities say
    nothing of these labels, and either way the data do not tell the temperature.
    """
    from scipy.optimize import minimize_scalar

    z, gold = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    usable = ~np.isnan(z).any(axis=1)
    if not usable.any():
        raise ValueError("no row with logits to fit a temperature on")
    z, gold = z[usable], gold[usable]
    low, high = np.log(TEMPERATURES)
    optimum = minimize_scalar(
        lambda t: negative_log_likelihood(z, gold, float(np.exp(t))), bounds=(low, high), method="bounded"
    )
    place = (float(optimum.x) - low) / (high - low)
    if not AT_BOUND <= place <= 1 - AT_BOUND:
        why = "the judge is never wrong on them" if place < 0.5 else "its probabilities say nothing of these labels"
        raise ValueError(
            f"no temperature from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g} fits {len(gold):,} pairs best: {why}"
        )
    return float(np.exp(optimum.x))


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence lies in (low, high]; confidence and accuracy are means over them, None when empty."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Ten (or so) bins and their expected calibration error: sum count/N * |accuracy - confidence|."""

    bins: tuple[ReliabilityBin, ...]
    ece: float


def reliability(probabilities: np.ndarray, labels: np.ndarray | Sequence[int], bins: int = 10) -> Reliability:
    """How often the judge is right at each confidence. probabilities (N, L), labels (N,); rows of NaN are left out.

    Confidence is the largest probability, right means that its label is gold; bins have equal width.
    Raises ValueError without a usable row.
    """
    p, gold = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    usable = ~np.isnan(p).any(axis=1)
    if not usable.any():
        raise ValueError("no row with probabilities to measure")
    p, gold = p[usable], gold[usable]
    confidence, right = p.max(axis=1), p.argmax(axis=1) == gold
    place = np.clip(np.ceil(confidence * bins - 1e-12).astype(int) - 1, 0, bins - 1)
    rows = tuple(_bin(i, bins, confidence[place == i], right[place == i]) for i in range(bins))
    gaps = [row.count * abs((row.accuracy or 0.0) - (row.confidence or 0.0)) for row in rows]
    return Reliability(rows, float(sum(gaps) / len(p)))


def _bin(position: int, bins: int, confidence: np.ndarray, right: np.ndarray) -> ReliabilityBin:
    low, high = position / bins, (position + 1) / bins
    if not len(right):
        return ReliabilityBin(low, high, 0, None, None)
    return ReliabilityBin(low, high, len(right), float(confidence.mean()), float(right.mean()))
