"""Tuning a judge on dev data: both scalars move to where they belong, and only they."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from goodrate.relevance.judge import JudgeCard, Pair
from goodrate.relevance.tuning import tune
from goodrate.scale import FOUR_LEVEL

CARD = JudgeCard("four_level", (1, 2, 3, 4), temperature=1.0, beta_cum=0.5)


class KnownLogits:
    """Stands for a judge whose logits are given."""

    card, scale = CARD, FOUR_LEVEL

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def logits(self, pairs: list[Pair]) -> np.ndarray:
        return self._logits


def test_an_overconfident_judge_is_cooled_down() -> None:
    # Four rows that put 6 nats on "excellent" against 0 for the others, right three times in four. The best
    # temperature makes p(excellent) = 3/4: exp(6/T) / (exp(6/T) + 3) = 3/4, so 6/T = ln 9 and T = 6 / ln 9.
    logits = np.asarray([[0.0, 0.0, 0.0, 6.0]] * 4 + [[np.nan] * 4])
    tuning = tune(KnownLogits(logits), [Pair("q", "i")] * 5, [3, 3, 3, 1, 3])  # type: ignore[arg-type]
    assert tuning.card.temperature == pytest.approx(6 / np.log(9), rel=1e-3)
    assert replace(tuning.card, temperature=1.0, beta_cum=0.5) == CARD
    assert (tuning.used, tuning.failed) == (4, 1)
    assert tuning.reliability[1].ece == pytest.approx(0, abs=1e-3) and tuning.reliability[0].ece > 0.2
    assert tuning.nll[1] < tuning.nll[0]
    assert tuning.constant_tier == 0.75 and tuning.tier_accuracy == (0.75, 0.75)  # no threshold can split equal rows


def test_without_a_verdict_there_is_nothing_to_tune() -> None:
    with pytest.raises(ValueError, match="none of 1 dev pairs"):
        tune(KnownLogits(np.full((1, 4), np.nan)), [Pair("q", "i")], [0])  # type: ignore[arg-type]
