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


def tuned(logits: np.ndarray, labels: list[int], queries: int = 10, card: Card = CARD) -> Tuning:
    """The pairs are dealt to so many queries in turn."""
    judge = CalibratedJudge(KnownLogits(logits), card.temperature, card.beta_cum)  # type: ignore[arg-type]
    return tune(judge, [Pair(f"q{n % queries}", text_item("i")) for n in range(len(labels))], labels)


# Rows that put 6 nats on "excellent" against 0 for the others, right three times in four. The best temperature makes
# p(excellent) = 3/4: exp(6/T) / (exp(6/T) + 3) = 3/4, so 6/T = ln 9 and T = 6 / ln 9.
SURE, RIGHT_THREE_TIMES = [[0.0, 0.0, 0.0, 6.0]] * 4, [3, 3, 3, 1]


def test_an_overconfident_judge_is_cooled_down(tmp_path: Path) -> None:
    tuning = tuned(np.asarray(SURE * 50 + [[np.nan] * 4]), [*RIGHT_THREE_TIMES * 50, 3], queries=20)
    assert tuning.temperature == pytest.approx(6 / np.log(9), rel=1e-3)
    write_judge_card(tmp_path, CARD)
    write_tuning(tmp_path, tuning)
    written = read_judge_card(tmp_path)
    assert (written.temperature, written.beta_cum) == (tuning.temperature, tuning.beta_cum)
    assert written.previous == {"temperature": 1.0, "beta_cum": 0.5}
    assert written.tuning == tuning.basis == (
        f"temperature {tuning.temperature:.3f} and tier threshold (beta_cum) 0.50, set on 200 pairs of 20 queries"
    )  # fmt: skip
    assert replace(written, temperature=1.0, beta_cum=0.5, tuning="", previous=None) == CARD
    assert json.loads((tmp_path / "judge.json").read_text())["kind"] == "lm"
    assert (tuning.used, tuning.failed) == (200, 1) and tuning.choice is not None
    assert tuning.reliability[1].ece == pytest.approx(0, abs=1e-3) and tuning.reliability[0].ece > 0.2
    assert tuning.nll[1] < tuning.nll[0]
    assert tuning.constant_tier == 0.75 and tuning.tier_accuracy == (0.75, 0.75)  # no threshold can split equal rows


def test_a_threshold_is_not_chosen_on_few_queries() -> None:
    logits = np.asarray([[0.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.2], [0.0, 0.0, 0.0, 1.0]] * 50)
    labels, own = [3, 0, 1, 0] * 50, replace(CARD, beta_cum=0.62)
    few, many = (tuned(logits, labels, queries, own) for queries in (19, 20))
    assert few.choice is None and few.beta_cum == 0.62 and few.temperature == many.temperature
    assert "stays 0.62: it takes 200 pairs of 20 queries at least, 10 of them of another side" in few.basis
    assert many.choice is not None and many.beta_cum == many.choice.beta_cum != 0.62
    one_side = tuned(logits, [0, 0, 1, 1] * 50, 20, own)
    assert one_side.choice is None and "0 of another side (good or not)" in one_side.basis


@pytest.mark.parametrize(
    ("labels", "queries", "lacking"),
    [
        ([3, 0], 2, "these are 2 of 2, 1 of another label"),
        ([3] * 60, 20, "these are 60 of 20, 0 of another label"),
        (RIGHT_THREE_TIMES * 15, 9, "these are 60 of 9, 15 of another label"),
        (RIGHT_THREE_TIMES * 9, 18, "these are 36 of 18, 9 of another label"),
    ],
)
def test_too_few_pairs_or_labels_of_one_kind_calibrate_nothing(labels: list[int], queries: int, lacking: str) -> None:
    with pytest.raises(ValueError, match=f"too few labelled pairs to calibrate on: it takes 40 pairs .*{lacking}"):
        tuned(np.asarray((SURE * len(labels))[: len(labels)]), labels, queries)


def test_without_a_verdict_there_is_nothing_to_tune() -> None:
    with pytest.raises(ValueError, match="none of 60 dev pairs"):
        tuned(np.full((60, 4), np.nan), RIGHT_THREE_TIMES * 15)
    broken = np.asarray(SURE * 15)
    broken[2:] = np.nan  # what could not be judged does not count
    with pytest.raises(ValueError, match="these are 2 of 2"):
        tuned(broken, RIGHT_THREE_TIMES * 15)
