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


@dataclass(frozen=True)
class Tuning:
    """Both scalars, and what they changed on the dev data. Likelihoods in nats.

    tier_accuracy: (before, after); constant_tier: that of the most frequent gold tier, the trivial predictor.
    """

    temperature: float
    beta_cum: float
    used: int
    failed: int
    nll: tuple[float, float]
    reliability: tuple[Reliability, Reliability]
    choice: BetaChoice
    tier_accuracy: tuple[float, float]
    constant_tier: float


def tune(judge: CalibratedJudge, pairs: Sequence[Pair], labels: Sequence[int] | np.ndarray) -> Tuning:
    """Temperature by likelihood, then beta_cum by macro-F1 of tiers, on dev pairs with gold label positions (N,).

    Nothing is written: see write_tuning. Report neither scalar's effect on these pairs as a result; they were chosen on
    them. Raises ValueError when no pair could be judged.
    """
    probabilities, gold = judge.inner.assess(pairs).probabilities, np.asarray(labels)
    usable = ~np.isnan(probabilities).any(axis=1)
    if not usable.any():
        raise ValueError(f"none of {len(pairs)} dev pairs could be judged")
    logits, gold, scale = np.log(np.maximum(probabilities[usable], 1e-300)), gold[usable], judge.scale
    temperature = fit_temperature(logits, gold)
    before, after = softmax(logits, judge.temperature), softmax(logits, temperature)
    choice = choose_beta(after, gold, scale)
    tiers = tiers_of_labels(gold, scale)
    accuracy = [
        float((cumpt(p, scale, b) == tiers).mean()) for p, b in ((before, judge.beta_cum), (after, choice.beta_cum))
    ]
    return Tuning(
        temperature=temperature,
        beta_cum=choice.beta_cum,
        used=int(usable.sum()),
        failed=int((~usable).sum()),
        nll=tuple(negative_log_likelihood(logits, gold, t) for t in (judge.temperature, temperature)),  # type: ignore[arg-type]
        reliability=(reliability(before, gold), reliability(after, gold)),
        choice=choice,
        tier_accuracy=(accuracy[0], accuracy[1]),
        constant_tier=float(np.bincount(tiers).max() / len(tiers)),
    )


def write_tuning(folder: str | Path, tuning: Tuning) -> None:
    """Write both scalars into the judge.json of a folder."""
    card = replace(read_judge_card(folder), temperature=tuning.temperature, beta_cum=tuning.beta_cum)
    write_judge_card(folder, card)
