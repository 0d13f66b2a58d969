"""Tuning a judge on dev data: both scalars move to where they belong, and only they."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.judge_card import read_judge_card, write_judge_card
from goodrate.relevance.lm_judge import Card
from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.tuning import Tuning, tune, write_tuning
from goodrate.scale import FOUR_LEVEL

CARD = Card(scale="four_level", label_token_ids=(1, 2, 3, 4), temperature=1.0, beta_cum=0.5)


class KnownLogits:
    """Stands for a judge whose logits are given."""

    scale = FOUR_LEVEL

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def assess(self, pairs: list[Pair]) -> Assessment:
        return Assessment.of(softmax(self._logits))


def tuned(logits: np.ndarray, labels: list[int]) -> Tuning:
    judge = CalibratedJudge(KnownLogits(logits), CARD.temperature, CARD.beta_cum)  # type: ignore[arg-type]
    return tune(judge, [Pair("q", text_item("i"))] * len(labels), labels)


def test_an_overconfident_judge_is_cooled_down(tmp_path: Path) -> None:
    # Four rows that put 6 nats on "excellent" against 0 for the others, right three times in four. The best
    # temperature makes p(excellent) = 3/4: exp(6/T) / (exp(6/T) + 3) = 3/4, so 6/T = ln 9 and T = 6 / ln 9.
    logits = np.asarray([[0.0, 0.0, 0.0, 6.0]] * 4 + [[np.nan] * 4])
    tuning = tuned(logits, [3, 3, 3, 1, 3])
    assert tuning.temperature == pytest.approx(6 / np.log(9), rel=1e-3)
    write_judge_card(tmp_path, CARD)
    write_tuning(tmp_path, tuning)
    written = read_judge_card(tmp_path)
    assert (written.temperature, written.beta_cum) == (tuning.temperature, tuning.beta_cum)
    assert replace(written, temperature=1.0, beta_cum=0.5) == CARD
    assert json.loads((tmp_path / "judge.json").read_text())["kind"] == "lm"
    assert (tuning.used, tuning.failed) == (4, 1)
    assert tuning.reliability[1].ece == pytest.approx(0, abs=1e-3) and tuning.reliability[0].ece > 0.2
    assert tuning.nll[1] < tuning.nll[0]
    assert tuning.constant_tier == 0.75 and tuning.tier_accuracy == (0.75, 0.75)  # no threshold can split equal rows


def test_without_a_verdict_there_is_nothing_to_tune() -> None:
    with pytest.raises(ValueError, match="none of 1 dev pairs"):
        tuned(np.full((1, 4), np.nan), [0])
