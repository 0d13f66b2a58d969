"""Label agreement: numbers by hand, failures, and the trivial predictor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from goodrate.evaluation.classification import area_under_curve, classify, constant_label, with_intervals
from goodrate.scale import ESCI, GRADED_0_3


def test_numbers_by_hand() -> None:
    """gold 0 0 3 2 against 0 3 3 failed; good: 2 and 3.

    F1 of "0": 2*1/(2+1) = 2/3; of "3": 2*1/(1+2) = 2/3; of "2": 0; macro over three = 4/9.
    Good: 1 hit, 2 gold, 2 predicted (the failure is none): 2*1/4.
    """
    found = classify([0, 0, 3, 2], [0, 3, 3, -1], GRADED_0_3)
    assert found.accuracy == 0.5 and found.macro_f1 == pytest.approx(4 / 9) and found.good_f1 == 0.5
    assert found.f1["0"] == pytest.approx(2 / 3) and math.isnan(found.f1["1"]) and found.f1["2"] == 0
    assert found.confusion.tolist() == [[1, 0, 0, 1, 0], [0] * 5, [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]]
    assert (found.failed, found.pairs) == (1, 4) and math.isnan(found.auc)
    assert found.as_dict()["f1"]["1"] is None


def test_the_constant_on_esci_shares() -> None:
    """Always E where E is 652 of 1,000: accuracy 0.652, macro-F1 (2*652/1652) / 4 = 0.197 (published shares)."""
    gold = np.repeat([3, 2, 1, 0], [652, 219, 29, 100])
    label = constant_label(gold)
    found = classify(gold, np.full(1000, label), ESCI)
    assert label == 3 and found.accuracy == 0.652 and found.macro_f1 == pytest.approx(2 * 652 / 1652 / 4)
    assert constant_label([2, 0, 2, 0]) == 0  # of equals the worse


def test_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(1)
    gold, guess, scores = rng.integers(0, 4, 200), rng.integers(0, 4, 200), rng.integers(0, 9, 200)
    found = classify(gold, guess, GRADED_0_3, scores)
    assert found.macro_f1 == pytest.approx(f1_score(gold, guess, average="macro"))
    assert found.good_f1 == pytest.approx(f1_score(gold >= 2, guess >= 2))
    assert found.auc == pytest.approx(roc_auc_score(gold >= 2, scores))


def test_auc_leaves_out_what_has_no_score() -> None:
    assert area_under_curve([True, False, True], [0.2, 0.5, float("nan")]) == 0.0
    assert math.isnan(area_under_curve([True, True], [0.1, 0.2]))


def test_intervals_hold_the_value_and_need_two_queries() -> None:
    gold, guess = [0, 3, 0, 3, 3, 0], [0, 3, 3, 3, 0, 0]
    found = with_intervals(gold, guess, GRADED_0_3, ["a", "a", "b", "b", "c", "c"], scores=guess, resamples=200)
    assert set(found) == {"accuracy", "macro_f1", "good_f1", "auc"}
    assert found["accuracy"].value == pytest.approx(4 / 6)
    assert found["accuracy"].low == 0.5 and found["accuracy"].high == 1.0  # query means are 1, 0.5, 0.5
    assert math.isnan(with_intervals([0], [0], GRADED_0_3, ["a"], resamples=5)["accuracy"].low)


@pytest.mark.parametrize(
    ("gold", "guess", "message"),
    [
        ([], [], "at least one; got 0, 0"),
        ([1], [1, 2], "as many predictions"),
        ([4], [1], "must lie in 0..3"),
        ([0], [-2], "must lie in 0..3"),
        ([-1], [0], "must lie in 0..3"),
    ],
)
def test_wrong_input(gold: list[int], guess: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classify(gold, guess, GRADED_0_3)
