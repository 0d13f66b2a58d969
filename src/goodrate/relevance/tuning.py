"""Set a judge's two scalars on dev data: the temperature of its probabilities and the threshold of its tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from goodrate.relevance.calibration import Reliability, fit_temperature, negative_log_likelihood, reliability, softmax
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.judge_card import read_judge_card, write_judge_card
from goodrate.relevance.pairs import Pair
from goodrate.relevance.tiers import BetaChoice, choose_beta, cumpt, tiers_of_labels
from goodrate.scale import RelevanceScale


@dataclass(frozen=True)
class Floor:
    """The least that a scalar is chosen on. minority: pairs that are not of the most frequent kind."""

    pairs: int
    queries: int
    minority: int

    def shortage(self, queries: Sequence[str], kinds: Sequence[int] | np.ndarray, what: str) -> str | None:
        """What pairs with these queries (N,) and kinds (N,) lack, None when they are enough. what: name of a kind."""
        distinct, counts = len(set(queries)), np.bincount(np.asarray(kinds, dtype=np.int64), minlength=1)
        minority = int(counts.sum() - counts.max())
        if len(queries) >= self.pairs and distinct >= self.queries and minority >= self.minority:
            return None
        return (
            f"it takes {self.pairs} pairs of {self.queries} queries at least, {self.minority} of them of another "
            f"{what} than the most frequent one; these are {len(queries):,} of {distinct:,}, {minority:,} of another "
            f"{what}"
        )


# Ours. A number from 40 pairs is about a fifth off; a threshold moves with single queries until there are dozens.
TEMPERATURE_FLOOR = Floor(pairs=40, queries=10, minority=5)
TIER_FLOOR = Floor(pairs=200, queries=20, minority=10)


@dataclass(frozen=True)
class Tuning:
    """Both scalars, and what they changed on the dev data. Likelihoods in nats.

    choice: None where there were too few pairs to choose a threshold on: beta_cum stays as it was. tier_accuracy:
    (before, after); constant_tier: that of the most frequent gold tier, the trivial predictor. basis: in words, on what
    the scalars were set and what was not.
    """

    temperature: float
    beta_cum: float
    used: int
    failed: int
    nll: tuple[float, float]
    reliability: tuple[Reliability, Reliability]
    choice: BetaChoice | None
    tier_accuracy: tuple[float, float]
    constant_tier: float
    basis: str


def require_enough(pairs: Sequence[Pair], labels: Sequence[int] | np.ndarray) -> None:
    """ValueError saying what these dev pairs with label positions (N,) lack for a temperature."""
    lacking = TEMPERATURE_FLOOR.shortage([pair.query for pair in pairs], labels, "label")
    if lacking:
        raise ValueError(f"too few labelled pairs to calibrate on: {lacking}")


def tune(judge: CalibratedJudge, pairs: Sequence[Pair], labels: Sequence[int] | np.ndarray) -> Tuning:
    """Temperature by likelihood, then beta_cum by macro-F1 of tiers, on dev pairs with gold label positions (N,).

    Nothing is written: see write_tuning. Report neither scalar's effect on these pairs as a result; they were chosen on
    them. Raises ValueError when the pairs that could be judged are too few (TEMPERATURE_FLOOR) or tell no temperature
    (fit_temperature). Below TIER_FLOOR the judge keeps its beta_cum.
    """
    require_enough(pairs, labels)
    probabilities, gold = judge.inner.assess(pairs).probabilities, np.asarray(labels)
    usable = ~np.isnan(probabilities).any(axis=1)
    if not usable.any():
        raise ValueError(f"none of {len(pairs)} dev pairs could be judged")
    judged = [pair for pair, good in zip(pairs, usable, strict=True) if good]
    logits, gold, scale = np.log(np.maximum(probabilities[usable], 1e-300)), gold[usable], judge.scale
    require_enough(judged, gold)
    temperature = fit_temperature(logits, gold)
    before, after = softmax(logits, judge.temperature), softmax(logits, temperature)
    lacking = TIER_FLOOR.shortage([pair.query for pair in judged], scale.is_positive[gold], "side (good or not)")
    choice = None if lacking else choose_beta(after, gold, scale)
    beta_cum = choice.beta_cum if choice else judge.beta_cum
    return Tuning(
        temperature=temperature,
        beta_cum=beta_cum,
        used=int(usable.sum()),
        failed=int((~usable).sum()),
        nll=tuple(negative_log_likelihood(logits, gold, t) for t in (judge.temperature, temperature)),  # type: ignore[arg-type]
        reliability=(reliability(before, gold), reliability(after, gold)),
        choice=choice,
        tier_accuracy=tuple(  # type: ignore[arg-type]
            _tier_accuracy(p, beta, gold, scale) for p, beta in ((before, judge.beta_cum), (after, beta_cum))
        ),
        constant_tier=float(np.bincount(tiers_of_labels(gold, scale)).max() / len(gold)),
        basis=_basis(temperature, beta_cum, judged, lacking),
    )


def _tier_accuracy(probabilities: np.ndarray, beta_cum: float, gold: np.ndarray, scale: RelevanceScale) -> float:
    return float((cumpt(probabilities, scale, beta_cum) == tiers_of_labels(gold, scale)).mean())


def _basis(temperature: float, beta_cum: float, pairs: Sequence[Pair], lacking: str | None) -> str:
    """What was set, on how many pairs, and why the tier threshold was not."""
    on = f"set on {len(pairs):,} pairs of {len({pair.query for pair in pairs}):,} queries"
    if lacking is None:
        return f"temperature {temperature:.3f} and tier threshold (beta_cum) {beta_cum:.2f}, {on}"
    return f"temperature {temperature:.3f}, {on}; tier threshold (beta_cum) stays {beta_cum:.2f}: {lacking}"


def write_tuning(folder: str | Path, tuning: Tuning) -> None:
    """Write both scalars into the judge.json of a folder; the former ones stay there as `previous`."""
    card = read_judge_card(folder)
    former = {"temperature": card.temperature, "beta_cum": card.beta_cum}
    tuned = replace(card, temperature=tuning.temperature, beta_cum=tuning.beta_cum)
    write_judge_card(folder, replace(tuned, tuning=tuning.basis, previous=former))
